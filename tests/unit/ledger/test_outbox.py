from dataclasses import replace

import numpy as np
import pytest
from exchange import commit, content, meet
from toys import embeddings

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.ledger.fold import pick
from fedagg_edge.ledger.log import Kind
from fedagg_edge.ledger.numbering import counters_given
from fedagg_edge.ledger.outbox import expected, held, pending, split
from fedagg_edge.records import Embeddings, NodeId, SampleSet, Tier, counters
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.tensors import dump_samples


def test_an_answer_that_does_not_fit_is_refused_and_the_batch_stays(device):
    key = device.send(embeddings("d1", 2))
    with pytest.raises(RemoteProtocolError, match="got entry 2, expected 1"):
        device.set_acknowledged(key, 2, "00" * 32)
    with pytest.raises(RemoteProtocolError, match="the parent names set 0000"):
        device.set_acknowledged(key, 1, "00" * 32)
    assert device.acknowledged().entry == 0
    assert [batch.key for batch in device.pending()] == [key]


def test_entries_that_do_not_fit_are_refused_whole(device, edge):
    commit(edge, "d1", embeddings("d1", 2), key=1)
    commit(edge, "d1", embeddings("d1", 2, start=2), key=2)
    first, second = edge.entries("d1", 0)
    with pytest.raises(RemoteProtocolError, match="got entry 2, expected 1"):
        device.follow([second])
    with pytest.raises(RemoteProtocolError, match="the parent names set 0000"):
        device.follow([first, replace(second, digest="00" * 32)])
    with pytest.raises(RemoteProtocolError, match="without its payload"):
        device.follow([replace(first, payload=None)])
    assert device.acknowledged().entry == 0
    device.follow([first, second])
    device.follow([first])
    with pytest.raises(RemoteProtocolError, match="this node has"):
        device.follow([replace(first, digest="00" * 32)])


def test_keys_are_never_used_twice(device, edge):
    keys = []
    for start in range(3):
        keys.append(device.send(embeddings("d1", 1, start=start)))
        meet(device, edge)
    assert keys == [1, 2, 3]
    assert device.batch_bytes(1) == b""


@pytest.mark.parametrize("origins", [("d1",), ("d2", "d10"), tuple(f"d{i}" for i in range(30)), ()])
def test_what_the_parent_will_have_of_some_origins_is_that_part_of_all(edge, origins):
    for i in range(20):
        commit(edge, f"d{i}", embeddings(f"d{i}", 3), key=1)
    commit(edge, "d2", embeddings("d2", 2, start=3), key=2)
    edge.append("d10", Kind.FORGET, dump_samples(SampleSet.of(NodeId("d10"), counters(1, 1))), key=None, by="parent")
    names = tuple(map(NodeId, origins))
    everything = expected(edge.db, edge.node)
    assert len(everything) == 20 * 3 + 2 - 1
    assert expected(edge.db, edge.node, names).digest == pick(everything, names).digest


def test_no_batch_is_longer_than_what_a_parent_takes_in_an_entry(device, edge):
    limits, count = Limits(), 70_000
    many, wide = embeddings("d1", count), embeddings("d1", 3, start=count)
    device.send(many)
    assert [batch.rows for batch in device.pending()] == [32_768, 32_768, 4_464]
    meet(device, edge)
    assert content(edge.embeddings("d1")) == content(many)
    assert max(b.rows for b in edge.pending()) <= limits.entry_rows
    device.retire(many.samples)
    assert [(b.kind, b.rows) for b in device.pending()] == [
        (Kind.FORGET, 32_768), (Kind.FORGET, 32_768), (Kind.FORGET, 4_464),
    ]  # fmt: skip
    meet(device, edge)
    assert len(edge.samples("d1")) == len(device.samples("d1")) == 0
    device.send(wide)
    assert device.pending()[0].rows == 3


def test_bytes_bound_a_batch_too(device):
    wide = embeddings("d1", 40)
    codes = np.arange(40 << 20, dtype=np.uint32).astype(np.uint8).reshape(40, 1 << 20)
    device.send(Embeddings(wide.samples, codes, wide.label_N))
    assert [batch.rows for batch in device.pending()] == [15, 15, 10]
    assert max(batch.size for batch in device.pending()) < Limits().entry_bytes
    assert content(held(device.db, device.node)) == content(Embeddings(wide.samples, codes, wide.label_N))


def test_what_a_new_parent_lacks_comes_in_batches_that_it_takes(device, edge, make):
    many = embeddings("d1", 70_000)
    device.send(many)
    meet(device, edge)
    device.rebase([], 1)
    assert [batch.rows for batch in device.pending()] == [32_768, 32_768, 4_464]
    other = make("edge-b", Tier.EDGE)
    meet(device, other)
    assert content(other.embeddings("d1")) == content(many)


