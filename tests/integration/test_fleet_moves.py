"""Devices change parents in a fleet of real processes over TLS, one told to, one because its edge was killed."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "fleet"))

from fleets import experiment

from fedagg_edge.cli.main import main
from fedagg_edge.fleet import moving, parts, up
from fedagg_edge.fleet.config import parse_fleet_config
from fedagg_edge.records import Tier
from fedagg_edge.simulation.progress import Silent

TREE = {
    "model": "c",
    "children": [{"model": "e", "count": 2, "children": [{"model": "d0", "count": 2}]}],
}
ROUNDS = 12


def ledger_of(fleet, name):
    node = next(n for n in fleet.nodes if n.place.id == name)
    config = parse_fleet_config(up._without_none(node.table), node.place.tier, base_dir=fleet.home(node))
    return parts.open_ledger(config, node.place.tier, read_only=True)


def until(fleet, what, condition, seconds=150):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: {up.read_metrics(fleet, fleet.cloud)[-1:]}"
        time.sleep(0.1)


def rounds_of(fleet, name):
    return up.read_metrics(fleet, next(n for n in fleet.nodes if n.place.id == name))


def has_moved(fleet, name, fence):
    ledger = ledger_of(fleet, name)
    try:
        return ledger.fence(name) == fence and moving.under_way(ledger) is None
    finally:
        ledger.close()


def kill(fleet, name):
    """All processes of an edge at once, as when its power is cut."""
    log = (fleet.folder / name / "log.txt").read_text()
    process = fleet.processes.pop(name)
    process.kill()
    for pid in re.findall(r"child_started .*pid=(\d+)", log):
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def test_training_goes_on_and_nothing_is_sent_again(tmp_path, capsys):
    config = experiment(tree=TREE, rounds=ROUNDS)
    fleet = up.lay_out(config, tmp_path / "fleet", rounds={"target": ROUNDS, "deadline": 60.0}, progress=Silent())
    node_of = {n.place.id: n for n in fleet.nodes}
    address = node_of["device-002"].table["parent"]["url"]  # edge-1
    lonely = fleet.home(node_of["device-001"]) / "device.toml"
    text = lonely.read_text()
    lonely.write_text(text.replace("[parent]\n", f'[parent]\nfallback = ["{address}"]\nlost_after = 4.0\n'))
    try:
        for node in fleet.nodes:
            fleet.start(node)
        until(fleet, "round 1", lambda: len(rounds_of(fleet, "cloud")) >= 2)
        before = len(rounds_of(fleet, "device-000"))
        state = fleet.home(node_of["edge-0"]) / "state"
        assert main(["move", "device-000", "--to", address, "--state", str(state)]) == 0
        until(fleet, "the move that the operator asked for", lambda: has_moved(fleet, "device-000", 1))
        until(fleet, "a turn with the new parent", lambda: len(rounds_of(fleet, "device-000")) > before + 1)
        kill(fleet, "edge-0")
        until(fleet, "the move away from a dead parent", lambda: has_moved(fleet, "device-001", 1))
        fleet.start(node_of["edge-0"])  # and its late messages
        until(fleet, "the end", lambda: any(r["finished"] for r in rounds_of(fleet, "cloud")))
        fleet.check()
        until(fleet, "the release", lambda: not released_late(fleet))
    finally:
        fleet.stop()
    assert "will move to" in capsys.readouterr().out
    check_rows(fleet)
    assert [r["version"] for r in rounds_of(fleet, "cloud")] == list(range(ROUNDS))
    assert all(r["rows"] > 0 and not r["refused"] for r in rounds_of(fleet, "device-000")[before + 1 :])


def released_late(fleet):
    """What the old edge has not heard of yet."""
    ledger = ledger_of(fleet, "edge-0")
    try:
        return len(ledger.samples("edge-0"))
    finally:
        ledger.close()


def check_rows(fleet):
    """The cloud has each private sample once, all by way of edge-1; the moved devices uploaded nothing there."""
    cloud, new, old = (ledger_of(fleet, name) for name in ("cloud", "edge-1", "edge-0"))
    samples = cloud.samples("edge-1")
    assert not len(cloud.samples("edge-0"))
    for node in fleet.nodes:
        if node.place.tier is not Tier.DEVICE:
            continue
        name, count = node.place.id, len(node.private[1])
        counter_N = samples.counters[samples.origins.index(name)]
        np.testing.assert_array_equal(counter_N, np.arange(count))
        assert len(new.samples(name)) == count
    for name in ("device-000", "device-001"):
        assert [e.by for e in new.entries(name, 0)] == ["parent"]
        assert name not in old.children()
        assert old.fence(name) == new.fence(name) == 1
    for ledger in (cloud, new, old):
        ledger.close()
