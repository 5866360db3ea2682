import numpy as np
import pytest

from fedagg_edge.errors import Conflict
from fedagg_edge.records import Knowledge, Link, LogitsFormat, NodeId, PackedLogits

LINK = Link(NodeId("d1"), NodeId("cloud"))


def version(number, value=0.0):
    logits = PackedLogits(LogitsFormat.F32, np.full((2, 3), value, np.float32))
    return Knowledge("f", LINK, LINK.child, number, "00" * 32, 0, logits)


def test_two_versions_are_kept_and_the_newest_wins_whatever_the_order(cloud):
    assert cloud.newest(LINK, LINK.child) is None
    assert cloud.put_knowledge(version(1), 0)
    assert cloud.put_knowledge(version(2, 2.0), 1, at=7.0)
    assert not cloud.put_knowledge(version(2, 2.0), 1)
    assert not cloud.put_knowledge(version(0), 0)
    assert cloud.put_knowledge(version(5), 3)
    found = cloud.newest(LINK, LINK.child)
    assert (found.knowledge.version, found.basis, found.at) == (5, 3, 1000.0)
    assert cloud.knowledge(LINK, LINK.child, 2).at == 7.0
    assert cloud.knowledge(LINK, LINK.child, 2).knowledge.logits.value_NC[0, 0] == 2.0
    assert cloud.knowledge(LINK, LINK.child, 1) is None
    assert cloud.newest(LINK, LINK.parent) is None


def test_a_version_has_one_content(cloud):
    cloud.put_knowledge(version(1), 0)
    with pytest.raises(Conflict, match="version 1 of d1 came with two contents"):
        cloud.put_knowledge(version(1, 1.0), 0)
    assert cloud.newest(LINK, LINK.child).knowledge.logits.value_NC[0, 0] == 0.0


def test_the_oldest_rows_place_is_used_again(cloud):
    for number in range(1, 9):
        cloud.put_knowledge(version(number, float(number)), number - 1, at=float(number))
        kept = cloud.db.all("SELECT rowid, version, basis, at FROM knowledge ORDER BY version")
        assert [row[1:] for row in kept] == [(n, n - 1, n) for n in (number - 1, number) if n]
        assert {row[0] for row in kept} <= {1, 2}
    assert cloud.knowledge(LINK, LINK.child, 7).knowledge.logits.value_NC[0, 0] == 7.0


def test_rows_over_those_that_are_kept_go(cloud):
    for number in (1, 2):
        cloud.put_knowledge(version(number), 0)
    cloud.db.execute("INSERT INTO knowledge SELECT child, parent, publisher, 0, basis, at, federation, digest,"
                     " view_seed, format, rows, classes, logits FROM knowledge WHERE version = 1")  # fmt: skip
    cloud.put_knowledge(version(3), 0)
    assert cloud.db.all("SELECT version FROM knowledge ORDER BY version") == [(2,), (3,)]
