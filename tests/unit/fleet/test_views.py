import numpy as np
import pytest

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Embeddings, NodeId, SampleSet, Tier, counters
from fedagg_edge.wire.child_state import TakenEntry
from fedagg_edge.wire.chunks import digest_of
from fedagg_edge.wire.messages import Payload
from fedagg_edge.wire.tensors import dump_embeddings


@pytest.fixture
def ledgers(tmp_path):
    made = [
        Ledger.open(tmp_path / name, node=NodeId(name), federation="f", options=Options(tier=tier))
        for name, tier in (("edge-a", Tier.CLOUD), ("d1", Tier.DEVICE))
    ]
    yield made
    for ledger in made:
        ledger.close()


def rows(origin, count):
    samples = SampleSet.of(NodeId(origin), counters(0, count))
    return Embeddings(samples, np.ones((count, 4), np.uint8), np.zeros(count, np.int64))


def test_an_entry_of_the_parent_reaches_the_child_whole(ledgers):
    parent, child = ParentView(ledgers[0]), ChildView(ledgers[1])
    data = dump_embeddings(rows("d7", 20_000))  # over what the ledger gives inline by itself
    parent.append(NodeId("d1"), 1, data, key=None, by="parent")
    (entry,) = parent.entries(NodeId("d1"), 0, 10)
    assert entry.payload == data
    child.follow([TakenEntry(entry.number, int(entry.kind), entry.rows, entry.digest, entry.payload)])
    assert child.acknowledged() == parent.head(NodeId("d1"))


def test_an_own_batch_is_acknowledged(ledgers):
    parent, child = ParentView(ledgers[0]), ChildView(ledgers[1])
    ledgers[1].send(rows("d1", 3))
    (batch,) = child.pending(5)
    done = parent.append(NodeId("d1"), batch.kind, child.batch_bytes(batch.key), key=batch.key, by="child")
    child.set_acknowledged(batch.key, done.entry, done.digest)
    assert child.pending(5) == []
    assert child.batch_bytes(batch.key) == b""


def test_staged_chunks_are_taken_as_the_payload_names_them(ledgers):
    parent, node = ParentView(ledgers[0]), NodeId("d1")
    parent.stage(node, digest_of(b"ab"), b"ab")
    assert (parent.staged(node), parent.missing(node, (digest_of(b"ab"), bytes(32)))) == (2, (bytes(32),))
    with pytest.raises(RemoteProtocolError, match="got 2 bytes, expected 3"), parent.savepoint():
        parent.take(node, Payload(3, digest_of(b"abc"), b"", (digest_of(b"ab"),)))
    assert parent.take(node, Payload(2, digest_of(b"ab"), b"", (digest_of(b"ab"),))) == b"ab"
    assert parent.staged(node) == 0
