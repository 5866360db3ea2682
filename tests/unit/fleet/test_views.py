import numpy as np
import pytest
from toys import embeddings

from fedagg_edge.errors import DataError, RemoteProtocolError
from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.child_state import TakenEntry
from fedagg_edge.wire.chunks import digest_of
from fedagg_edge.wire.messages import Payload
from fedagg_edge.wire.tensors import dump_embeddings

DEVICE = NodeId("device-000")


@pytest.fixture
def ledgers(tmp_path):
    parent = Ledger.open(tmp_path / "p", node=NodeId("edge-0"), federation="f", options=Options(tier=Tier.EDGE))
    child = Ledger.open(tmp_path / "c", node=DEVICE, federation="f", options=Options(tier=Tier.DEVICE))
    yield parent, child
    parent.close()
    child.close()


def test_what_the_parent_wrote_is_followed_by_the_child(ledgers):
    parent, child = ParentView(ledgers[0]), ChildView(ledgers[1])
    rows = embeddings(DEVICE, 3)
    parent.append(DEVICE, 1, dump_embeddings(rows), key=None, by="parent")
    (entry,) = parent.entries(DEVICE, 0, 5)
    child.follow([TakenEntry(entry.number, int(entry.kind), entry.rows, entry.digest, entry.payload)])
    assert child.acknowledged() == parent.head(DEVICE)
    np.testing.assert_array_equal(ledgers[1].embeddings(DEVICE).code_NB, rows.code_NB)


def test_a_batch_goes_up_under_its_key(ledgers):
    parent, child = ParentView(ledgers[0]), ChildView(ledgers[1])
    ledgers[1].send(embeddings(DEVICE, 3))
    (batch,) = child.pending(5)
    done = parent.append(DEVICE, batch.kind, child.batch_bytes(batch.key), key=batch.key, by="child")
    child.set_acknowledged(batch.key, done.entry, done.digest)
    assert child.pending(5) == []
    assert parent.samples(DEVICE, None).digest == done.digest


def test_staged_chunks_are_taken_whole_or_not_at_all(ledgers):
    parent = ParentView(ledgers[0])
    parts = [b"abc", b"defg"]
    for part in parts:
        parent.stage(DEVICE, digest_of(part), part)
    payload = Payload(7, digest_of(b"abcdefg"), b"", tuple(digest_of(p) for p in parts))
    assert (parent.staged(DEVICE), list(parent.missing(DEVICE, payload.chunks))) == (7, [])
    with (
        pytest.raises(RemoteProtocolError, match="payload: got 7 bytes, expected 7 of the digest named"),
        parent.transaction(),
    ):
        parent.take(DEVICE, Payload(7, bytes(32), b"", payload.chunks))
    assert parent.take(DEVICE, payload) == b"abcdefg"
    assert parent.staged(DEVICE) == 0
    with pytest.raises(DataError, match="is not staged"):
        parent.take(DEVICE, payload)


def test_facts_fences_and_nodes(ledgers):
    parent = ParentView(ledgers[0])
    parent.put("x", [1, 2])
    assert (parent.get("x"), parent.fence(DEVICE), parent.node(DEVICE)) == ([1, 2], 0, None)
    ledgers[0].enrol(DEVICE, Tier.DEVICE, "1")
    assert parent.node(DEVICE).role is Tier.DEVICE
