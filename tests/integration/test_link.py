"""One link, both ends back to back on real ledgers, whatever gets lost, doubled or restarted between them."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "wire"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from pairs import DEVICE, EDGE, LINK, SMALL, Pair
from toys import embeddings

from fedagg_edge.errors import StorageFull
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import NodeId, SampleSet
from fedagg_edge.wire import child as ends
from fedagg_edge.wire.child import Idle
from fedagg_edge.wire.chunks import digest_of, split
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.knowledge import wire_knowledge
from fedagg_edge.wire.messages import Exchange, Exchanged, Problem, decode, encode
from fedagg_edge.wire.tensors import dump_embeddings, dump_logits, dump_samples


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path)
    yield made
    made.close()


def kinds(pair):
    return [type(e).__name__ for e in pair.events]


def test_samples_go_up_and_knowledge_both_ways(pair):
    pair.send(5, 0)
    pair.send(3, 5)
    pair.settle()
    pair.publish(pair.parent, EDGE, 0)
    pair.settle()
    pair.publish(pair.child, DEVICE, 0, basis=0)
    pair.settle()
    pair.assert_same()
    assert len(pair.parent.samples(DEVICE)) == 8
    assert kinds(pair) == ["Welcomed", "EntryCommitted", "EntryCommitted", "KnowledgeArrived", "KnowledgeAccepted"]


def test_what_is_long_goes_in_chunks_both_ways(tmp_path):
    pair = Pair(tmp_path, limits=SMALL)
    pair.send(200, 0)
    pair.settle(200)
    pair.publish(pair.parent, EDGE, 0)
    pair.settle(200)
    pair.publish(pair.child, DEVICE, 0, basis=0)
    pair.settle(200)
    pair.assert_same()
    assert pair.parent.staged(DEVICE) == 0
    pair.close()


@pytest.mark.parametrize("count", [2, 200])
def test_entries_that_the_parent_wrote_are_taken_over(tmp_path, count):
    pair = Pair(tmp_path, limits=SMALL)
    pair.settle()
    rows = embeddings(DEVICE, count, start=1000)
    pair.parent.append(DEVICE, Kind.APPEND, dump_embeddings(rows), key=None, by="parent")
    pair.send(4, 0)  # meets a log that has grown: 409, the missing entry, and again
    pair.settle(200)
    gone = SampleSet.of(DEVICE, np.array([1000], np.uint64))
    pair.parent.append(DEVICE, Kind.FORGET, dump_samples(gone), key=None, by="parent")
    pair.settle(200)
    pair.assert_same()
    assert len(pair.child.samples(DEVICE)) == count + 4 - 1
    pair.close()


def test_an_answer_that_was_lost_is_not_counted_twice(pair):
    pair.send(5, 0)
    for _ in range(40):
        step = pair.talker.next(pair.clock())
        if isinstance(step, Idle):
            pair.clock.now = step.until
            continue
        answer = pair.ask(step)
        if pair.clock.now < 1_000_050:  # everything is lost on the way back for a while
            pair.talker.failed(step, pair.clock())
            pair.clock.now += 10
            continue
        pair.talker.receive(step, answer, pair.clock())
    pair.settle()
    pair.assert_same()
    assert pair.parent.head(DEVICE).entry == 1


def test_retries_wait_longer_and_longer_at_random_moments(pair):
    waits = []
    for _ in range(12):
        step = pair.talker.next(pair.clock())
        pair.talker.failed(step, pair.clock())
        idle = pair.talker.next(pair.clock())
        waits.append(idle.until - pair.clock())
        pair.clock.now = idle.until
    assert all(w <= min(60.0, 0.5 * 2**i) for i, w in enumerate(waits))
    assert max(waits[6:]) > 10
    pair.settle()
    assert pair.talker._failures == 0


def test_a_late_answer_changes_nothing(pair):
    pair.send(5, 0)
    first = pair.turn() and pair.talker.next(pair.clock())
    answer = pair.ask(first)
    pair.talker.failed(first, pair.clock())
    assert pair.talker.receive(first, answer, pair.clock()) == ()
    pair.settle()
    pair.assert_same()


def test_a_body_that_cannot_be_read_counts_as_no_answer(pair):
    step = pair.talker.next(pair.clock())
    (event,) = pair.talker.receive(step, Response(200, b"\xc1not msgpack"), pair.clock())
    assert event.problem.code == "malformed"
    assert isinstance(pair.talker.next(pair.clock()), Idle)
    pair.settle()


@pytest.mark.parametrize(("status", "least"), [(403, 10), (426, 290), (422, 25)])
def test_a_refusal_is_told_and_tried_again_much_later(pair, status, least):
    step = pair.talker.next(pair.clock())
    body = encode(Problem("role", "no", None))
    (event,) = pair.talker.receive(step, Response(status, body), pair.clock())
    assert (event.status, pair.talker.step) == (status, ends.Step.REFUSED)
    assert pair.talker.next(pair.clock()).until - pair.clock() > least
    pair.clock.now += 1000
    pair.settle()


def test_the_servers_retry_window_is_kept(pair):
    step = pair.talker.next(pair.clock())
    body = encode(Problem("rate", "slow down", 20.0))
    assert pair.talker.receive(step, Response(429, body, 20.0), pair.clock()) == ()
    assert 20.0 <= pair.talker.next(pair.clock()).until - pair.clock() <= 30.0


def test_who_owes_an_answer_does_not_hold_a_long_poll_open(pair):
    pair.send(5, 0)
    pair.settle()
    pair.publish(pair.parent, EDGE, 0)
    pair.settle(8)
    step = pair.talker.next(pair.clock())
    while isinstance(step, Idle):
        pair.clock.now = step.until
        step = pair.talker.next(pair.clock())
    assert decode(Exchange, step.body, pair.limits).wait == 0.0
    pair.talker.receive(step, pair.ask(step), pair.clock())
    pair.publish(pair.child, DEVICE, 0, basis=0)
    step = pair.talker.next(pair.clock())
    assert decode(Exchange, step.body, pair.limits).knowledge.version == 0
    assert decode(Exchange, step.body, pair.limits).wait > 0


def test_knowledge_that_the_parent_will_never_take_is_not_sent_for_ever(pair):
    pair.send(5, 0)
    pair.settle()
    pair.publish(pair.child, DEVICE, 0)
    step = pair.talker.next(pair.clock())
    body = encode(Problem("unknown_digest", "which set?", None))
    (event,) = pair.talker.receive(step, Response(422, body), pair.clock())
    assert event.problem.code == "unknown_digest"
    again = pair.talker.next(pair.clock())
    assert decode(Exchange, again.body, pair.limits).knowledge is None
    pair.talker.receive(again, pair.ask(again), pair.clock())
    pair.publish(pair.child, DEVICE, 1)
    pair.settle()
    assert pair.given() == 1


def test_chunks_of_versions_that_were_replaced_or_are_there_already_do_not_stay_staged(tmp_path):
    """They counted against the link's room for ever, until nothing could be sent any more."""
    pair = Pair(tmp_path, limits=SMALL)
    pair.send(150, 0)
    pair.settle(200)
    for version in range(0, 60, 2):
        pair.publish(pair.child, DEVICE, version)
        while (request := pair.turn()) is None or request.method != "PUT":
            pass
        assert pair.parent.staged(DEVICE) > 0
        pair.publish(pair.child, DEVICE, version + 1)  # before the first one's chunks have all come
        pair.settle(200)
        assert (pair.given(), pair.parent.staged(DEVICE)) == (version + 1, 0)
    newest = pair.parent.newest(LINK, DEVICE)
    given = wire_knowledge(newest, SMALL)
    for version in (given.version, given.version - 1):  # a late copy, and one of an older version
        for part in split(dump_logits(newest.knowledge.logits), SMALL.chunk):
            assert pair.ask(Request("PUT", f"/v1/chunks/{digest_of(part).hex()}", part)).status == 204
        assert pair.parent.staged(DEVICE) > 0
        again = msgspec.structs.replace(given, version=version)
        asked = Exchange(pair.heard(), pair.child.acknowledged().entry, 0, 0.0, 0, again)
        assert pair.ask(Request("POST", "/v1/exchange", encode(asked))).status == 200
        assert pair.parent.staged(DEVICE) == 0
    pair.close()


