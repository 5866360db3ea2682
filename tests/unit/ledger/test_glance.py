import numpy as np

from fedagg_edge.ledger import nodes
from fedagg_edge.ledger.glance import glance
from fedagg_edge.ledger.log import Kind
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
from fedagg_edge.wire.tensors import dump_embeddings

CHILD, PARENT = NodeId("d1"), NodeId("cloud")
LINK = Link(CHILD, PARENT)


def version(number):
    logits = PackedLogits(LogitsFormat.F32, np.zeros((2, 3), np.float32))
    return Knowledge("f", LINK, CHILD, number, "00" * 32, 0, logits)


def test_of_a_stranger_there_is_nothing(cloud):
    seen = glance(cloud.db, CHILD, PARENT, ("a",))
    assert (seen.node, seen.head, seen.fence) == (None, cloud.head(CHILD), 0)
    assert (seen.versions, seen.staged, seen.notice) == ({CHILD: -1, PARENT: -1}, False, 0)
    assert (seen.kept, seen.given, seen.facts) == ((), None, {"a": None})


def test_it_says_what_the_ledger_says(cloud):
    rows = Embeddings(SampleSet.of(CHILD, counters(0, 3)), np.ones((3, 4), np.uint8), np.zeros(3, np.int64))
    cloud.enrol(CHILD, Tier.DEVICE, "5e")
    cloud.append(CHILD, Kind.APPEND, dump_embeddings(rows), key=1, by="child")
    cloud.stage(CHILD, bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), b"")
    cloud.put_knowledge(version(4), -1)
    cloud.notify(NodeId("d2"), "note", b"")
    cloud.put("b", [1])
    for _ in range(2):
        seen = glance(cloud.db, CHILD, PARENT, ("a", "b"))
        assert seen.node == cloud.facts_of(CHILD)
        assert (seen.head, seen.fence) == (cloud.head(CHILD), cloud.fence(CHILD))
        assert seen.versions == {CHILD: 4, PARENT: cloud.version(LINK, PARENT)}
        assert (seen.kept, seen.given) == ((4,), None)
        assert (seen.staged, seen.notice, seen.facts) == (True, 1, {"a": None, "b": b"\x91\x01"})
        nodes.revoke(cloud.db, CHILD, 5.0)


def test_what_was_forgotten_is_kept_as_a_version_and_is_not_the_newest(cloud):
    for number in (9, 10):
        cloud.put_knowledge(version(number), -1)
    cloud.db.execute("UPDATE knowledge SET logits = NULL WHERE version = 10")
    seen = glance(cloud.db, CHILD, PARENT, ())
    assert (seen.kept, seen.versions[CHILD]) == ((10, 9), 9)
    cloud.db.execute("UPDATE knowledge SET logits = NULL")
    seen = glance(cloud.db, CHILD, PARENT, ())
    assert (seen.kept, seen.versions[CHILD]) == ((10, 9), -1)


def test_it_is_of_before_whatever_was_written_since(cloud):
    seen = glance(cloud.db, CHILD, PARENT, ())
    assert seen.writes == cloud.db.writes
    cloud.head(CHILD)
    assert seen.writes == cloud.db.writes
    cloud.put("a", 1)
    assert seen.writes < cloud.db.writes
