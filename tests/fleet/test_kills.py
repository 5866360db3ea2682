"""SIGKILL to every process of a running fleet at every commit point and inside every multi-step write of theirs.

`tests/crash` kills at the same places in ledgers by themselves; here the daemons run, over TLS, and are started again
at once, armed with the next place, as a service manager would. What is left is, to the last bit, what the simulator
computes without any of it.
"""

import random
import time
from collections import Counter

import numpy as np
import pytest
import tally
from harness import (
    Daemons,
    assert_as_simulated,
    experiment,
    is_over,
    kept_knowledge,
    knowledge_apart,
    lay_out,
    ledger_of,
    lost_and_doubled,
    rounds_done,
    settled,
    spread,
    state,
    tails,
)

from fedagg_edge.bridge import open_bridge
from fedagg_edge.identity import tls
from fedagg_edge.records import NodeId, Tier

COMMIT = ("database.commit.before", "database.commit.after")
ENTRY = ("log.insert.after-payload", "log.insert.after-entry", "log.insert.after-head")
KNOWLEDGE = ("knowledge.put.after-insert", "knowledge.put.after-delete")
ROUND = (
    "node_loop.finish.after-checkpoint", "node_loop.finish.after-row", "node_loop.follow-up.after-progress",
    "checkpoint.save.after-tensors", "checkpoint.save.after-rename", "checkpoint.save.after-manifest",
    "checkpoint.remove.after-manifest", "journal.append.after-cut", "journal.append.after-row",
    "files.write.after-create", "files.write.after-content", "files.write.after-sync", "files.write.after-rename",
)  # fmt: skip
PUBLISH = ("node_loop.follow-up.after-publication", "publish.put-model.after-shelf", "shelf.sweep.after-file")
SHELF = ("shelf.put.after-content", "shelf.put.after-index")
WELCOME = ("moving.arrived.after-address", "parent_link.welcomed.after-terms", "parent_link.keep.after-version")
APPEND = ("ledger.append.after-entry", "ledger.append.after-relay")
OUTBOX = ("outbox.put.after-payload", "outbox.put.after-batch")
ACCEPT = ("outbox.accept.after-delete",)
# where each process dies, by what it does: at its first start, and while only rounds go on or samples arrive too
FIRST = {
    "device": ("database.migrate.after-statements", *OUTBOX, *ENTRY, *ACCEPT, *WELCOME, *SHELF),
    "edge/gateway": (
        "database.migrate.after-statements",
        "nodes.enrol.after-node",
        "server.enrol.after-token",
        "server.enrol.after-issue",
        *ENTRY,
        *APPEND,
        *OUTBOX,
    ),
    "edge/train": ("database.migrate.after-statements", *ENTRY, *ACCEPT, *WELCOME, *SHELF),
    "cloud/gateway": ("database.migrate.after-statements", *ENTRY, *APPEND),
    "cloud/train": ("database.migrate.after-statements", *SHELF),
}
ROUNDS = {
    "device": (*COMMIT, *KNOWLEDGE, *ROUND),
    "edge/gateway": (*COMMIT, *KNOWLEDGE),
    "edge/train": (*COMMIT, *KNOWLEDGE, *ROUND),
    "cloud/gateway": (*COMMIT, *KNOWLEDGE),
    "cloud/train": (*COMMIT, *KNOWLEDGE, *ROUND, *PUBLISH, *SHELF),
}
GROWTH = {
    "device": (*COMMIT, *OUTBOX, *ENTRY, *ACCEPT),
    "edge/gateway": (*COMMIT, *ENTRY, *APPEND, *OUTBOX),
    "edge/train": (*COMMIT, *ENTRY, *ACCEPT),
    "cloud/gateway": (*COMMIT, *ENTRY, *APPEND),
    "cloud/train": (*COMMIT, *KNOWLEDGE),
}
TURNS = {kind: tuple(dict.fromkeys((*ROUNDS[kind], *GROWTH[kind]))) for kind in ROUNDS}  # async: of both
ONCE = {  # what comes once in a life, or not by itself: a renewal, the end of the training
    "device-000": "renewal.renew.after-buy",
    "device-001": "renewal.renew.after-install",
    "edge-0/gateway": "server.renew.after-issue",
    "cloud/train": "node_loop.follow-up.after-finished",
}
LONGEST_LIFE = 30.0  # seconds of one that is to die at a place that it does not come to