@pytest.mark.parametrize("known", [True, False])
def test_what_is_on_its_way_when_anybody_is_forgotten_comes_again(tmp_path, known):
    """Half a payload may hold rows of who is forgotten, an edge's of any device below it: no byte of it stays."""
    pair = Pair(tmp_path, limits=SMALL)
    pair.send(200, 0)
    if known:  # else its link begins with what is on the way
        pair.settle(200)
        pair.publish(pair.child, DEVICE, 0)
    while not pair.parent.staged(DEVICE):
        pair.turn()
    half = pair.parent.db.all("SELECT bytes FROM chunks")
    assert pair.parent.forget(NodeId("another")).scrubbed
    assert pair.parent.staged(DEVICE) == 0
    files = b"".join(path.read_bytes() for path in tmp_path.glob("*") if path.name.startswith("parent"))
    assert files
    assert all(bytes(content)[:64] not in files for (content,) in half)
    pair.settle(200)
    pair.assert_same()
    assert len(pair.parent.samples(DEVICE)) == 200
    assert pair.given() == (0 if known else -1)
    pair.close()


def test_the_end_of_the_training_is_told_once_and_polls_become_rare(pair):
    pair.send(5, 0)
    pair.settle()
    pair.parent.put("finished", True)
    told = pair.clock()
    while "Finished" not in kinds(pair):
        pair.turn()
    assert pair.clock() - told < 30  # a poll's answer
    began, requests = pair.clock(), 0
    while pair.clock() < began + 3600:
        requests += pair.turn() is not None
    assert 30 < requests <= 60
    assert kinds(pair).count("Finished") == 1


