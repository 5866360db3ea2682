import pytest
from exchange import commit, content, rows
from toys import embeddings

from fedagg_edge.errors import DataError, RemoteProtocolError
from fedagg_edge.ledger import log
from fedagg_edge.ledger.fold import Fold
from fedagg_edge.records import Tier


def test_every_digest_names_its_rows(cloud):
    first = commit(cloud, "a", embeddings("d1", 2), key=1)
    second = commit(cloud, "a", embeddings("d2", 3), key=2)
    assert (first.entry, second.entry, cloud.head("a")) == (1, 2, second)
    assert content(cloud.embeddings("a", first.digest)) == content(embeddings("d1", 2))
    assert cloud.samples("a", second.digest).digest == second.digest
    assert log.links(cloud.db) == ["a"]


def test_entries_come_in_order_with_payloads_up_to_a_size(cloud):
    commit(cloud, "a", embeddings("d1", 2), key=1)
    commit(cloud, "a", embeddings("d1", 50, start=2), key=2)
    small, large = cloud.entries("a", 0, inline=100)
    assert (small.payload, large.payload, large.rows) == (rows(embeddings("d1", 2)), None, 50)
    whole = rows(embeddings("d1", 50, start=2))
    assert cloud.entry_bytes("a", 2) == whole
    assert cloud.entry_bytes("a", 2, 10, 20) == whole[10:30]
    assert [e.number for e in cloud.entries("a", 1)] == [2]
    assert [e.number for e in cloud.entries("a", 0, limit=1)] == [1]
    with pytest.raises(DataError, match="got entry 3, expected 1 to 2"):
        cloud.entry_bytes("a", 3)


def test_what_is_no_payload_changes_nothing(cloud):
    with pytest.raises(RemoteProtocolError, match="expected b'FAE1'"):
        cloud.append("a", 1, b"rubbish", key=1, by="child")
    with pytest.raises(ValueError, match="not a valid Kind"):
        cloud.append("a", 9, b"", key=1, by="child")
    assert log.links(cloud.db) == []
    with pytest.raises(DataError, match="the parent leads the own log"):
        cloud.append("cloud", 1, b"", key=1, by="child")


def test_logs_in_memory_are_bounded_and_read_again(make):
    edge = make("edge", Tier.EDGE, fold_bytes=2000)
    for name in ("d1", "d2", "d3", "d4"):
        commit(edge, name, embeddings(name, 20), key=1)
    kept = [key[1] for key in edge.db.cache if isinstance(key, tuple) and key[0] == "fold"]
    assert kept[-1] == "edge"
    sizes = [edge.db.cache["fold", name].nbytes for name in kept]
    assert 0 < sum(sizes) <= 2000
    for name in ("d1", "d2", "d3", "d4"):
        commit(edge, name, embeddings(name, 5, start=20), key=2)
        assert len(edge.samples(name)) == 25


def test_rows_of_a_set_are_counted_once_for_the_set_that_is_named(edge, monkeypatch):
    folded, fold = [], log.samples
    monkeypatch.setattr(log, "samples", lambda db, child, digest: folded.append(digest) or fold(db, child, digest))
    first = commit(edge, "d1", embeddings("d1", 4), key=1).digest
    second = commit(edge, "d1", embeddings("d1", 3, start=4), key=2).digest
    assert [edge.rows("d1", d) for d in (first, second, second, first)] == [4, 7, 7, 4]
    assert folded == [first, second, first]
    with pytest.raises(DataError, match="no entry left the set"):
        edge.rows("d1", "00" * 32)


def test_an_entry_that_fails_half_way_leaves_nothing_in_memory(cloud, monkeypatch):
    commit(cloud, "a", embeddings("d1", 2), key=1)
    before = cloud.head("a")

    def no_memory(fold, entry):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Fold, "_moved", no_memory)
        with pytest.raises(MemoryError):
            commit(cloud, "a", embeddings("d1", 2, start=2), key=2)
    assert cloud.head("a") == before
    assert len(cloud.embeddings("a")) == len(cloud.samples("a")) == 2
    assert commit(cloud, "a", embeddings("d1", 1, start=4), key=2).digest == cloud.samples("a").digest
    assert len(cloud.samples("a")) == 3
