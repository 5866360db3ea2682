"""SIGKILL aimed at what an operator sets in motion in a running fleet: a move, a drain, an order to forget.

One place after the other: a process, or the operator's command, is started armed with it, the order is given, the
process dies there and is started again. Then every sample is where it is to be, once, and the order was carried out.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tally
import test_kills
from harness import (
    Daemons,
    config_path,
    edit,
    experiment,
    held,
    knowledge_apart,
    lay_out,
    ledger_of,
    lost_and_doubled,
    moved,
    rounds_done,
    state,
    tails,
    url_of,
)  # fmt: skip

from fedagg_edge.fleet import operating, receipts, up
from fedagg_edge.records import NodeId, Tier

# what dies, and where: `old` is the edge that the device is to leave, `new` the one that it goes to
MOVES = {
    "device": (
        "moving.begin.after-number", "outbox.rebase.after-clear", "outbox.follow.after-entry",
        "outbox.rebase.after-log", "outbox.rebase.after-rows", "moving.finish.after-address",
    ),
    "new/gateway": ("moves.want.after-note",),
    "new/train": (
        "moves.claim.after-owner", "moves.move-in.after-append", "moves.move-in.after-release",
        "moves.settle.after-rows", "outbox.follow.after-entry", "log.insert.after-payload",
    ),
    "cloud/gateway": (
        "moves.want.after-note", "moves.claim.after-owner", "moves.move-in.after-append",
        "moves.move-in.after-release", "moves.settle.after-rows", "log.insert.after-head",
    ),
    "old/train": ("outbox.follow.after-entry", "relay.down.after-leave", "log.insert.after-entry"),
}  # fmt: skip
DRAINS = {
    "command": ("operating.notify.after-notice", "operating.notify.after-commit"),
    "again": ("operating.serve-again.after-fact",),
    "device": ("parent_link.noticed.after-number", "moving.begin.after-number"),
}
ORDERS = {
    "command": (
        "forget.run.after-list", "ledger.forget.after-erase", "ledger.forget.after-receipt",
        "forgetting.carry-out.after-notice", "database.scrub.before-checkpoint",
        "forgetting.carry-out.after-scrub", "forget.run.after-order", "forget.run.after-receipts",
    ),
    "old/train": (
        "erase.rows.after-entry", "ledger.forget.after-erase", "ledger.forget.after-receipt",
        "database.scrub.before-checkpoint", "forgetting.carry-out.after-scrub", "parent_link.noticed.after-order",
    ),
    "device": ("outbox.follow.after-entry",),
}  # fmt: skip
PACKAGE = Path(__file__).parents[2] / "python" / "fedagg_edge"
ELSEWHERE = ("shelf", "pull", "publish", "renewal", "journal", "forgetting")  # tests/crash/test_file_crashes.py
PATIENCE = 120.0  # for a hang
AGAIN = """
import sys
from pathlib import Path
from fedagg_edge.fleet import operating
ledger = operating.open_node(Path(sys.argv[1]))
operating.serve_again(ledger)
ledger.close()
"""


class World:
    """Two edges with a device each; one device moves between them, is sent away, is forgotten, has new samples."""

    def __init__(self, folder):
        self.fleet = lay_out(experiment(rounds=100_000, devices=1, edges=2), folder)
        self.old, self.new = (n for n in self.fleet.nodes if n.place.tier is Tier.EDGE)
        self.device = next(n for n in self.fleet.nodes if n.place.parent == self.old.place.id)
        self.other = next(n for n in self.fleet.nodes if n.place.parent == self.new.place.id)
        self.name, self.fence, self.parcels = NodeId(str(self.device.place.id)), 0, 0
        self.mine = range(len(self.device.private[1]))
        self.theirs = {str(self.other.place.id): list(range(len(self.other.private[1])))}
        urls = [url_of(n) for n in (self.old, self.new)]
        edit(self.fleet, self.device, lambda t: (t["parent"].update(fallback=urls), t.update(poll=0.1)))
        self.daemons = Daemons(self.fleet)
        self.kills = Counter()

    def process(self, what):
        """The name of a process by what it is now."""
        node, _, part = what.partition("/")
        name = {"old": self.old, "new": self.new, "device": self.device, "cloud": self.fleet.cloud}[node].place.id
        return f"{name}/{part}" if part else str(name)

    def until(self, what, why):
        """Start again at once whoever has died where it was to die."""
        deadline = time.monotonic() + PATIENCE
        while not (found := what()):
            for name in self.daemons.reap():
                self.daemons.start(name)
            assert time.monotonic() < deadline, f"{why}: {self.daemons.armed}{tails(self.fleet)}"
            time.sleep(0.05)
        return found

    def arm(self, what, point):
        """Start a process anew, to die at a place."""
        self.daemons.kill(self.process(what))
        self.daemons.start(self.process(what), f"{point}:1")

    def command(self, words, point=None, until=lambda: False):
        """An operator's command, first armed if there is a place for it to die; it is cut off `until` is true."""
        clear = {k: v for k, v in os.environ.items() if k != "FEDAGG_FAILPOINT"}
        if point is not None:
            code, said = self.run(words, clear | {"FEDAGG_FAILPOINT": f"{point}:1"}, lambda: False)
            assert code == -signal.SIGKILL, (words, point, said)
            self.daemons.kills.append(("command", f"{point}:1"))
        code, said = self.run(words, clear, until)
        assert code == 0, said

    def run(self, words, environment, until):
        """How a command ended, and what it said; 0 if it was cut off."""
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
            try:
                self.until(lambda: running.poll() is not None or until(), f"the end of {words}")
                ended = running.poll()
            finally:
                running.kill()
            return ended or 0, running.stdout.read().decode()

    def died(self, what, point, before):
        """The process has died at its place, just once."""
        self.until(lambda: len(self.daemons.kills) > before, f"{what} does not come to {point}")
        assert self.daemons.kills[before:] == [(self.process(what), f"{point}:1")]
        self.kills[what, point] += 1

    def moves(self, what, point):
        """The device goes to the other edge, as it is told where it runs."""
        before = len(self.daemons.kills)
        self.arm(what, point)
        state = self.fleet.home(self.device) / "state"
        ledger = operating.open_node(state)
        operating.tell_to_move(ledger, state, self.name, [url_of(self.new)])
        ledger.close()
        self.died(what, point, before)
        self.arrives()

    def drains(self, what, point):
        """The edge sends its device away, which goes to its fallback, and takes nodes in again."""
        before = len(self.daemons.kills)
        fedagg = [sys.executable, "-m", "fedagg_edge", "drain", "--wait", "2m"]
        again = [sys.executable, "-c", AGAIN, str(self.fleet.home(self.old) / "state")]
        if what == "device":
            self.arm(what, point)
        self.command(  # the edge may have another device, which has nowhere to go: it would wait for that one
            [*fedagg, "--state", again[-1]],
            point if what == "command" else None,
            until=lambda: moved(self.fleet, self.device, url_of(self.new), self.fence + 1),
        )
        self.command(again, point if what == "again" else None)
        if what == "device":
            self.died(what, point, before)
        else:
            assert len(self.daemons.kills) == before + 1
            self.kills[what, point] += 1
        self.arrives()

    def arrives(self):
        """It is below the other edge with all of its samples, and nowhere else."""
        self.fence += 1
        self.until(lambda: moved(self.fleet, self.device, url_of(self.new), self.fence), "it has not moved")
        everywhere = {str(self.name): list(self.mine)}
        self.until(lambda: held(self.fleet, self.old, self.name) == {}, "the old edge has it still")
        assert held(self.fleet, self.device, self.name) == held(self.fleet, self.new, self.name) == everywhere
        home = {self.other.place.parent: self.theirs}
        for edge in (self.old, self.new):
            wanted = home.get(edge.place.id, {}) | (everywhere if edge is self.new else {})
            self.until(lambda e=edge, w=wanted: held(self.fleet, e, e.place.id) == w, f"{edge.place.id}'s own link")
            assert held(self.fleet, self.fleet.cloud, edge.place.id) == wanted
        self.old, self.new = self.new, self.old

    def comes_to_rest(self):
        """Rounds that know of all that was done, and every sample at each end of each link."""
        self.grow()
        seen = rounds_done(self.fleet)
        self.until(lambda: rounds_done(self.fleet) > seen + 2, "rounds after it all")
        for edge, known in ((self.old, {str(self.name): list(self.mine)}), (self.new, {})):
            wanted = known | (self.theirs if edge.place.id == self.other.place.parent else {})
            self.until(lambda e=edge, w=wanted: held(self.fleet, e, e.place.id) == w, f"{edge.place.id}'s own link")

    def places(self):
        """The nodes where they are now: `old` is the edge that has the device."""
        parents = {self.name: self.old.place.id}
        for node in self.fleet.nodes:
            place = node.place
            children = tuple(
                n.place.id for n in self.fleet.nodes if parents.get(n.place.id, n.place.parent) == place.id
            )
            yield replace(node, place=replace(place, parent=parents.get(place.id, place.parent), children=children))

    def forgets(self, what, point):
        """The device is forgotten everywhere, and what it has later is new."""
        before = len(self.daemons.kills)
        self.grow()
        known = self.orders()
        if what != "command":
            self.arm(what, point)
        config = str(config_path(self.fleet, self.fleet.cloud))
        self.command(
            [sys.executable, "-m", "fedagg_edge", "forget", self.name, "--config", config, "--wait", "100"],
            point if what == "command" else None,
        )
        if what == "command":
            assert len(self.daemons.kills) == before + 1
            self.kills[what, point] += 1
        else:
            self.died(what, point, before)
        for node in (self.device, self.old):
            self.until(lambda n=node: held(self.fleet, n, self.name) == {}, f"{n_of(node)} has it still")
        self.until(
            lambda: self.name not in held(self.fleet, self.fleet.cloud, self.old.place.id), "the cloud has it still"
        )
        self.until(lambda: self.complete(known), "receipts")
        self.mine = range(self.mine.stop, self.mine.stop)

    def complete(self, known):
        """Whether each new order's receipts are all there and done; no row is counted twice, none is missed."""
        orders = {order: found for order, found in self.orders().items() if order not in known}
        everybody = {str(n.place.id) for n in (self.fleet.cloud, self.old, self.new)}
        if not orders or not all(everybody == set(f) and all(r.scrubbed for r in f.values()) for f in orders.values()):
            return False
        rows = {n: sum(found[n].rows for found in orders.values()) for n in everybody}
        assert rows == {
            str(n.place.id): len(self.mine) * (n is not self.new) for n in (self.fleet.cloud, self.old, self.new)
        }
        return True

    def orders(self):
        """{order: {node: receipt}}, as the cloud knows them."""
        ledger = ledger_of(self.fleet, self.fleet.cloud)
        blobs = ledger.get(receipts.RECEIPTS + ledger.node) or ()
        found = {o: {s.receipt.node: s.receipt for s in receipts.known(ledger, o)} for o in map(receipts._order, blobs)}
        ledger.close()
        return found

    def grow(self):
        """New samples, until the cloud has them."""
        rng = np.random.default_rng(self.parcels)
        path = self.fleet.home(self.device) / "private" / f"more-{self.parcels:04d}.npz"
        with path.with_suffix(".tmp").open("wb") as f:
            np.savez(f, x=rng.integers(0, 256, (3, 1, 8, 8)).astype(np.uint8), y=rng.integers(0, 4, 3))
        path.with_suffix(".tmp").rename(path)
        self.parcels += 1
        self.mine = range(self.mine.start, self.mine.stop + 3)
        cloud, edge = self.fleet.cloud, self.old.place.id
        wanted = list(self.mine)
        self.until(lambda: held(self.fleet, cloud, edge).get(str(self.name)) == wanted, "new samples")
        self.until(
            lambda: held(self.fleet, self.device, self.name).get(str(self.name)) == wanted, "the device's own log"
        )