def kind_of(name):
    node, _, what = name.partition("/")
    return f"{node.partition('-')[0]}/{what}" if what else "device"


def torment(daemons, budget, over, places, *, seed, limit, meanwhile=lambda: None):
    """Start all, armed; then, two processes at a time, kill at any moment and let the next lives of it die at a place
    each, while the others work; from `budget` kills on all of them live, until `over`. `limit` is for a hang."""
    rng = random.Random(seed)
    names = list(daemons.names())
    tormented = {}  # name -> lives that it still has to lose

    def place(name):
        """Where this kind of process has died least; around a commit rather than elsewhere."""
        kind = kind_of(name)
        died = Counter((kind_of(n), point.partition(":")[0]) for n, point in daemons.kills)
        return min(places[kind], key=lambda point: (died[kind, point], point not in COMMIT, rng.random()))

    def begin(name, point=None):
        often = 6 if point in COMMIT else 2
        daemons.start(name, None if point is None else f"{point}:{spread(rng, often)}")
        ends[name] = time.monotonic() + LONGEST_LIFE

    def at_any_moment(name):
        daemons.kill(name)
        daemons.kills.append((name, "any moment"))

    ends = {}
    deadline = time.monotonic() + limit
    for name in names:
        begin(name, rng.choice(FIRST[kind_of(name)]))
    while not over():
        meanwhile()
        more = len(daemons.kills) < budget
        for name in daemons.reap():
            tormented[name] = tormented.get(name, 1) - 1
            if tormented[name] <= 0:
                del tormented[name]
            begin(name, place(name) if more and name in tormented else None)
        while more and len(tormented) < 2:
            died = Counter(n for n, point in daemons.kills if point != "any moment")
            name = min((n for n in names if n not in tormented), key=lambda n: (died[n], rng.random()))
            tormented[name] = 4
            at_any_moment(name)
            begin(name, place(name))
        for name in [n for n in daemons.armed if time.monotonic() > ends[n]]:  # it does not come to that place
            at_any_moment(name)
            tormented.pop(name, None)
            begin(name)
        assert time.monotonic() < deadline, (
            f"{len(daemons.kills)} kills, {rounds_done(daemons.fleet)} rounds{tails(daemons.fleet)}"
        )
        time.sleep(0.02)


def in_rounds(tmp_path, budget, rounds, limit, seed=0):
    """Kills while rounds go on; the weights are compared."""
    config, began = experiment(rounds=rounds), tally.begin()
    fleet = lay_out(config, tmp_path / "fleet", change=publishing)
    daemons = Daemons(fleet)
    try:
        torment(
            daemons,
            budget,
            lambda: len(daemons.kills) >= budget and is_over(fleet) and settled(fleet, rounds),
            ROUNDS,
            seed=seed,
            limit=limit,
        )
    finally:
        daemons.stop()
    due = {str(n.place.id): len(n.private[1]) for n in fleet.nodes if n.private is not None}
    assert_as_simulated(fleet, config, tmp_path / "sim")
    kept(daemons, f"{budget} while rounds go on", began, due)
    return Counter(daemons.kills)


def kept(daemons, name, began, due, behind=0):
    """Nothing is lost or doubled, both ends of each link have the same knowledge, the newest `behind` aside; and what
    the run came to is kept, if it is asked for."""
    nodes, found = daemons.fleet.nodes, state(daemons.fleet)
    assert knowledge_apart(nodes, found, behind) == []
    lost, doubled = lost_and_doubled(nodes, found, {name: range(count) for name, count in due.items()})
    assert (lost, doubled) == (0, 0)
    kills = Counter((kind_of(process), point.partition(":")[0]) for process, point in daemons.kills)
    tally.keep(name, kills, began, lost=lost, doubled=doubled)


