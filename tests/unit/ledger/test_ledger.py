import numpy as np
import pytest
from exchange import commit, content, meet
from toys import embeddings

from fedagg_edge.errors import Conflict, DataError, OutboxFull, StorageError
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.log import Kind
from fedagg_edge.ledger.outbox import Bounds
from fedagg_edge.records import Embeddings, Knowledge, Link, LogitsFormat, NodeId, PackedLogits, SampleSet, Tier
from fedagg_edge.wire.tensors import dump_samples


def ids(origin, *counters):
    return SampleSet.of(NodeId(origin), np.array(counters, np.uint64))


def test_a_tree_of_three_tiers_agrees(device, edge, cloud):
    device.send(embeddings("d1", 5))
    assert device.send(embeddings("d1", 5)) is None
    with pytest.raises(DataError, match="nothing came"):
        device.embeddings("d1")
    meet(device, edge)
    meet(edge, cloud)
    assert content(device.embeddings("d1")) == content(edge.embeddings("d1")) == content(cloud.embeddings("edge-a"))
    assert device.head("d1").digest == cloud.head("edge-a").digest == embeddings("d1", 5).samples.digest
    assert edge.pending() == []


def test_a_lost_answer_is_given_again(device, edge):
    key = device.send(embeddings("d1", 3))
    payload = device.batch_bytes(key)
    first = edge.append("d1", 1, payload, key=key, by="child")
    again = edge.append("d1", 1, payload, key=key, by="child")
    assert (first, first.already, again.already) == (again, False, True)
    assert len(edge.pending()) == 1
    assert edge.head("d1").entry == 1
    with pytest.raises(Conflict, match="key 1 was committed as entry 1 with other content"):
        commit(edge, "d1", embeddings("d1", 2, start=7), key=key)


def test_an_entry_learnt_by_exchange_before_its_own_answer(device, edge):
    key = device.send(embeddings("d1", 3))
    done = edge.append("d1", 1, device.batch_bytes(key), key=key, by="child")
    device.follow(edge.entries("d1", 0))
    device.set_acknowledged(key, done.entry, done.digest)
    assert device.pending() == []
    meet(device, edge)


def test_labels_held_back_stay_at_the_edge(make, device, cloud):
    edge = make("edge-b", Tier.EDGE, hold_labels=True)
    device.send(embeddings("d1", 4))
    meet(device, edge)
    meet(edge, cloud)
    assert set(cloud.embeddings("edge-b").label_N) == {-1}
    assert content(edge.embeddings("edge-b")) == content(embeddings("d1", 4))


def test_labels_of_a_child_that_asked_for_it_stay_at_its_parent(edge, cloud):
    edge.put("child/d1", {"labels": "first-edge"})
    edge.put("child/d2", {"labels": "all"})
    commit(edge, "d1", embeddings("d1", 3), key=1)
    commit(edge, "d2", embeddings("d2", 3), key=1)
    meet(edge, cloud)
    there = cloud.embeddings("edge-a")
    assert there.samples.origins == ("d1", "d2")
    assert there.label_N.tolist() == [-1, -1, -1, *embeddings("d2", 3).label_N]
    assert edge.embeddings("d1").label_N.min() >= 0


def test_a_device_moves_without_sending_again(make, device, edge, cloud):
    other = make("edge-z", Tier.EDGE)
    commit(other, "d9", embeddings("d9", 2), key=1)
    device.send(embeddings("d1", 4))
    meet(device, edge)
    meet(edge, cloud)
    meet(other, cloud)
    device.send(embeddings("d1", 2, start=4))
    meet(device, edge)  # acknowledged by the old parent, not yet relayed
    cloud.move_in("edge-z", _only(cloud.embeddings("edge-a"), "d1"), 1)
    meet(other, cloud)
    other.move_in("d1", _only(other.embeddings("edge-z"), "d1"), 1)
    assert other.pending() == []
    device.rebase(other.entries("d1", 0), 1)
    assert [batch.rows for batch in device.pending()] == [2]
    assert device.rebase(other.entries("d1", 0), 1) == device.acknowledged()
    meet(device, other)
    meet(other, cloud)
    meet(edge, cloud)  # the old parent's late message
    meet(edge, cloud)
    meet(other, cloud)
    assert len(cloud.embeddings("edge-z")) == 8
    assert len(cloud.samples("edge-a")) == 0
    assert len(other.embeddings("edge-z")) == len(other.samples("d1")) + 2 == 8
    assert cloud.owner("d1").child == "edge-z"


def _only(rows, origin):
    mask = np.concatenate(
        [np.full(len(c), o == origin) for o, c in zip(rows.samples.origins, rows.samples.counters, strict=True)]
    )
    counters = rows.samples.counters[rows.samples.origins.index(origin)]
    return Embeddings(SampleSet.of(origin, counters), rows.code_NB[mask], rows.label_N[mask])