def n_of(node):
    return str(node.place.id)


def torment(tmp_path, name, moves, drains, orders):
    """Kill at each place of three lists, kept under `name`; {(what, point): kills}."""
    began = tally.begin()
    world = World(tmp_path / "fleet")
    try:
        world.daemons.start_all()
        world.until(lambda: rounds_done(world.fleet) >= 1, "no round")
        for work, places in ((world.moves, moves), (world.drains, drains), (world.forgets, orders)):
            for what, point in places:
                work(what, point)
        world.comes_to_rest()
    finally:
        world.daemons.stop()
    versions = [row["version"] for row in up.read_metrics(world.fleet, world.fleet.cloud)]
    assert versions == list(range(len(versions)))  # each round told once
    nodes, found = list(world.places()), state(world.fleet)
    assert knowledge_apart(nodes, found, behind=1) == []  # stopped in the middle of a round
    due = {str(world.name): world.mine} | {other: range(len(counters)) for other, counters in world.theirs.items()}
    lost, doubled = lost_and_doubled(nodes, found, due, moved={str(world.name)})
    assert (lost, doubled) == (0, 0)
    tally.keep(f"moves, drains and orders to forget, {name}", world.kills, began, lost=lost, doubled=doubled)
    return world.kills


def pairs(table):
    return [(what, point) for what, points in table.items() for point in points]


