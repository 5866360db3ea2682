import numpy as np
import pytest

from fedagg_edge.errors import Conflict, DataError, RemoteProtocolError
from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.ledger.knowledge import Stored, versions
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import (
    Embeddings,
    Knowledge,
    Link,
    LogitsFormat,
    NodeId,
    PackedLogits,
    SampleSet,
    Tier,
    counters,
)
from fedagg_edge.wire.child_state import TakenEntry
from fedagg_edge.wire.chunks import digest_of
from fedagg_edge.wire.knowledge import wire_knowledge
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Payload
from fedagg_edge.wire.tensors import dump_embeddings, dump_samples


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


class Counted(ParentView):
    """Counts the statements that its ledger runs."""

    def __init__(self, ledger):
        super().__init__(ledger)
        self.statements = []
        ledger.db._connection.set_trace_callback(self.statements.append)


def test_what_was_looked_at_is_not_asked_for_again_until_something_was_written(ledgers):
    view, node, link = Counted(ledgers[0]), NodeId("d1"), Link(NodeId("d1"), NodeId("edge-a"))
    ledgers[0].enrol(node, Tier.DEVICE, "5e")
    view.append(node, 1, dump_embeddings(rows("d1", 3)), key=1, by="child")
    view.put("present/d1", True)
    digest = view.head(node).digest

    def asked():
        return (
            view.node(node), view.head(node), view.fence(node),
            view.version(link, node), view.version(link, link.parent),
            view.entries(node, 1, 1), view.notices(node, 0), view.get("present/d1"), view.get("finished"),
            view.rows(node, digest),
        )  # fmt: skip

    usual = asked()
    with view.transaction():
        view.look(node, ("present/d1", "finished"))
        view.statements.clear()
        assert list(map(_plain, asked())) == list(map(_plain, usual))
        assert view.statements == []
        assert view.version(Link(NodeId("d2"), NodeId("edge-a")), NodeId("d2")) == -1  # of another nothing is known
        assert len(view.statements) == 1
        view.ledger.leave(node)  # past the view
        assert not view.node(node).active
        view.look(node, ("present/d1", "finished"))
        view.put("finished", True)
        assert view.get("finished") is True
        view.look(node, ("present/d1", "finished"))
        view.forget_look()
        view.statements.clear()
        assert view.get("finished") is True
        assert len(view.statements) == 1


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


def knowledge(link, number):
    logits = PackedLogits(LogitsFormat.F32, np.zeros((3, 2), np.float32))
    return Knowledge("f", link, link.child, number, "00" * 32, 0, logits)


def put(view, link, number):
    given = wire_knowledge(Stored(knowledge(link, number), -1, 0.0), Limits())
    view.put_packed("f", link, link.child, given, given.payload.inline, at=0.0)


def _put_and_fail(view, link):
    with view.savepoint():
        put(view, link, 4)
        assert view.version(link, link.child) == 4
        raise DataError


def test_new_knowledge_is_seen_and_what_was_looked_at_still_stands(ledgers):
    view, node, link = Counted(ledgers[0]), NodeId("d1"), Link(NodeId("d1"), NodeId("edge-a"))
    with view.transaction():
        view.look(node, ())
        put(view, link, 3)
        view.drop(node)  # nothing is staged
        view.statements.clear()
        assert (view.version(link, node), view.head(node).entry) == (3, 0)
        assert view.statements == []
        with pytest.raises(DataError):
            _put_and_fail(view, link)
        assert view.version(link, node) == 3


def test_knowledge_is_written_by_one_statement_over_the_oldest_that_was_seen(ledgers):
    view, node, link = Counted(ledgers[0]), NodeId("d1"), Link(NodeId("d1"), NodeId("edge-a"))
    for number in (1, 2, 5):
        with view.transaction():
            view.look(node, ())
            view.statements.clear()
            put(view, link, number)
            assert [text.split()[0] for text in view.statements if "knowledge" in text] == (
                ["INSERT"] if number < 5 else ["UPDATE"]
            )
            assert view._glance.kept == knowledge_of(view, link)
            put(view, link, number - 1)  # nothing that is older, or the same again
            put(view, link, number)
    assert knowledge_of(view, link) == (5, 2)
    given = wire_knowledge(Stored(knowledge(link, 5), -1, 0.0), Limits())
    with view.transaction():
        view.look(node, ())
        with pytest.raises(Conflict):
            view.put_packed("f", link, node, given, b"\1" * len(given.payload.inline), at=0.0)


def test_knowledge_about_the_set_at_the_head_costs_no_look_at_what_was_forgotten(ledgers):
    view, node, link = Counted(ledgers[0]), NodeId("d1"), Link(NodeId("d1"), NodeId("edge-a"))
    before = rows("d1", 3)
    view.append(node, 1, dump_embeddings(before), key=1, by="child")
    view.append(node, 2, dump_samples(SampleSet.of(node, counters(0, 1))), key=2, by="child")
    for number, (digest, count) in enumerate([(view.head(node).digest, 2), (before.samples.digest, 3)]):
        logits = PackedLogits(LogitsFormat.F32, np.ones((count, 2), np.float32))
        said = wire_knowledge(Stored(Knowledge("f", link, node, number, digest, 0, logits), -1, 0.0), Limits())
        with view.transaction():
            view.look(node, ())
            view.statements.clear()
            view.put_packed("f", link, node, said, said.payload.inline, at=0.0)
            assert any(text.startswith("SELECT") for text in view.statements) is bool(number)
    assert list(view.newest(link, node).knowledge.logits.value_NC[:, 0]) == [0, 1, 1]


def knowledge_of(view, link):
    return tuple(versions(view.ledger.db, link, link.child))


def test_the_parents_knowledge_is_read_with_the_look_unless_it_is_long(ledgers):
    view, node, link = Counted(ledgers[0]), NodeId("d1"), Link(NodeId("d1"), NodeId("edge-a"))
    with view.transaction():
        view.look(node, ())
        assert view.packed(link, link.parent) is None
        for number, count in ((0, 3), (1, 3), (2, 40_000)):
            logits = PackedLogits(LogitsFormat.F32, np.full((count, 2), number, np.float32))
            view.ledger.put_knowledge(Knowledge("f", link, link.parent, number, "00" * 32, 0, logits), -1)
            view.look(node, ())
            view.statements.clear()
            assert view.packed(link, link.parent) == view.ledger.packed(link, link.parent)
            assert len(view.statements) == (2 if count > 3 else 1)
            assert view.version(link, link.parent) == number


def test_chunks_that_were_seen_are_dropped(ledgers):
    view, node = ParentView(ledgers[0]), NodeId("d1")
    view.stage(node, digest_of(b"ab"), b"ab")
    view.look(node, ())
    view.drop(node)
    assert view.staged(node) == 0