def test_a_late_row_goes_to_the_owner(cloud):
    commit(cloud, "a", embeddings("d1", 2), key=1)
    cloud.move_in("b", embeddings("d1", 2), 1)
    late = commit(cloud, "a", embeddings("d1", 1, start=2), key=2)
    assert late.entry == 3
    assert len(cloud.samples("a")) == 0
    assert len(cloud.samples("b")) == 3
    assert len(cloud.embeddings("a", late.digest)) == 1


PATTERN = b"PLANTED-PRIVATE-ROW!" * 4


def test_forgotten_bytes_are_in_no_file(make, tmp_path):
    edge, cloud = make("edge-a", Tier.EDGE), make()
    code_NB = np.frombuffer(PATTERN * 3, np.uint8).reshape(3, -1).copy()
    other_NB = np.frombuffer(b"x" * 2 * len(PATTERN), np.uint8).reshape(2, -1)
    planted = Embeddings(ids("d1", 0, 1, 2), code_NB, np.zeros(3, np.int64))
    commit(edge, "d1", planted, key=1)
    commit(edge, "d2", Embeddings(ids("d2", 0, 1), other_NB, np.zeros(2, np.int64)), key=1)
    meet(edge, cloud)
    logits = PackedLogits(LogitsFormat.F32, np.arange(1, 16, dtype=np.float32).reshape(5, 3))
    link = Link(NodeId("edge-a"), NodeId("cloud"))
    cloud.put_knowledge(Knowledge("f", link, NodeId("edge-a"), 3, cloud.head("edge-a").digest, 0, logits), -1)
    before = cloud.head("edge-a").digest
    assert any(PATTERN in path.read_bytes() for path in tmp_path.iterdir())
    receipts = [edge.forget("d1"), cloud.forget("d1")]
    meet(edge, cloud)
    assert [(r.rows, r.scrubbed) for r in receipts] == [(3, True), (3, True)]
    assert receipts[1].knowledge == 1
    left_NC = cloud.newest(link, NodeId("edge-a")).knowledge.logits.value_NC
    assert not left_NC[:3].any()  # what was known about its rows is gone, what was known about the others is not
    np.testing.assert_array_equal(left_NC[3:], logits.value_NC[3:])
    assert not [path.name for path in tmp_path.iterdir() if PATTERN in path.read_bytes()]
    assert cloud.samples("edge-a").origins == ("d2",)
    with pytest.raises(DataError, match="forgotten"):
        cloud.embeddings("edge-a", before)
    left, row_N = cloud.remaining("edge-a", before)
    assert (left.samples.origins, list(row_N)) == (("d2",), [3, 4])


def test_retention_goes_up_and_a_batch_on_its_way_may_come_reduced(device, edge, cloud):
    key = device.send(embeddings("d1", 4))
    edge.append("d1", 1, device.batch_bytes(key), key=key, by="child")  # the answer is lost
    assert device.retire(ids("d1", 0))
    # the batch says how many rows still come with it: the parent checks that against the payload
    assert [(b.kind, b.rows) for b in device.pending()] == [(Kind.APPEND, 3), (Kind.FORGET, 1)]
    meet(device, edge)
    meet(edge, cloud)
    assert content(device.embeddings("d1")) == content(cloud.embeddings("edge-a"))
    assert len(cloud.embeddings("edge-a")) == 3


@pytest.mark.parametrize("sent", [0, 1, 2, 3])
def test_rows_may_be_forgotten_before_a_batch_is_sent_and_again_before_its_answer(device, edge, cloud, sent):
    """Whichever version the parent has committed, its digest tells: an answer that fits none would come for ever."""
    key = device.send(embeddings("d1", 5))
    for i in range(4):
        if i == sent:
            edge.append("d1", 1, device.batch_bytes(key), key=key, by="child")  # the answer comes late
        if i < 3:
            device.retire(ids("d1", i))
    done = edge.append("d1", 1, device.batch_bytes(key), key=key, by="child")
    device.set_acknowledged(key, done.entry, done.digest)
    meet(device, edge)
    meet(edge, cloud)
    assert device.embeddings("d1").samples.digest == ids("d1", 3, 4).digest
    assert content(device.embeddings("d1")) == content(cloud.embeddings("edge-a"))
    assert not device.db.all("SELECT key FROM facts WHERE key LIKE 'outbox.%'")


def test_the_outbox_refuses_at_its_bound_and_keeps_what_it_has(make):
    device = make("d1", Tier.DEVICE, outbox=Bounds(size=200))
    device.send(embeddings("d1", 5))
    with pytest.raises(OutboxFull, match="new samples are refused until"):
        device.send(embeddings("d1", 50, start=5))
    assert [batch.rows for batch in device.pending()] == [5]
    old = make("d2", Tier.DEVICE, outbox=Bounds(age=-1.0))
    old.send(embeddings("d2", 1))
    with pytest.raises(OutboxFull, match="the oldest batch waits"):
        old.send(embeddings("d2", 1, start=1))