def test_after_the_end_news_come_within_a_minute_and_all_of_them_at_once(pair):
    pair.send(5, 0)
    pair.settle()
    pair.parent.put("finished", True)
    for _ in range(6):
        pair.turn()
    for start in (1000, 2000):
        rows = embeddings(DEVICE, 3, start=start)
        pair.parent.append(DEVICE, Kind.APPEND, dump_embeddings(rows), key=None, by="parent")
    for _ in range(3):
        pair.parent.notify(DEVICE, "renew", bytes(10_000))  # one fits into an answer
    pair.child.put("noticed", 0)
    began, seen = pair.clock(), []
    while len(seen) < 3:
        pair.turn()
        for event in pair.events:
            if isinstance(event, ends.NoticeArrived) and event.notice.number not in seen:
                seen.append(event.notice.number)
                pair.child.put("noticed", event.notice.number)
    assert pair.clock() - began < 120
    pair.assert_same()


def test_notices_come_until_they_were_noticed(pair):
    pair.settle()
    pair.parent.notify(DEVICE, "drain", msgspec.msgpack.encode({}))
    for _ in range(4):
        pair.turn()
    assert kinds(pair).count("NoticeArrived") >= 2
    notice = next(e.notice for e in pair.events if isinstance(e, ends.NoticeArrived))
    pair.child.put("noticed", notice.number)
    pair.turn()
    pair.events.clear()
    pair.turn()
    assert kinds(pair) == []


def test_another_federation_is_not_talked_to(pair):
    step = pair.talker.next(pair.clock())
    pair.talker.federation = "other"
    (event,) = pair.talker.receive(step, pair.ask(step), pair.clock())
    assert "expected 'other'" in event.problem.message


