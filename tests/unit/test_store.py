import pytest
from toys import embeddings

from fedagg_edge.errors import DataError
from fedagg_edge.store import MemoryStore


def test_rows_are_read_by_child_and_all_together():
    store = MemoryStore()
    store.append("edge-1", embeddings("b", 2))
    store.append("edge-0", embeddings("c", 1))
    store.append("edge-1", embeddings("a", 3))
    assert store.read("edge-1").samples.origins == ("a", "b")
    assert store.read_all().samples.origins == ("a", "b", "c")


def test_appending_again_changes_nothing_and_reading_sees_new_rows():
    store = MemoryStore()
    store.append("e", embeddings("a", 2))
    before = store.read_all().samples.digest
    store.append("e", embeddings("a", 2))
    assert store.read_all().samples.digest == before
    store.append("e", embeddings("a", 2, start=2))
    assert len(store.read_all()) == 4


def test_a_sample_may_not_change():
    store = MemoryStore()
    store.append("e", embeddings("a", 2))
    with pytest.raises(DataError, match="two different contents"):
        store.append("e", embeddings("a", 2, seed=1))
    assert len(store.read("e")) == 2


def test_reading_nothing():
    with pytest.raises(DataError, match="nothing came through 'e' yet"):
        MemoryStore().read("e")
    with pytest.raises(DataError, match="nothing to merge"):
        MemoryStore().read_all()


def test_only_the_current_set_is_kept():
    store = MemoryStore()
    store.append("e", embeddings("a", 2))
    digest = store.read("e").samples.digest
    assert store.read("e", digest) is store.read("e")
    store.append("e", embeddings("a", 2, start=2))
    with pytest.raises(
        DataError, match=f"asked for set {digest[:12]} of 'e', only {store.read('e').samples.digest[:12]}"
    ):
        store.read("e", digest)