def test_what_the_parent_does_not_take_does_not_age(tmp_path):
    """One row that is too long for it had all new samples refused after 30 days, although it answers."""
    since_boot = [20.0]
    options = Options(tier=Tier.DEVICE, outbox=Bounds(age=86_400.0), boot_clock=lambda: since_boot[0])
    device = Ledger.open(tmp_path / "d", node=NodeId("d1"), federation="f", options=options)
    device.send(embeddings("d1", 1))
    device.set_aside([device.pending()[0].key])
    since_boot[0] += 10 * 86_400.0
    device.send(embeddings("d1", 1, start=1))
    since_boot[0] += 2 * 86_400.0
    with pytest.raises(OutboxFull, match="the oldest batch waits for 172800"):
        device.send(embeddings("d1", 1, start=2))
    device.close()


@pytest.mark.parametrize("at_boot", [0.0, 1.75e9])  # 1970; the time of its last shutdown
def test_samples_are_not_refused_as_the_clock_was_set_meanwhile(tmp_path, at_boot):
    wall, since_boot = [at_boot], [20.0]
    options = Options(
        tier=Tier.DEVICE, outbox=Bounds(age=30 * 86_400.0), clock=lambda: wall[0], boot_clock=lambda: since_boot[0]
    )
    device = Ledger.open(tmp_path / "d", node=NodeId("d1"), federation="f", options=options)
    device.send(embeddings("d1", 1))
    wall[0], since_boot[0] = 1.79e9, 60.0
    device.send(embeddings("d1", 1, start=1))
    since_boot[0] += 20 * 86_400.0  # it waits in truth
    device.send(embeddings("d1", 1, start=2))
    device.close()
    since_boot[0] = 15.0
    device = Ledger.open(tmp_path / "d", node=NodeId("d1"), federation="f", options=options)  # started again
    wall[0] = at_boot
    device.send(embeddings("d1", 1, start=3))
    since_boot[0] += 11 * 86_400.0
    with pytest.raises(OutboxFull, match="the oldest batch waits for 26784"):
        device.send(embeddings("d1", 1, start=4))
    assert len(device.pending()) == 4
    device.close()


def commit_both(cloud, first, second):
    with cloud.savepoint():
        commit(cloud, "b", first, key=1)
        commit(cloud, "b", second, key=2)


def test_one_of_a_group_fails_alone(cloud):
    with cloud.transaction():
        with cloud.savepoint():
            commit(cloud, "a", embeddings("a", 2), key=1)
        with pytest.raises(DataError, match="two different contents"):
            commit_both(cloud, embeddings("b", 2), embeddings("b", 2, seed=5))
        with cloud.savepoint():
            commit(cloud, "b", embeddings("b", 2, seed=5), key=1)
    assert content(cloud.embeddings("b")) == content(embeddings("b", 2, seed=5))
    assert cloud.head("b").entry == 1


def test_a_ledger_belongs_to_one_node(cloud, tmp_path):
    with pytest.raises(StorageError, match="is the ledger of"):
        Ledger.open(cloud.db.path, node=NodeId("x"), federation="f", options=Options(tier=Tier.CLOUD))


def test_a_second_process_reads_what_the_first_committed(cloud, make):
    second = make()
    commit(cloud, "a", embeddings("a", 2), key=1)
    assert len(second.embeddings("a")) == 2
    commit(second, "a", embeddings("a", 2, start=2), key=2)
    assert len(cloud.embeddings("a")) == 4
    cloud.append("a", Kind.FORGET, dump_samples(ids("a", 0)), key=3, by="child")
    assert len(second.embeddings("a")) == 3
    with pytest.raises(DataError, match="forgotten"):
        second.embeddings("a", embeddings("a", 2).samples.digest)


def test_a_receipt_counts_rows_that_the_parents_entry_has_erased_and_goes_with_its_transaction(edge, cloud):
    commit(edge, "d1", embeddings("d1", 4), key=1)
    commit(edge, "d2", embeddings("d2", 2), key=1)
    meet(edge, cloud)
    told = {}
    cloud.forget("d1", lambda receipt, entries: told.update(entries))
    meet(edge, cloud)  # the entry came first
    assert (edge.forget("d1").rows, told) == (0, {edge.node: edge.acknowledged().entry})
    assert edge.forget("d1", entry=told[edge.node]).rows == 4
    assert edge.forget("d1", entry=99).rows == 0  # one that has not come yet
    assert edge.forget("d2", entry=told[edge.node]).rows == 2

    def fail(receipt, entries):
        raise DataError("no")

    commit(edge, "d3", embeddings("d3", 2), key=1)
    with pytest.raises(DataError, match="no"):
        edge.forget("d3", fail)
    assert len(edge.samples("d3")) == 2


def test_facts_are_found_by_their_prefix(cloud):
    for name in ("a/1", "a/2", "ab", "b/1"):
        cloud.put(name, name)
    assert cloud.find("a/") == {"a/1": "a/1", "a/2": "a/2"}
    assert cloud.find("c") == {}


def test_serials_are_known_once_a_node_had_them(cloud):
    cloud.enrol("d1", Tier.DEVICE, "ab")
    cloud.enrol("d1", Tier.DEVICE, "cd")
    assert [cloud.knows_serial(s) for s in ("ab", "cd", "ef")] == [True, True, False]
