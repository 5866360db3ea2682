"""Nodes that lost their state: they get back what their parents have of them, and add to it under new numbers."""

import io
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "wire"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from toys import CLASSES, SHAPE, IdentityBridge, embeddings
from trees import Trees

from fedagg_edge.fleet.agent import Intake
from fedagg_edge.fleet.clocks import Clocks
from fedagg_edge.fleet.config import parse_fleet_config
from fedagg_edge.fleet.keys import PARCELS, TERMS
from fedagg_edge.fleet.logs import Log
from fedagg_edge.ledger import private
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import NodeId, SampleSet, Tier, counters
from fedagg_edge.wire.events import Refused, Welcomed
from fedagg_edge.wire.tensors import dump_embeddings

DEVICE = {
    "federation": "f",
    "node": {"id": "d1", "state": "state", "model": "mlp"},
    "parent": {"url": "https://127.0.0.1:1"},
    "data": {"source": "folder", "options": {"path": "private"}},
    "poll": 1e-9,
}


@pytest.fixture
def trees(tmp_path):
    (tmp_path / "nodes").mkdir()
    made = Trees(tmp_path / "nodes")
    yield made
    made.close()


def lose(trees, name, tmp_path):
    """The node is started again with nothing but its certificate."""
    trees.ledgers[name].close()
    for path in (tmp_path / "nodes").glob(f"{name}*"):
        path.unlink()
    tier = trees.tiers[name]
    options = Options(tier=tier, clock=lambda: trees.now)
    trees.ledgers[name] = Ledger.open(tmp_path / "nodes" / name, node=NodeId(name), federation="f", options=options)
    trees.restart(name)
    trees.events.clear()


class Device:
    """d1 with its folder of samples: an intake that works as soon as the parent has said what the node needs."""

    def __init__(self, trees, tmp_path):
        self.trees, self.folder = trees, tmp_path / "private"
        self.folder.mkdir(exist_ok=True)
        config = parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path)
        self.ledger = trees.ledgers["d1"]
        self.intake = Intake(config, self.ledger, Log(io.StringIO()), Clocks())

    def put(self, name, count, value):
        x_N = np.full((count, *SHAPE), value / 255, np.float32)
        np.savez(self.folder / f"{name}.npz", x=x_N, y=np.arange(count) % CLASSES)

    def run(self, turns=1):
        for _ in range(turns):
            self.trees.run(1)
            if any(who == "d1" and isinstance(e, Welcomed) for who, e in self.trees.events):
                self.ledger.put(TERMS, {"classes": CLASSES, "parent": "e1"})
            if self.ledger.get(TERMS) is not None:
                self.intake.look(IdentityBridge())


def refused(trees):
    return [(who, e.problem) for who, e in trees.events if isinstance(e, Refused)]


def assert_same(trees, device="d1", edge="e1"):
    """Each ancestor has of the device what it has itself; its link's two ends are one log."""
    mine, theirs = trees.ledgers[device].embeddings(device), trees.ledgers[edge].embeddings(device)
    assert trees.ledgers[device].acknowledged() == trees.ledgers[edge].head(device)
    assert trees.ledgers[edge].acknowledged() == trees.ledgers["cloud"].head(edge)
    np.testing.assert_array_equal(mine.code_NB, theirs.code_NB)
    assert trees.rows_at_cloud()[device] == mine.samples.counters[0].tolist()
    assert not any(trees.ledgers[name].pending() for name in (device, edge))


@pytest.mark.parametrize("turns", range(8))
def test_a_device_takes_in_new_samples_after_it_lost_its_state(trees, tmp_path, turns):
    """Whichever comes first, the log or the files: those of before, which it takes for new ones, and one more."""
    device = Device(trees, tmp_path)
    device.put("m", 3, 1)
    device.run(8)
    device.put("n", 2, 2)
    device.run(8)
    assert_same(trees)
    assert trees.rows_at_cloud()["d1"] == [0, 1, 2, 3, 4]
    lose(trees, "d1", tmp_path)
    again = Device(trees, tmp_path)
    again.run(turns)
    again.put("a", 4, 3)  # the first by its name: it would have had the numbers of others
    again.run(12)
    assert_same(trees)
    assert trees.rows_at_cloud()["d1"] == list(range(5 + 4 + 5))
    assert private.load(again.ledger.db, SHAPE).counter_N.tolist() == list(range(5, 14))
    assert again.ledger.get(PARCELS) is None  # none was refused
    assert refused(trees) == []


