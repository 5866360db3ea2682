import numpy as np
import pytest
from exchange import commit, meet
from toys import embeddings

from fedagg_edge.errors import Conflict
from fedagg_edge.ledger.knowledge import versions
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import Knowledge, Link, LogitsFormat, NodeId, PackedLogits, SampleSet, Tier
from fedagg_edge.wire.tensors import check_logits, dump_samples

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


def test_packed_is_the_newest_as_it_is_kept(cloud):
    assert cloud.packed(LINK, LINK.child) is None
    for number in (1, 2):
        cloud.put_knowledge(version(number, float(number)), number - 1)
    found, newest = cloud.packed(LINK, LINK.child), cloud.newest(LINK, LINK.child)
    assert (found.version, found.basis, found.digest) == (2, newest.basis, newest.knowledge.digest)
    assert (found.format, found.rows, found.classes) == ("f32", 2, 3)
    assert found.data == newest.knowledge.logits.value_NC.tobytes()
    cloud.db.execute("UPDATE knowledge SET logits = NULL WHERE version = 2")  # forgotten
    assert cloud.packed(LINK, LINK.child).version == 1


EDGE, CLOUD = NodeId("edge-a"), NodeId("cloud")
SHARED = Link(EDGE, CLOUD)
TYPES = {LogitsFormat.F32: np.float32, LogitsFormat.F16: np.float16, LogitsFormat.INT8: np.int8}


def said(ledger, publisher, number, digest=None, *, value=1.5, form=LogitsFormat.F32, link=SHARED, rows=6):
    """Keep knowledge about the set `digest`, that at the link's head if not given; what `put_knowledge` says."""
    digest = digest or ledger.head(link.child).digest
    int8 = form is LogitsFormat.INT8
    value_NC = np.full((rows, 3), 2 * value if int8 else value, TYPES[form])
    scale_N = np.full(rows, 0.5, np.float32) if int8 else None
    return ledger.put_knowledge(
        Knowledge("f", link, publisher, number, digest, 0, PackedLogits(form, value_NC, scale_N)), -1
    )


def left(ledger, publisher, link=SHARED):
    """What the newest version says, one number a row."""
    logits = ledger.newest(link, publisher).knowledge.logits
    scale_N = 1.0 if logits.scale_N is None else logits.scale_N
    return list(logits.value_NC[:, 0] * scale_N)


@pytest.fixture
def both(edge, cloud):
    """An edge with three rows of each of two devices, all of them at the cloud, too: the digest of that set."""
    for device in ("a", "b"):
        commit(edge, device, embeddings(device, 3), key=1)
    meet(edge, cloud)
    return cloud.head(EDGE).digest


GONE = [0, 0, 0, 1.5, 1.5, 1.5]


@pytest.mark.parametrize("form", list(LogitsFormat))
@pytest.mark.parametrize("publisher", [EDGE, CLOUD])
def test_late_knowledge_is_kept_without_what_was_forgotten(cloud, both, publisher, form):
    """The edge's next version, or the cloud's own, that was made before the order and comes after the receipt."""
    said(cloud, publisher, 1, form=form)
    cloud.forget("a")
    assert left(cloud, publisher) == GONE
    for number in (2, 3):
        assert said(cloud, publisher, number, both, form=form)
        assert left(cloud, publisher) == GONE
    packed = cloud.packed(SHARED, publisher)
    check_logits(packed.data, packed.format, packed.rows, packed.classes)
    assert said(cloud, publisher, 4, form=form, rows=3)
    assert left(cloud, publisher) == [1.5, 1.5, 1.5]


@pytest.mark.parametrize("publisher", [EDGE, CLOUD])
def test_an_edge_keeps_nothing_about_forgotten_rows_on_its_own_link(edge, both, publisher):
    """Where its last entry names them still, until the cloud's has come."""
    edge.forget("a")
    assert edge.head(EDGE).digest == both
    said(edge, publisher, 1)
    assert left(edge, publisher) == GONE


@pytest.mark.parametrize("publisher", [EDGE, NodeId("a")])
def test_late_knowledge_on_the_link_of_who_was_forgotten_says_nothing(edge, both, publisher):
    link = Link(NodeId("a"), EDGE)
    digest = edge.head("a").digest
    edge.forget("a")
    said(edge, publisher, 1, digest, link=link, rows=3)
    assert left(edge, publisher, link) == [0, 0, 0]


