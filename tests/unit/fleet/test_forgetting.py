"""An order that goes down from the cloud and receipts that come up: ledgers and the real ends of a link, no network."""

import io
import random

import msgspec
import numpy as np
import pytest
from toys import CLASSES, embeddings

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.fleet import forgetting, receipts
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import Knowledge, Link, LogitsFormat, NodeId, PackedLogits, SampleSet, Tier
from fedagg_edge.wire import child as events
from fedagg_edge.wire.child import ChildEnd, Idle
from fedagg_edge.wire.messages import Notice
from fedagg_edge.wire.parent import ParentEnd
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.tensors import dump_embeddings
from fedagg_edge.wire.terms import Terms

CLOUD, EDGE, GONE, OTHER = NodeId("cloud"), NodeId("edge-0"), NodeId("d1"), NodeId("d2")
LINK = Link(EDGE, CLOUD)


class Tree:
    """A cloud and an edge with two devices' rows; `settle` lets the edge talk to the cloud as its link does."""

    def __init__(self, folder):
        self.cloud = Ledger.open(folder / "cloud", node=CLOUD, federation="f", options=Options(tier=Tier.CLOUD))
        self.edge = Ledger.open(folder / "edge", node=EDGE, federation="f", options=Options(tier=Tier.EDGE))
        self.cloud.enrol(EDGE, Tier.EDGE, "1")
        for device in (GONE, OTHER):
            self.edge.enrol(device, Tier.DEVICE, device)
        self.parent = ParentEnd(Terms("f", CLOUD, CLASSES, limits=events.Limits(), software="t"))
        self.log = io.StringIO()
        self.refused = []
        self.restart()

    def refuse(self, node, since):
        """Note whom the edge refuses, since when, and how many of its rows were there still."""
        self.refused.append((node, since, len(self.edge.samples(node))))

    def restart(self):
        self.child = ChildEnd(ChildView(self.edge), EDGE, Tier.EDGE, "f", "t", random.Random(0))
        self.now = 1e6

    def send(self, device, count, key):
        self.edge.append(device, Kind.APPEND, dump_embeddings(embeddings(device, count)), key=key, by="child")

    def settle(self, steps=40):
        for _ in range(steps):
            self.now += 61.0
            asked = self.child.next(self.now)
            if isinstance(asked, Idle):
                continue
            with self.cloud.transaction():
                answer = self.parent.handle(ParentView(self.cloud), Peer(EDGE, Tier.EDGE, "1"), asked, self.now)
                if not hasattr(answer, "status"):
                    answer = self.parent.resume(ParentView(self.cloud), Peer(EDGE, Tier.EDGE, "1"), answer, 1e12)
            for event in self.child.receive(asked, answer, self.now):
                match event:
                    case events.NoticeArrived(notice):
                        forgetting.obey(self.edge, notice, Log(self.log), self.refuse, sleep=lambda s: None)
                        self.edge.put("noticed", notice.number)
                    case events.ReceiptsTaken(taken):
                        receipts.mark_sent(self.edge, taken)

    def close(self):
        self.cloud.close()
        self.edge.close()


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    yield made
    made.close()


def give(tree):
    return forgetting.give(tree.cloud, GONE, sleep=lambda s: None)


def test_rows_go_everywhere_and_both_receipts_reach_the_operator(tree):
    tree.send(GONE, 4, 1)
    tree.send(OTHER, 3, 1)
    tree.settle()
    told = give(tree)
    assert (told.receipt.rows, told.receipt.scrubbed, told.edges) == (4, True, (EDGE,))
    waited = forgetting.wait_for_receipts(tree.cloud, told, 0.0)
    assert ([r.node for r in waited.found], waited.missing, waited.further) == ([CLOUD], [EDGE], 0)
    tree.settle()
    waited = forgetting.wait_for_receipts(tree.cloud, told, 0.0)
    assert [(r.node, r.rows, r.scrubbed) for r in waited.found] == [(CLOUD, 4, True), (EDGE, 4, True)]
    assert (waited.missing, waited.further) == ([], 0)
    for ledger, links in ((tree.cloud, [EDGE]), (tree.edge, [EDGE, GONE, OTHER])):
        for link in links:
            assert GONE not in ledger.samples(link).origins
    assert tree.cloud.head(EDGE).digest == tree.edge.acknowledged().digest
    assert tree.cloud.samples(EDGE).origins == (OTHER,)