def publishing(node, table):
    """A model every round, so that there is something to be killed in."""
    if node.place.parent is None:
        table["publish"] = {"every": 1}


def while_data_grow(tmp_path, budget, parcels, limit, *, seed=1, mode="sync"):
    """Kills while new samples arrive: each is at every ancestor once, with its own code and label, and no round or turn
    was told twice. In async nobody waits for anybody, and who hears whom when is chance: no weights can be compared."""
    began = tally.begin()
    # `behind`: the newest that may be on their way when all are stopped; in async turns go on while they are
    places, behind = (GROWTH, 1) if mode == "sync" else (TURNS, 8)
    fleet = lay_out(
        experiment(rounds=100_000), tmp_path / "fleet", mode=mode, change=lambda node, table: growing(table)
    )
    daemons = Daemons(fleet)
    devices = [n for n in fleet.nodes if n.private is not None]
    rng = np.random.default_rng(seed)
    given = {str(n.place.id): [n.private] for n in devices}

    def grow():
        written = sum(map(len, given.values())) - len(devices)
        if written < parcels and len(daemons.kills) * parcels >= written * budget:
            node = devices[written % len(devices)]
            name = str(node.place.id)
            x_N, y_N = rng.integers(0, 256, (3, 1, 8, 8)).astype(np.uint8), rng.integers(0, 4, 3)
            path = fleet.home(node) / "private" / f"more-{written:04d}.npz"
            with path.with_suffix(".tmp").open("wb") as f:
                np.savez(f, x=x_N, y=y_N)
            path.with_suffix(".tmp").rename(path)
            given[name].append((x_N, y_N))

    def arrived():
        if len(daemons.kills) < budget or sum(map(len, given.values())) - len(devices) < parcels:
            return False
        due = {name: sum(len(y) for _, y in parts) for name, parts in given.items()}
        if known_to(fleet, fleet.cloud) != due:
            return False
        # the cloud may have a sample before its edge, or the device, has heard that it was taken
        below = {
            str(n.place.id): {str(c): due[str(c)] for c in n.place.children} or {str(n.place.id): due[str(n.place.id)]}
            for n in fleet.nodes
            if n.place.parent is not None
        }
        if any(own_log(fleet, n) != below[str(n.place.id)] for n in fleet.nodes if n.place.parent is not None):
            return False
        if mode == "async" and knowledge_apart(fleet.nodes, kept_knowledge(fleet), 3):
            return False  # a link is still away after the last kill
        there.append(rounds_done(fleet))
        return there[-1] > there[0] + 1  # knowledge of all of them, on each link

    there = []  # rounds told, at each look since all samples were everywhere
    try:
        torment(daemons, budget, arrived, places, seed=seed, limit=limit, meanwhile=grow)
    finally:
        daemons.stop()
    due = {name: sum(len(y) for _, y in parts) for name, parts in given.items()}
    compare_rows(fleet, given)
    kept(daemons, f"{budget} while samples arrive{', async' * (mode == 'async')}", began, due, behind=behind)
    return Counter(daemons.kills)


def known_to(fleet, node):
    """How many samples of each device the links of a node hold."""
    ledger = ledger_of(fleet, node)
    links = [ledger.samples(NodeId(c)) for (c,) in ledger.db.all("SELECT child FROM links WHERE head > 0")]
    ledger.close()
    return {o: len(c) for link in links for o, c in zip(link.origins, link.counters, strict=True)}


def own_log(fleet, node):
    """The same, of a node's link to its own parent alone."""
    ledger = ledger_of(fleet, node)
    link = ledger.samples(NodeId(node.place.id))
    ledger.close()
    return {o: len(c) for o, c in zip(link.origins, link.counters, strict=True)}


def growing(table):
    if "data" in table:  # a device's
        table["poll"] = 0.2
    if table["rounds"]["mode"] == "async":
        table["rounds"]["idle"] = 0.3  # seconds between turns that have nothing new


