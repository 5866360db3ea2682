import pytest
from exchange import commit, content
from toys import embeddings

from fedagg_edge.errors import DataError


def test_rows_of_a_node_that_moved_stay_readable_at_its_old_parent_until_it_is_forgotten(cloud):
    commit(cloud, "a", embeddings("d1", 2), key=1)
    commit(cloud, "a", embeddings("d2", 2), key=2)
    old = cloud.head("a")
    cloud.move_in("b", embeddings("d1", 2), 1)
    assert content(cloud.embeddings("a")) == content(embeddings("d2", 2))
    assert len(cloud.embeddings("a", old.digest)) == 4
    cloud.forget("d1")
    assert content(cloud.embeddings("a")) == content(embeddings("d2", 2))
    assert cloud.samples("a", old.digest).digest == old.digest
    with pytest.raises(DataError, match="forgotten"):
        cloud.embeddings("a", old.digest)


def test_a_committed_key_is_known_after_its_rows_were_erased(cloud):
    first = commit(cloud, "a", embeddings("d1", 2), key=1)
    cloud.forget("d1")
    assert commit(cloud, "a", embeddings("d1", 2), key=1) == first
    assert len(cloud.samples("a")) == 0


def test_forgetting_nobody_and_again(cloud):
    commit(cloud, "a", embeddings("d1", 2), key=1)
    assert [cloud.forget(name).rows for name in ("d2", "d1", "d1")] == [0, 2, 0]