def test_edges_further_down_are_waited_for_until_their_receipts_have_come_up(tree):
    """A cloud does not know them: each edge says how many it has handed the order to."""
    low = [NodeId("low-0"), NodeId("low-1")]
    for node in low:
        tree.edge.enrol(node, Tier.EDGE, node)
    told = give(tree)
    tree.settle()
    for left, node in zip((2, 1), low, strict=True):
        waited = forgetting.wait_for_receipts(tree.cloud, told, 0.0)
        assert (waited.missing, waited.further) == ([], left)
        receipt = msgspec.structs.replace(told.receipt, node=node)
        blob = msgspec.msgpack.encode(receipts.Stamped(order=told.order.id, receipt=receipt))
        tree.edge.put(f"receipts/{node}", [blob])
        tree.settle()
    waited = forgetting.wait_for_receipts(tree.cloud, told, 3600.0)  # nothing to wait for
    assert (len(waited.found), waited.missing, waited.further) == (4, [], 0)


def test_an_edge_of_many_devices_has_a_receipt_that_its_parent_takes(tree):
    """Else each of its exchanges would be refused, for ever."""
    for number in range(100):
        device = NodeId(f"device-{number:03}")
        tree.edge.enrol(device, Tier.DEVICE, device)
        tree.send(device, 1, 1)
    tree.send(GONE, 4, 1)
    tree.settle(200)
    told = give(tree)
    tree.settle()
    waited = forgetting.wait_for_receipts(tree.cloud, told, 0.0)
    assert [(r.node, r.rows) for r in waited.found] == [(CLOUD, 4), (EDGE, 4)]
    assert set(waited.found[1].digests) == {EDGE, "101 links"}
    assert waited.found[1].digests[EDGE] == tree.cloud.head(EDGE).digest


def test_rows_that_the_cloud_never_got_are_forgotten_at_the_edge_too(tree):
    tree.send(OTHER, 3, 1)
    tree.settle()
    tree.send(GONE, 4, 1)  # they wait in the edge's outbox when the order is given
    told = give(tree)
    assert told.receipt.rows == 0
    tree.settle()
    found = forgetting.wait_for_receipts(tree.cloud, told, 0.0).found
    assert {r.node: r.rows for r in found} == {CLOUD: 0, EDGE: 4}
    assert tree.edge.pending() == []
    assert tree.cloud.samples(EDGE).origins == tree.edge.samples(EDGE).origins == (OTHER,)


def test_an_order_is_carried_out_once_and_its_receipt_is_sent_once(tree):
    tree.send(GONE, 4, 1)
    tree.settle()
    told = give(tree)
    tree.settle()
    notice = tree.cloud.notices(EDGE, 0)[0]
    tree.restart()
    tree.settle()
    assert len(tree.cloud.notices(EDGE, 0)) == 1
    assert tree.edge.get("noticed") == notice.number
    assert receipts.pending(tree.edge) == ()
    assert len(tree.cloud.get(f"receipts/{EDGE}")) == 1
    assert receipts.known(tree.cloud, told.order.id)[1].receipt.rows == 4  # not 0, from a second time


def test_knowledge_about_the_others_stays_in_its_places(tree):
    tree.send(GONE, 2, 1)
    tree.send(OTHER, 3, 1)
    tree.settle()
    digest = tree.cloud.head(EDGE).digest
    logits = PackedLogits(LogitsFormat.INT8, np.ones((5, CLASSES), np.int8), np.ones(5, np.float32))
    tree.cloud.put_knowledge(Knowledge("f", LINK, CLOUD, 1, digest, 0, logits), -1)
    assert give(tree).receipt.knowledge == 1
    left = tree.cloud.newest(LINK, CLOUD).knowledge
    assert (left.version, left.digest) == (1, digest)
    assert list(left.logits.scale_N) == [0, 0, 1, 1, 1]
    assert list(left.logits.value_NC[:, 0]) == [0, 0, 1, 1, 1]


def test_late_knowledge_does_not_bring_back_what_was_forgotten(tree):
    """The edge hears of the order in the answer to the exchange that brings it, the cloud's own was under way."""
    tree.send(GONE, 2, 1)
    tree.send(OTHER, 3, 1)
    tree.settle()
    digest = tree.cloud.head(EDGE).digest
    logits = PackedLogits(LogitsFormat.INT8, np.ones((5, CLASSES), np.int8), np.ones(5, np.float32))
    give(tree)
    for number, (ledger, publisher) in enumerate([(tree.edge, EDGE), (tree.cloud, CLOUD)]):
        ledger.put_knowledge(Knowledge("f", LINK, publisher, number, digest, 0, logits), -1)
    tree.settle()
    assert GONE not in tree.edge.samples(EDGE).origins
    for ledger in (tree.cloud, tree.edge):
        for number, publisher in enumerate([EDGE, CLOUD]):
            left = ledger.newest(LINK, publisher).knowledge
            assert (left.version, left.digest) == (number, digest)
            assert list(left.logits.scale_N) == [0, 0, 1, 1, 1]
            assert list(left.logits.value_NC[:, 0]) == [0, 0, 1, 1, 1]
    tree.restart()
    sent = tree.child.next(tree.now)
    tree.settle(3)
    assert (tree.child._given, type(sent).__name__) == (0, "Request")  # and is not sent again