def compare_rows(fleet, given):
    bridge = open_bridge(fleet.folder / "autoencoder.safetensors", None)
    found = state(fleet)
    for node in fleet.nodes:
        if node.private is None:
            continue
        name, edge = str(node.place.id), str(node.place.parent)
        x_N = np.concatenate([x for x, _ in given[name]])
        y_N = np.concatenate([y for _, y in given[name]])
        codes = bridge.encode(bridge.scale(x_N))
        mine = found[name]["links"][name]
        assert mine["samples"] == {name: list(range(len(y_N)))}
        assert sorted(zip(mine["labels"], rows_of(mine["codes"], len(y_N)), strict=True)) == sorted(
            (int(y), bytes(code).hex()) for y, code in zip(y_N, codes, strict=True)
        )
        assert found[edge]["links"][name] == mine
        for above in (found[edge]["links"][edge], found["cloud"]["links"][edge]):
            assert above["samples"][name] == mine["samples"][name]


def rows_of(text, count):
    width = len(text) // count
    return [text[i : i + width] for i in range(0, len(text), width)]


def assert_everywhere(kills, least):
    """Each kind of process died around a commit of its own, and there were enough other places."""
    died = {(kind_of(name), point.partition(":")[0]) for name, point in kills}
    assert {kind for kind, point in died if point in COMMIT} == set(ROUNDS), kills
    assert len({point for _, point in died}) >= 5, kills
    assert sum(kills.values()) >= least


def test_kills_in_the_middle_of_rounds_change_nothing(tmp_path):
    assert_everywhere(in_rounds(tmp_path, 75, rounds=12, limit=900), 75)


def test_kills_while_samples_arrive_lose_none_and_double_none(tmp_path):
    assert sum(while_data_grow(tmp_path, 40, parcels=16, limit=600).values()) >= 40


def test_kills_in_async_lose_none_and_double_none(tmp_path):
    assert_everywhere(while_data_grow(tmp_path, 40, parcels=12, limit=600, seed=4, mode="async"), 40)


def test_kills_in_renewals_and_at_the_end_of_the_training_change_nothing(tmp_path):
    """The edge gives certificates that are due at once."""
    config, began = experiment(rounds=4), tally.begin()

    def short(node, table):
        if node.place.tier is Tier.EDGE:
            table["identity"] = {"certificate_days": 0.001}

    fleet = lay_out(config, tmp_path / "fleet", change=short)
    daemons = Daemons(fleet)
    due = {str(n.place.id): len(n.private[1]) for n in fleet.nodes if n.private is not None}

    def over():
        for name in daemons.reap():
            daemons.start(name)
        assert time.monotonic() < began.at + 300, f"{daemons.kills}{tails(fleet)}"
        return len(daemons.kills) == len(ONCE) and is_over(fleet) and settled(fleet, config.rounds)

    try:
        for name in daemons.names():
            daemons.start(name, f"{ONCE[name]}:1" if name in ONCE else None)
        while not over():
            time.sleep(0.05)
    finally:
        daemons.stop()
    assert dict(daemons.kills) == {name: f"{point}:1" for name, point in ONCE.items()}
    assert_as_simulated(fleet, config, tmp_path / "sim")
    for node in fleet.nodes:
        tls.client_context(fleet.home(node) / "state" / "identity")  # key and certificate fit
    kept(daemons, "in renewals and at the end", began, due)


@pytest.mark.slow
def test_hundreds_of_kills_in_the_middle_of_rounds(tmp_path):
    kills = in_rounds(tmp_path, 360, rounds=50, limit=3600, seed=2)
    assert_everywhere(kills, 360)


@pytest.mark.slow
def test_more_kills_while_samples_arrive(tmp_path):
    assert sum(while_data_grow(tmp_path, 160, parcels=50, limit=1800, seed=3).values()) >= 160


@pytest.mark.slow
def test_more_kills_in_async(tmp_path):
    assert_everywhere(while_data_grow(tmp_path, 120, parcels=40, limit=1800, seed=5, mode="async"), 120)
