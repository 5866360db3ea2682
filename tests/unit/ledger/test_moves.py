import pytest
from exchange import commit, content
from toys import embeddings

from fedagg_edge.errors import RemoteProtocolError


def test_a_move_is_made_once_and_an_older_one_cannot_undo_it(cloud):
    commit(cloud, "a", embeddings("d1", 2), key=1)
    old = cloud.head("a").digest
    moved = cloud.move_in("b", embeddings("d1", 2), 2)
    assert cloud.move_in("b", embeddings("d1", 2), 2) == moved
    with pytest.raises(RemoteProtocolError, match="got fence 1 from a, it moved to b with fence 2"):
        cloud.move_in("a", embeddings("d1", 2), 1)
    assert content(cloud.embeddings("b")) == content(embeddings("d1", 2))
    assert content(cloud.embeddings("a", old)) == content(embeddings("d1", 2))
    assert [e.by for e in cloud.entries("a", 0)] == ["child", "parent"]


def test_back_again(cloud):
    commit(cloud, "a", embeddings("d1", 2), key=1)
    cloud.move_in("b", embeddings("d1", 2), 1)
    cloud.move_in("a", embeddings("d1", 2), 2)
    assert (len(cloud.samples("a")), len(cloud.samples("b"))) == (2, 0)
