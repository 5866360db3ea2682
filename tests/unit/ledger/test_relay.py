import numpy as np
from exchange import commit, content, meet
from toys import embeddings

from fedagg_edge.ledger import erase, relay
from fedagg_edge.records import Embeddings, Tier
from fedagg_edge.wire.tensors import dump_samples


def test_a_sample_goes_up_once_and_is_forgotten_above_with_the_last_child(edge, cloud):
    commit(edge, "d1", embeddings("x", 3), key=1)
    commit(edge, "d2", embeddings("x", 3), key=1)
    meet(edge, cloud)
    assert len(cloud.samples("edge-a")) == 3


def test_a_childs_retention_goes_up(edge, cloud):
    commit(edge, "d1", embeddings("d1", 3), key=1)
    edge.append("d1", 2, dump_samples(embeddings("d1", 1).samples), key=2, by="child")
    meet(edge, cloud)
    assert content(cloud.embeddings("edge-a")) == content(edge.embeddings("d1"))
    assert len(edge.samples("d1")) == 2


def test_what_a_parent_forgets_is_forgotten_below(device, edge, cloud):
    device.send(embeddings("d1", 3))
    meet(device, edge)
    meet(edge, cloud)
    cloud.forget("d1")
    meet(edge, cloud)
    meet(device, edge)
    assert [len(x.samples("d1")) for x in (device, edge)] == [0, 0]
    assert edge.pending() == []


def test_rows_that_are_forgotten_while_an_answer_is_lost_do_not_come_back(device, edge, cloud):
    device.send(embeddings("d1", 2))
    meet(device, edge)
    (batch,) = edge.pending()
    cloud.append("edge-a", batch.kind, batch.payload, key=batch.key, by="child")  # the edge never hears of it
    device.retire(embeddings("d1", 1).samples)
    meet(device, edge)
    meet(edge, cloud)
    left = embeddings("d1", 2).samples.only(np.array([False, True]))
    for ledger, link in ((device, "d1"), (edge, "d1"), (edge, "edge-a"), (cloud, "edge-a")):
        assert ledger.samples(link).digest == left.digest
    assert edge.head("d1") == device.acknowledged()
    for ledger in (device, edge, cloud):
        assert erase.of_origin(ledger.db, "d1").digest == left.digest


def test_an_own_row_that_is_retired_while_an_answer_is_lost_stays_erased(device, edge):
    device.send(embeddings("d1", 2))
    (batch,) = device.pending()
    edge.append("d1", batch.kind, batch.payload, key=batch.key, by="child")
    device.retire(embeddings("d1", 1).samples)
    device.follow(edge.entries("d1", 0))
    assert len(erase.of_origin(device.db, "d1")) == 1
    meet(device, edge)
    assert len(device.samples("d1")) == len(edge.samples("d1")) == 1


def test_an_own_row_that_is_retired_between_two_parents_stays_erased(make, device, edge):
    device.send(embeddings("d1", 2))
    meet(device, edge)
    other = make("edge-z", Tier.EDGE)
    other.move_in("d1", edge.embeddings("d1"), 1)
    device.retire(embeddings("d1", 1).samples)  # the new parent has not heard of it
    device.rebase(other.entries("d1", 0), 1)
    assert len(erase.of_origin(device.db, "d1")) == 1
    meet(device, other)
    assert len(device.samples("d1")) == len(other.samples("d1")) == 1


def test_rows_of_origins_and_without_labels():
    both = Embeddings.merge([embeddings("a", 2), embeddings("b", 1)])
    assert content(relay.of_origins(both, ["b"])) == content(embeddings("b", 1))
    assert np.array_equal(relay.held_back(both).label_N, [-1, -1, -1])


def test_rows_that_move_come_in_entries_that_a_child_takes(edge):
    relay.give_rows(edge.db, "d1", embeddings("d1", 70_000), 0.0)
    assert [e.rows for e in edge.entries("d1", 0)] == [32_768, 32_768, 4_464]
    assert len(edge.samples("d1")) == 70_000