def test_what_it_sends_later_is_new_and_counts(tree):
    tree.send(GONE, 4, 1)
    tree.settle()
    give(tree)
    tree.settle()
    late = embeddings(GONE, 2)
    late = type(late)(SampleSet.of(GONE, np.array([90, 91], np.uint64)), late.code_NB, late.label_N)
    tree.edge.append(GONE, Kind.APPEND, dump_embeddings(late), key=2, by="child")
    tree.settle()
    assert len(tree.cloud.samples(EDGE)) == 2


def test_who_is_revoked_is_refused_before_it_is_forgotten(tree):
    tree.send(GONE, 4, 1)
    tree.settle()
    give(tree)
    tree.settle()
    assert tree.refused == []
    forgetting.give(tree.cloud, GONE, revoked=5e5, sleep=lambda s: None)
    tree.send(GONE, 3, 2)
    tree.settle()
    assert tree.refused == [(GONE, 5e5, 3)]
    assert len(tree.edge.samples(GONE)) == 0


def test_a_list_that_cannot_be_written_is_told_and_all_is_forgotten(tree, monkeypatch):
    def full(node, since):
        raise OSError("no room")

    monkeypatch.setattr(tree, "refuse", full)
    tree.send(GONE, 4, 1)
    tree.settle()
    forgetting.give(tree.cloud, GONE, revoked=5e5, sleep=lambda s: None)
    tree.settle()
    assert "revocations_failed" in tree.log.getvalue()
    assert len(tree.edge.samples(GONE)) == 0


def test_an_order_that_cannot_be_read_is_passed_over(tree):
    for body in (b"\xc1", msgspec.msgpack.encode(["id", "Not A Node"]), b""):
        forgetting.obey(tree.edge, Notice(1, "forget", body), Log(tree.log), tree.refuse)
    assert tree.log.getvalue().count("order_refused") == 3


def test_a_device_gives_no_orders(tmp_path):
    ledger = Ledger.open(tmp_path / "d", node=GONE, federation="f", options=Options(tier=Tier.DEVICE))
    with pytest.raises(RemoteProtocolError, match="at a device"):
        forgetting.give(ledger, OTHER)
    ledger.close()


def order(origin, entry):
    return msgspec.msgpack.encode(forgetting.Order("o1", origin, entry))


def test_an_order_that_names_an_entry_which_forgets_nothing_is_carried_out(tree):
    tree.send(GONE, 4, 1)
    tree.settle()
    assert tree.edge.acknowledged().entry == 1
    forgetting.obey(
        tree.edge, Notice(1, forgetting.KIND, order(GONE, 1)), Log(tree.log), tree.refuse, sleep=lambda s: None
    )
    assert receipts.known(tree.edge, "o1")[0].receipt.rows == 4


def test_an_order_to_a_device_is_told_and_passed_over(tmp_path):
    device = Ledger.open(tmp_path / "l", node=GONE, federation="f", options=Options(tier=Tier.DEVICE))
    said = io.StringIO()
    forgetting.obey(
        device, Notice(1, forgetting.KIND, order(OTHER, 0)), Log(said), lambda *_: None, sleep=lambda s: None
    )
    assert "order_refused" in said.getvalue()
    assert receipts.known(device, "o1") == []
    device.close()


def test_a_node_that_was_killed_before_it_emptied_its_files_does_so_at_its_next_start(tree, monkeypatch):
    tree.send(GONE, 4, 1)
    tree.settle()
    monkeypatch.setattr(type(tree.cloud), "scrub", lambda self: False)
    monkeypatch.setattr(type(tree.cloud.db), "scrub", lambda self: False)
    told = give(tree)
    assert not told.receipt.scrubbed
    monkeypatch.undo()
    forgetting.finish(tree.cloud)
    assert [(s.order, s.receipt.scrubbed) for s in receipts.own(tree.cloud)] == [(told.order.id, True)]
    before = tree.cloud.get(receipts.RECEIPTS + CLOUD)
    forgetting.finish(tree.cloud)  # and then there is nothing to do
    assert tree.cloud.get(receipts.RECEIPTS + CLOUD) == before


def test_an_order_that_is_given_again_counts_nothing_twice(tree):
    tree.send(GONE, 4, 1)
    tree.send(OTHER, 4, 1)
    tree.settle()
    logits = PackedLogits(LogitsFormat.F32, np.ones((8, CLASSES), np.float32))
    tree.cloud.put_knowledge(Knowledge("f", LINK, EDGE, 0, tree.cloud.head(EDGE).digest, 0, logits), -1)
    first, second = give(tree).receipt, give(tree).receipt
    assert [(r.rows, r.knowledge) for r in (first, second)] == [(4, 1), (0, 0)]
