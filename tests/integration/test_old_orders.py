"""Orders to forget that a node hears again, or that are older than its state: what came since stays.

Notices are never taken back, so that who has lost its state, or comes back to a parent, is told all of them once more.
"""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "wire"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from toys import CLASSES
from trees import PARENTS, TIERS, Trees

from fedagg_edge.fleet import forgetting, receipts
from fedagg_edge.fleet.logs import Log
from fedagg_edge.ledger import erase
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import Knowledge, Link, LogitsFormat, NodeId, PackedLogits, Tier
from fedagg_edge.wire.tensors import OWN, load_embeddings

D1, E1 = NodeId("d1"), NodeId("e1")
DEEP = (TIERS | {"s1": Tier.EDGE}, PARENTS | {"s1": "e1", "d1": "s1"})


class Forgetful(Trees):
    """Trees whose edges obey orders, each notice once, as `ParentLink` has it."""

    def __init__(self, folder, **more):
        super().__init__(folder, **more)
        self.folder, self.refused, self.said = folder, [], io.StringIO()
        self.on_notice = self.heed

    def heed(self, name, notice):
        ledger = self.ledgers[name]
        if notice.number <= (ledger.get("noticed") or 0):
            return
        forgetting.obey(
            ledger, notice, Log(self.said), lambda node, since: self.refused.append((name, node)), sleep=lambda s: None
        )
        ledger.put("noticed", notice.number)

    def give(self, origin=D1, **more):
        return forgetting.give(self.ledgers["cloud"], origin, sleep=lambda s: None, **more)

    def lose(self, name):
        self.ledgers[name].close()
        for path in self.folder.glob(f"{name}*"):
            path.unlink()
        options = Options(tier=self.tiers[name], clock=lambda: self.now)
        self.ledgers[name] = Ledger.open(self.folder / name, node=NodeId(name), federation="f", options=options)
        self.restart(name)

    def receipt(self, told, node=E1):
        """Rows of the last receipt of `node` that the cloud has."""
        return next(s.receipt.rows for s in receipts.known(self.ledgers["cloud"], told.order.id)
                    if s.receipt.node == node)  # fmt: skip


@pytest.fixture
def trees(tmp_path):
    made = Forgetful(tmp_path)
    yield made
    made.close()


@pytest.fixture
def deep(tmp_path):
    made = Forgetful(tmp_path, tiers=DEEP[0], parents=DEEP[1])
    yield made
    made.close()


def forgotten_once(trees):
    """d1 was forgotten and has sent four new samples since."""
    trees.send("d1", 5)
    trees.run(20)
    told = trees.give(revoked=0.0)
    trees.run(20)
    assert trees.rows_at_cloud() == {}
    trees.send("d1", 4, start=5)
    trees.run(20)
    assert trees.rows_at_cloud() == {"d1": [5, 6, 7, 8]}
    return told


def test_an_edge_that_lost_its_state_does_not_carry_out_again_what_is_older(trees):
    told = forgotten_once(trees)
    trees.lose("e1")
    trees.run(40)
    assert trees.rows_at_cloud() == {"d1": [5, 6, 7, 8]}
    assert trees.ledgers["e1"].samples(E1).counters[0].tolist() == [5, 6, 7, 8]
    assert [s.order for s in receipts.own(trees.ledgers["e1"])] == [told.order.id]
    assert trees.receipt(told) == 5
    fresh = trees.give()  # one that is not older
    trees.run(20)
    assert trees.rows_at_cloud() == {}
    assert trees.receipt(fresh) == 4


def test_who_was_revoked_is_refused_by_an_edge_that_lost_its_state_too(trees):
    trees.send("d1", 5)
    trees.run(20)
    trees.give(revoked=7.0)
    trees.run(20)
    trees.lose("e1")
    trees.run(40)
    assert sorted(trees.refused) == [("e1", D1), ("e1", D1), ("e2", D1)]


def test_an_order_about_which_the_parent_had_nothing_is_older_too(trees):
    told = trees.give()
    trees.run(20)
    trees.send("d1", 4)
    trees.run(20)
    trees.lose("e1")
    trees.run(40)
    assert trees.rows_at_cloud() == {"d1": [0, 1, 2, 3]}
    assert trees.receipt(told) == 0


@pytest.mark.parametrize("lost", [False, True])
def test_an_order_that_was_given_while_rows_waited_at_an_edge_is_carried_out(trees, lost):
    """Also where the last entry is the one up to which the edge had joined."""
    trees.send("d2", 1)
    trees.send("d1", 2)
    trees.run(20)
    if lost:
        trees.lose("e1")
        trees.run(20)
        trees.move("d1", "e1")  # the edge does not know it any more
        trees.run(40)
    trees.give()  # its two rows
    trees.run(20)
    trees.down.add("cloud")
    trees.send("d1", 3, start=2)
    trees.run(20)
    assert len(trees.ledgers["e1"].pending()) == 1
    told = trees.give()
    assert told.receipt.rows == 0
    trees.down.clear()
    trees.below["e1"].restart()
    trees.on_notice, later = lambda name, notice: None, trees.on_notice
    trees.run(3)
    trees.on_notice = later
    trees.run(60)
    assert trees.rows_at_cloud() == {"d2": [0]}
    assert trees.receipt(told) == 3