def test_batches_are_cut_in_their_order_and_what_waits_behind_them_stays_behind(device, edge):
    device.send(embeddings("d1", 2))
    device.send(embeddings("d1", 10, start=10))
    device.retire(SampleSet.of(NodeId("d1"), counters(10, 3)))
    device.send(embeddings("d1", 1, start=50))
    before, waits = expected(device.db, device.node), pending(device.db)
    with device.transaction():
        split(device.db, 4, 1 << 20)
    cut = pending(device.db)
    assert [(b.kind, b.rows) for b in cut] == [
        (Kind.APPEND, 2), (Kind.APPEND, 4), (Kind.APPEND, 3), (Kind.FORGET, 3), (Kind.APPEND, 1),
    ]  # fmt: skip
    assert cut[0].key == waits[0].key
    assert cut[1].key > waits[-1].key
    assert cut[1].at == waits[1].at
    assert expected(device.db, device.node).digest == before.digest
    with device.transaction():
        split(device.db, 4, 1 << 20)
    assert pending(device.db) == cut
    meet(device, edge)
    assert edge.samples("d1").digest == before.digest


def test_what_cannot_be_shorter_stays_one_row(device):
    device.send(embeddings("d1", 3))
    with device.transaction():
        split(device.db, 100, 1)
    assert [b.rows for b in pending(device.db)] == [1, 1, 1]
    with device.transaction():
        split(device.db, 100, 1)
    assert [b.key for b in pending(device.db)] == [2, 3, 4]


def lost(make, name="d1", tier=Tier.DEVICE):
    """The node's ledger, empty: the state of before is gone."""
    for path in make(name, tier).db.path.parent.glob(f"{name}.ledger*"):
        path.unlink()
    return make(name, tier)


def news(parent, child="d1"):
    return parent.entries(NodeId(child), 0, inline=1 << 30)


def test_a_log_names_what_a_node_gave_before_it_lost_its_state(device, edge, make):
    for start in (0, 3):
        device.send(embeddings("d1", 3, start=start))
        meet(device, edge)
    device.retire(SampleSet.of(NodeId("d1"), counters(4, 2)))
    meet(device, edge)
    again = lost(make)
    again.follow(news(edge))
    assert counters_given(again.db) == 6  # the forgotten ones are named, too
    assert again.send(embeddings("d1", 2, start=6)) == 4
    meet(again, edge)
    assert edge.samples("d1").counters[0].tolist() == [0, 1, 2, 3, 6, 7]


def test_only_the_order_to_forget_names_a_sample_whose_row_was_erased(device, edge, make):
    device.send(embeddings("d1", 3))
    meet(device, edge)
    edge.forget(NodeId("d1"))
    again = lost(make)
    again.follow(news(edge)[:1])
    assert counters_given(again.db) == 0
    again.follow(news(edge)[1:])
    assert counters_given(again.db) == 3


def test_other_nodes_samples_and_the_parents_entries_raise_nothing(edge, make):
    cloud = make()
    commit(cloud, "edge-a", embeddings("d1", 3), by="parent")
    edge.follow(news(cloud, "edge-a"))
    assert counters_given(edge.db) == 0
    assert edge.send(embeddings("d2", 1)) == 1


def test_what_waits_when_a_node_hears_of_its_lost_state_gets_new_keys(edge, make):
    """Also what an inner node took in for its children, and some of which was forgotten since."""
    cloud = make()
    commit(edge, "d1", embeddings("d1", 3), key=1)
    meet(edge, cloud)
    again = lost(make, "edge-a", Tier.EDGE)
    commit(again, "d2", embeddings("d2", 4), key=1)
    again.append("d2", Kind.FORGET, dump_samples(SampleSet.of(NodeId("d2"), counters(1, 2))), key=2, by="child")
    commit(again, "d3", embeddings("d3", 1), key=1)
    before = again.pending(inline=1 << 30)
    assert [b.key for b in before] == [1, 2, 3]
    again.follow(news(cloud, "edge-a"))
    assert not again.joined()
    again.join()
    assert again.joined()
    after = again.pending(inline=1 << 30)
    assert [b.key for b in after] == [4, 5, 6]
    assert [replace(b, key=0) for b in after] == [replace(b, key=0) for b in before]
    again.join()
    assert again.pending(inline=1 << 30) == after
    meet(again, cloud)
    assert [e.key for e in news(cloud, "edge-a")] == [1, 4, 5, 6]
    assert content(cloud.embeddings("edge-a")) == content(again.embeddings("edge-a"))
    assert {o: c.tolist() for o, c in zip(*sets(cloud, "edge-a"), strict=True)} == {
        "d1": [0, 1, 2], "d2": [0, 3], "d3": [0],
    }  # fmt: skip


def sets(ledger, child):
    found = ledger.samples(child)
    return found.origins, found.counters


def test_a_node_that_is_new_keeps_its_keys(device):
    key = device.send(embeddings("d1", 2))
    device.join()
    assert [b.key for b in device.pending()] == [key] == [1]


def test_a_node_that_loses_its_state_and_moves_gives_no_number_twice(device, edge, make):
    device.send(embeddings("d1", 3))
    meet(device, edge)
    device.send(embeddings("d1", 2, start=3))
    meet(device, edge)
    again = lost(make)
    again.rebase(news(edge), 1)
    assert again.joined()
    assert again.pending() == []  # that it has not these rows says not that it has forgotten them
    assert counters_given(again.db) == 5
    assert again.send(embeddings("d1", 1, start=5)) == 3