def test_rows_that_cannot_be_told_apart_are_none_of_them_kept(edge, cloud, make):
    """An edge that lost its state takes over a log whose rows were forgotten: their ids come no more."""
    for device in ("a", "b"):
        commit(edge, device, embeddings(device, 3), key=1)
    meet(edge, cloud)
    digest = cloud.head(EDGE).digest
    cloud.forget("a")
    other = make("edge-b", Tier.EDGE)
    other.follow(cloud.entries(EDGE, 0, inline=1 << 30))
    link = Link(NodeId("edge-b"), CLOUD)
    said(other, CLOUD, 1, digest, link=link)
    assert left(other, CLOUD, link) == [0] * 6
    said(other, CLOUD, 2, "ab" * 32, link=link)  # its entry is on the way
    assert left(other, CLOUD, link) == [1.5] * 6
    assert other.forget("c").knowledge == 2
    assert other.version(link, CLOUD) == -1
    assert said(other, CLOUD, 2, "ab" * 32, link=link)  # the cloud is asked for it again, and has forgotten before
    assert other.version(link, CLOUD) == 2


def test_a_version_that_comes_again_after_rows_of_it_were_forgotten_is_the_same(cloud, both):
    said(cloud, EDGE, 1)
    cloud.forget("a")
    assert not said(cloud, EDGE, 1, both)
    assert not said(cloud, EDGE, 1, both)
    with pytest.raises(Conflict, match="two contents"):
        said(cloud, EDGE, 1, both, value=2.5)
    retired = SampleSet.of(NodeId("b"), np.array([0], np.uint64))
    cloud.append(EDGE, Kind.FORGET, dump_samples(retired), key=9, by="child")
    assert not said(cloud, EDGE, 1, both)
    assert left(cloud, EDGE) == [0, 0, 0, 0, 1.5, 1.5]


def test_what_was_emptied_whole_comes_back_without_its_rows_and_is_not_asked_for_for_ever(edge, both):
    link, digest = Link(NodeId("a"), EDGE), edge.head("a").digest
    said(edge, link.child, 1, link=link, rows=3)
    edge.forget("a")
    assert edge.version(link, link.child) == -1
    assert said(edge, link.child, 1, digest, link=link, rows=3)
    assert not said(edge, link.child, 1, digest, link=link, rows=3)
    assert (edge.version(link, link.child), left(edge, link.child, link)) == (1, [0, 0, 0])
    assert versions(edge.db, link, link.child) == [1]


def test_rows_that_came_after_the_receipt_go_from_knowledge_too_when_the_child_forgets_them(edge, cloud, both):
    """A batch was on its way when the cloud forgot: the edge has them forgotten when the order has reached it."""
    cloud.forget("a")
    commit(edge, "a", embeddings("a", 2, start=3), key=2)
    late = edge.pending(inline=1 << 30)[0]
    edge.follow(cloud.entries(EDGE, edge.acknowledged().entry, inline=1 << 30))
    cloud.append(EDGE, late.kind, late.payload, key=late.key, by="child")
    said(cloud, EDGE, 1, rows=5)
    said(cloud, CLOUD, 1, rows=5)
    assert left(cloud, EDGE) == [1.5] * 5
    edge.forget("a")
    meet(edge, cloud)
    assert cloud.samples(EDGE).origins == ("b",)
    for publisher in (EDGE, CLOUD):
        assert left(cloud, publisher) == [0, 0, 1.5, 1.5, 1.5]


def test_knowledge_on_the_link_to_a_parent_before_is_emptied(edge, cloud, make, both):
    """Its set is in no log any more."""
    said(edge, EDGE, 1)
    other = make("cloud-b")
    edge.rebase(other.entries(EDGE, 0, inline=1 << 30), 1)
    assert edge.forget("a").knowledge == 1
    assert edge.newest(SHARED, EDGE) is None


@pytest.fixture
def link(device, edge):
    """The device's, both ends of which keep what both said of its three samples."""
    link = Link(NodeId("d1"), EDGE)
    device.send(embeddings("d1", 3))
    meet(device, edge)
    for ledger in (device, edge):
        for publisher in link.child, link.parent:
            said(ledger, publisher, 1, link=link, rows=3)
    return link


def test_what_was_known_about_a_retired_sample_goes_at_both_ends(device, edge, link):
    device.retire(SampleSet.of(link.child, np.array([1], np.uint64)))
    meet(device, edge)
    for ledger in (device, edge):
        for publisher in link.child, link.parent:
            assert left(ledger, publisher, link) == [1.5, 0, 1.5]


def test_what_was_known_about_a_sample_that_the_parent_forgets_goes_at_both_ends(device, edge, link):
    gone = SampleSet.of(link.child, np.array([1], np.uint64))
    edge.append(link.child, Kind.FORGET, dump_samples(gone), key=None, by="parent")
    device.follow(edge.entries(link.child, 1, inline=1 << 30))
    for ledger in (device, edge):
        for publisher in link.child, link.parent:
            assert left(ledger, publisher, link) == [1.5, 0, 1.5]