def test_wrong_bytes_behind_a_right_digest_are_not_taken(pair):
    pair.send(5, 0)
    pair.settle()
    pair.publish(pair.parent, EDGE, 0)
    step = pair.talker.next(pair.clock())
    whole = decode(Exchanged, pair.ask(step).body, pair.limits)
    payload = msgspec.structs.replace(whole.knowledge.payload, inline=bytes(len(whole.knowledge.payload.inline)))
    forged = msgspec.structs.replace(whole, knowledge=msgspec.structs.replace(whole.knowledge, payload=payload))
    (event,) = pair.talker.receive(step, Response(200, encode(forged)), pair.clock())
    assert "of another digest" in event.problem.message
    assert pair.heard() == -1


ACTIONS = st.lists(
    st.sampled_from(["turn", "lose", "drop", "twice", "restart", "sample", "teach", "learn", "write", "forget"]),
    max_size=60,
)


def one_request(pair, fate):
    """One turn of the child over a network that may lose the request or its answer, or deliver it twice."""
    step = pair.talker.next(pair.clock())
    if isinstance(step, Idle):
        pair.clock.now = step.until
        return
    if fate == "lose":  # it never arrived
        pair.talker.failed(step, pair.clock())
        return
    answer = pair.ask(step)
    if fate == "drop":  # the answer never arrived
        pair.talker.failed(step, pair.clock())
        return
    if fate == "twice":
        answer = pair.ask(step)
    pair.talker.receive(step, answer, pair.clock())


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, small=st.booleans())
def test_nothing_is_lost_and_nothing_counted_twice_whatever_happens(tmp_path_factory, actions, small):
    pair = Pair(tmp_path_factory.mktemp("pair"), limits=SMALL if small else ends.Limits())
    sent, written, versions = 0, 0, {DEVICE: 0, EDGE: 0}
    for action in actions:
        pair.clock.now += 1.0
        if action == "sample":
            pair.send(70, sent)
            sent += 70
        elif action == "write":
            rows = embeddings(DEVICE, 70, start=10_000 + written)
            pair.parent.append(DEVICE, Kind.APPEND, dump_embeddings(rows), key=None, by="parent")
            written += 70
        elif action == "forget" and written:
            written_first = SampleSet.of(DEVICE, np.array([10_000], np.uint64))
            if written_first.contains(pair.parent.samples(DEVICE)).any():
                pair.parent.append(DEVICE, Kind.FORGET, dump_samples(written_first), key=None, by="parent")
        elif action == "teach" and len(pair.parent.samples(DEVICE)):
            pair.publish(pair.parent, EDGE, versions[EDGE])
            versions[EDGE] += 1
        elif action == "learn" and len(pair.child.samples(DEVICE)):
            pair.publish(pair.child, DEVICE, versions[DEVICE], basis=pair.heard())
            versions[DEVICE] += 1
        elif action == "restart":
            pair.restart()
        elif action in ("turn", "lose", "drop", "twice"):
            one_request(pair, action)
    pair.clock.now += 100
    pair.settle(600)
    pair.assert_same()
    numbers = [int(c) for counter_N in pair.parent.samples(DEVICE).counters for c in counter_N]
    assert [c for c in numbers if c < 10_000] == list(range(sent))
    assert set(range(10_001, 10_000 + written)) <= set(numbers) <= set(range(10_000 + written))
    pair.close()


def test_an_answer_that_could_not_be_kept_is_asked_for_again(pair):
    pair.send(5, 0)
    pair.settle()
    pair.publish(pair.parent, EDGE, 0)
    step = pair.talker.next(pair.clock())
    real = pair.child.put_knowledge

    def full(*_):
        raise StorageFull("no room")

    pair.child.put_knowledge = full
    with pytest.raises(StorageFull):
        pair.talker.receive(step, pair.ask(step), pair.clock())
    pair.child.put_knowledge = real
    pair.talker.failed(step, pair.clock())
    assert isinstance(pair.talker.next(pair.clock()), Idle)
    pair.settle()
    assert pair.heard() == 0
