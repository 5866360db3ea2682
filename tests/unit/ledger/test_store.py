import pytest
from exchange import content, meet
from toys import embeddings

from fedagg_edge.errors import DataError
from fedagg_edge.ledger.store import LedgerStore


def test_a_cloud_reads_by_child_by_digest_and_all_together(cloud):
    store = LedgerStore(cloud)
    store.append("e1", embeddings("b", 2))
    first = store.read("e1").samples.digest
    store.append("e0", embeddings("c", 1))
    store.append("e1", embeddings("a", 3))
    store.append("e1", embeddings("a", 3))
    assert cloud.head("e1").entry == 2
    assert store.read("e1").samples.origins == ("a", "b")
    assert store.read_all().samples.origins == ("a", "b", "c")
    assert content(store.read("e1", first)) == content(embeddings("b", 2))
    with pytest.raises(DataError, match="no entry left the set 0000"):
        store.read("e1", "0" * 64)
    with pytest.raises(DataError, match="two different contents"):
        store.append("e1", embeddings("a", 2, seed=1))
    with pytest.raises(DataError, match="nothing came through 'e7' yet"):
        store.read("e7")


def test_a_device_reads_what_its_parent_has_committed(device, edge):
    store = LedgerStore(device)
    store.append("d1", embeddings("d1", 2))
    with pytest.raises(DataError, match="nothing came"):
        store.read_all()
    meet(device, edge)
    assert content(store.read_all()) == content(embeddings("d1", 2))


def test_an_empty_cloud(cloud):
    with pytest.raises(DataError, match="nothing to merge"):
        LedgerStore(cloud).read_all()