def test_every_named_place_of_the_fleet_is_one_where_some_test_kills():
    """Those of the ledger, and of the writes that tests/crash has, are counted there as they are reached."""
    tables = (test_kills.FIRST, test_kills.ROUNDS, test_kills.GROWTH, MOVES, DRAINS, ORDERS)
    known = {point for table in tables for _, point in pairs(table)} | set(test_kills.ONCE.values())
    there = set()
    for path in (PACKAGE / "fleet").glob("*.py"):
        if path.stem not in ELSEWHERE:
            there |= set(re.findall(r'reach\("([\w.-]+)"\)', path.read_text(encoding="utf-8")))
    assert len(there) >= 15
    assert there - known == set()


FEW = (
    [("device", "outbox.rebase.after-log"), ("new/train", "moves.move-in.after-release")],
    [("device", "parent_link.noticed.after-number")],
    [("command", "forget.run.after-order"), ("old/train", "forgetting.carry-out.after-scrub")],
)


def test_kills_in_moves_drains_and_orders_to_forget(tmp_path):
    assert torment(tmp_path, "some places", *FEW).total() == sum(map(len, FEW))


@pytest.mark.slow
def test_kills_at_every_place_of_moves_drains_and_orders_to_forget(tmp_path):
    places = [pairs(table) for table in (MOVES, DRAINS, ORDERS)]
    assert torment(tmp_path, "every place", *places).total() == sum(map(len, places))