def test_what_was_forgotten_of_a_device_that_lost_its_state_stays_so(trees, tmp_path):
    device = Device(trees, tmp_path)
    device.put("m", 3, 1)
    device.run(8)
    trees.ledgers["cloud"].forget(NodeId("d1"))
    device.run(8)
    assert "d1" not in trees.rows_at_cloud()
    lose(trees, "d1", tmp_path)
    again = Device(trees, tmp_path)
    again.put("a", 2, 3)
    again.run(12)
    assert_same(trees)
    assert trees.rows_at_cloud()["d1"] == list(range(3, 8))
    assert refused(trees) == []


def test_the_parent_goes_away_while_a_device_hears_of_what_it_lost(trees, tmp_path):
    for start in range(0, 40, 4):
        trees.send("d1", 4, start=start)
        trees.run(3)
    trees.run(20)
    had = trees.ledgers["e1"].head("d1").entry
    assert had == 10
    lose(trees, "d1", tmp_path)
    device = Device(trees, tmp_path)
    device.put("a", 2, 3)
    fates = itertools.cycle([*[""] * 5, "restart", *[""] * 6, "drop", *[""] * 7, "lose"])
    for _ in range(60):
        trees.run(1, lambda name: next(fates) if name == "d1" else "")
        assert not device.ledger.joined() or device.ledger.acknowledged().entry >= had
        trees.now += 30.0
    device.run(8)
    assert_same(trees)
    assert trees.rows_at_cloud()["d1"] == list(range(42))


@pytest.mark.parametrize("early", [False, True])
def test_an_edge_that_lost_its_state_takes_its_device_in_again_and_hands_on_what_is_new(trees, tmp_path, early):
    """`early`: it has taken rows in before its parent was there."""
    trees.send("d1", 5)
    trees.run(20)
    trees.ledgers["d1"].retire(SampleSet.of(NodeId("d1"), counters(1, 1)))
    trees.run(20)
    before = [e.key for e in trees.ledgers["cloud"].entries(NodeId("e1"), 0)]
    assert before == [1, 2]
    lose(trees, "e1", tmp_path)
    edge, due = trees.ledgers["e1"], {"d1": [0, 2, 3, 4, 5, 6]}
    if early:
        trees.down.add("cloud")
        edge.enrol(NodeId("d9"), Tier.DEVICE, "01")
        edge.append(NodeId("d9"), Kind.APPEND, dump_embeddings(embeddings("d9", 3)), key=1, by="child")
        trees.run(20)
        trees.down.clear()
        due["d9"] = [0, 1, 2]
    trees.run(40)
    trees.move("d1", "e1")  # the edge does not know it any more
    trees.run(40)
    trees.send("d1", 2, start=5)
    trees.run(40)
    assert_same(trees)
    assert trees.rows_at_cloud() == due
    keys = [e.key for e in trees.ledgers["cloud"].entries(NodeId("e1"), 0) if e.key is not None]
    assert sorted(set(keys)) == keys
    assert [problem for who, problem in refused(trees) if who == "e1"] == []


def test_an_edge_and_its_device_have_both_lost_their_state(trees, tmp_path):
    trees.send("d1", 5)
    trees.run(20)
    lose(trees, "e1", tmp_path)
    lose(trees, "d1", tmp_path)
    trees.run(20)
    trees.move("d1", "e1")
    trees.run(40)
    device = trees.ledgers["d1"]
    assert device.joined()
    device.send(embeddings("d1", 2, start=5))
    trees.run(20)
    assert_same(trees)
    assert trees.rows_at_cloud()["d1"] == list(range(7))


def test_a_device_that_lost_its_state_and_its_parent_keeps_its_rows_at_the_next_one(trees, tmp_path):
    trees.send("d1", 5)
    trees.run(20)
    lose(trees, "d1", tmp_path)
    trees.move("d1", "e2")
    trees.run(40)
    device = trees.ledgers["d1"]
    assert device.joined()
    device.send(embeddings("d1", 2, start=5))
    trees.run(20)
    assert_same(trees, edge="e2")
    assert trees.rows_at_cloud()["d1"] == list(range(7))