def test_an_edge_that_was_away_with_its_state_carries_out_what_it_never_heard(trees):
    trees.send("d1", 5)
    trees.run(20)
    trees.down.add("cloud")
    trees.send("d1", 4, start=5)
    trees.run(20)
    told = trees.give()
    trees.down.clear()
    trees.run(60)
    assert trees.rows_at_cloud() == {}
    assert trees.receipt(told) == 9


def away_and_back(trees, name="s1"):
    for to in ("e2", "e1"):
        trees.move(name, to)
        trees.run(60)
        assert trees.ledgers[name].get("move") is None


@pytest.mark.parametrize("kept", [True, False])
def test_an_edge_that_moves_away_and_back_has_carried_out_what_it_is_told_again(deep, kept):
    """Also once newer receipts have taken the place of the order's own."""
    forgotten_once(deep)
    edge = deep.ledgers["s1"]
    if not kept:
        edge.put(receipts.RECEIPTS + "s1", [])
    away_and_back(deep)
    assert deep.rows_at_cloud() == {"d1": [5, 6, 7, 8]}
    assert edge.samples(D1).counters[0].tolist() == [5, 6, 7, 8]
    assert len(receipts.own(edge)) == kept
    assert edge.get("noticed") == deep.ledgers["e1"].notices(NodeId("s1"), 0)[-1].number


def test_an_edge_that_moves_away_and_back_carries_out_what_it_never_heard(deep):
    deep.send("d1", 5)
    deep.run(20)
    deep.parent_of["s1"] = "nobody"
    deep.down.add("nobody")
    deep.send("d1", 4, start=5)
    told = deep.give()
    deep.run(20)
    assert deep.rows_at_cloud() == {}
    away_and_back(deep)
    assert deep.rows_at_cloud() == {}
    assert len(deep.ledgers["s1"].samples(D1)) == 0
    assert told.order.id in [s.order for s in receipts.own(deep.ledgers["s1"])]


def test_an_edge_that_lost_its_state_and_comes_by_a_move(deep):
    forgotten_once(deep)
    deep.lose("s1")
    deep.move("s1", "e1")  # which has the old order for it still
    deep.run(60)
    assert deep.ledgers["s1"].joined()
    assert deep.ledgers["s1"].get("noticed")
    assert deep.rows_at_cloud() == {"d1": [5, 6, 7, 8]}
    assert deep.ledgers["s1"].samples(NodeId("s1")).counters[0].tolist() == [5, 6, 7, 8]


def test_what_is_older_is_handed_down_to_who_may_not_have_heard_it(trees):
    told = forgotten_once(trees)
    trees.lose("e1")
    low = NodeId("low")
    trees.ledgers["e1"].enrol(low, Tier.EDGE, "02")
    trees.run(40)
    (notice,) = trees.ledgers["e1"].notices(low, 0)
    assert told.order.id.encode() in notice.body
    known = receipts.known(trees.ledgers["cloud"], told.order.id)
    assert {s.receipt.node: s.below for s in known} == {"cloud": 2, "e1": 1, "e2": 0}


@pytest.mark.parametrize("place", ["after-receipt", "after-notice", "after-scrub"])
def test_an_edge_is_killed_while_it_passes_over_an_order(trees, monkeypatch, place):
    told = forgotten_once(trees)
    trees.lose("e1")
    trees.ledgers["e1"].enrol(NodeId("low"), Tier.EDGE, "02")

    def die(name):
        if name == f"forgetting.carry-out.{place}":
            raise KeyboardInterrupt

    monkeypatch.setattr(forgetting, "reach", die)
    with pytest.raises(KeyboardInterrupt):
        trees.run(40)
    monkeypatch.undo()
    edge = trees.ledgers["e1"]
    done = place == "after-scrub"
    assert len(receipts.own(edge)) == len(edge.notices(NodeId("low"), 0)) == bool(edge.get("noticed")) == done
    edge.close()
    trees.ledgers["e1"] = Ledger.open(trees.folder / "e1", node=E1, federation="f", options=edge.options)
    trees.restart("e1")
    trees.run(40)
    assert trees.rows_at_cloud() == {"d1": [5, 6, 7, 8]}
    assert (trees.receipt(told), len(trees.ledgers["e1"].notices(NodeId("low"), 0))) == (5, 1)


def test_what_a_node_gets_back_is_without_what_was_forgotten(trees):
    """Rows and knowledge: nothing of the order is left to be done."""
    trees.send("d1", 5)
    trees.run(20)
    cloud, link = trees.ledgers["cloud"], Link(E1, NodeId("cloud"))
    packed = PackedLogits(LogitsFormat.F32, np.ones((5, CLASSES), np.float32), None)
    cloud.put_knowledge(Knowledge("f", link, link.parent, 1, cloud.head(E1).digest, 0, packed), -1)
    trees.give()
    trees.run(20)
    trees.lose("e1")
    trees.run(40)
    edge = trees.ledgers["e1"]
    came = [e for e in edge.entries(E1, 0, inline=1 << 30) if e.kind is Kind.APPEND]
    assert [(e.rows, len(load_embeddings(e.payload, OWN))) for e in came] == [(5, 0)]
    assert not edge.newest(link, link.parent).knowledge.logits.value_NC.any()
    assert erase.of_origin(edge.db, D1).origins == ()
