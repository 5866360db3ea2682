"""The child's end against the real parent's end, both on real ledgers; the wire between them loses what it likes."""

import random
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ends import CHILD, LINK, PARENT, SMALL, Ends, knowledge
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import embeddings

from fedagg_edge.ledger.fold import only
from fedagg_edge.records import SampleSet, Tier
from fedagg_edge.wire.child import _STEPS, Idle, Step
from fedagg_edge.wire.events import (
    EntriesTaken,
    EntryCommitted,
    Finished,
    KnowledgeAccepted,
    KnowledgeArrived,
    NoticeArrived,
    ReceiptsTaken,
    Refused,
    Welcomed,
)
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Behind, Exchanged, Problem, encode
from fedagg_edge.wire.parent import ParentEnd
from fedagg_edge.wire.tensors import dump_embeddings

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"
FAULTS = ("lost request", "lost answer", "late answer", "twice", "restart")


@pytest.fixture
def ends(tmp_path):
    made = Ends(tmp_path)
    yield made
    made.close()


def work(ends):
    """Something of everything: own batches short and long, entries of the parent, knowledge both ways."""
    ends.send(2)
    ends.send(60, start=100)
    ends.settle()
    ends.write("d7", 40)
    ends.send(3, start=400)
    ends.publish(ends.parent, PARENT, 0)
    ends.publish(ends.child, CHILD, 0, basis=0)


def test_everything_arrives_once(ends):
    work(ends)
    ends.settle()
    ends.check()
    assert ends.child.embeddings(CHILD).samples.origins == ("d1", "d7")
    assert len(ends.child.embeddings(CHILD)) == 105
    kinds = {type(e) for e in ends.events}
    assert {Welcomed, EntryCommitted, KnowledgeArrived, KnowledgeAccepted} <= kinds
    assert not [e for e in ends.events if isinstance(e, Refused)]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("every", [2, 3])
def test_a_fault_at_every_step(ends, fault, every):
    work(ends)
    for turn in range(200):
        if ends.settled():
            break
        ends.trip(fault if turn % every else "")
    ends.settle()
    ends.check()
    assert len(ends.child.embeddings(CHILD)) == 105


@pytest.mark.parametrize("step", range(14))
def test_a_restart_after_each_answer(ends, step):
    work(ends)
    for _ in range(step):
        ends.trip()
    ends.restart()
    ends.settle()
    ends.check()


def bound(ends, **limits):
    """The parent takes less, or more, from now on; the child hears of it in its next Welcome."""
    ends.above = ParentEnd(replace_limits(ends.above.terms, limits))
    ends.below.greet()


def replace_limits(terms, limits):
    return replace(terms, limits=Limits(**({f: getattr(SMALL, f) for f in Limits.__struct_fields__} | limits)))


def turns(ends, most=60):
    """Until the child is idle or polls."""
    for _ in range(most):
        answer = ends.trip()
        if isinstance(answer, Idle):
            return
    return


def held_by(ledger):
    found = ledger.samples(CHILD)
    return {o: c.tolist() for o, c in zip(found.origins, found.counters, strict=True)}


@pytest.fixture
def edge_ends(tmp_path):
    made = Ends(tmp_path, role=Tier.EDGE)  # which has other nodes' rows, too
    yield made
    made.close()


def test_one_row_over_what_the_parent_takes_is_set_aside_and_the_rest_goes_on(edge_ends):
    """All rows of a link have codes of one length; their origins' names do not."""
    ends = edge_ends
    ends.send(2)
    ends.settle()
    size = len(dump_embeddings(embeddings("d1-with-a-longer-name", 1)))
    bound(ends, entry_bytes=size - 1)
    ends.child.send(embeddings("d1-with-a-longer-name", 2))
    ends.send(3, start=10)
    ends.publish(ends.child, CHILD, 0)
    turns(ends)
    assert held_by(ends.parent) == {"d1": [0, 1, 10, 11, 12]}
    assert ends.parent.newest(LINK, CHILD).knowledge.version == 0
    assert not [e for e in ends.events if isinstance(e, Refused)]  # it was not even asked for
    assert [b.rows for b in ends.below.aside] == [1, 1]
    assert [b.rows for b in ends.child.pending()] == [1, 1]  # not lost, not acknowledged
    assert held_by(ends.child) == {"d1": [0, 1, 10, 11, 12]}
    bound(ends, entry_bytes=size)
    ends.settle()
    ends.check()
    assert held_by(ends.parent)["d1-with-a-longer-name"] == [0, 1]
    ends.trip()
    assert ends.below.aside == ()


def test_what_was_set_aside_is_forgotten_in_order(edge_ends):
    ends = edge_ends
    ends.send(2)
    ends.settle()
    bound(ends, entry_bytes=len(dump_embeddings(embeddings("d1-with-a-longer-name", 1))) - 1)
    ends.child.send(embeddings("d1-with-a-longer-name", 1))
    turns(ends)
    assert len(ends.below.aside) == 1
    ends.child.retire(embeddings("d1-with-a-longer-name", 1).samples)
    ends.settle()  # the batch is short now; its sample never comes to the parent
    ends.check()
    assert held_by(ends.parent) == {"d1": [0, 1]}


@pytest.mark.parametrize("ready", [True, False])
def test_what_is_set_aside_is_offered_again_by_itself_once_the_parent_takes_it(ends, ready):
    """Also by a device whose log is empty, which exchanges nothing: it says hello again every minute or so."""
    bound(ends, entry_bytes=16)
    ends.below.ready = ready
    ends.send(4)
    turns(ends)
    assert [b.rows for b in ends.below.aside] == [1] * 4
    hellos = [e for e in ends.events if isinstance(e, Welcomed)]
    began = ends.now
    for _ in range(100):
        ends.below.next(ends.now)  # asked for at any time: pokes do not have it say hello more often
        ends.trip()
    assert 0 < len([e for e in ends.events if isinstance(e, Welcomed)]) - len(hellos) <= (ends.now - began) / 30 + 1
    ends.above = ParentEnd(replace_limits(ends.above.terms, {}))
    ends.settle()
    ends.check()
    assert held_by(ends.parent) == {"d1": [0, 1, 2, 3]}


def test_a_batch_that_the_parent_refuses_is_set_aside_until_it_says_welcome_again(ends):
    """The link holds all the samples that it may: no append goes, what forgets some does, and then there is room."""
    ends.send(3)
    ends.settle()
    bound(ends, samples=3)
    ends.send(1, start=50)
    ends.publish(ends.child, CHILD, 0)
    turns(ends, 10)
    assert [e.problem.code for e in ends.events if isinstance(e, Refused)] == ["too_large"]
    assert [b.rows for b in ends.below.aside] == [1]
    assert ends.parent.newest(LINK, CHILD).knowledge.version == 0
    ends.child.retire(SampleSet.of(CHILD, np.array([1], np.uint64)))
    turns(ends, 4)
    assert held_by(ends.parent) == {"d1": [0, 2]}
    ends.below.greet()
    ends.settle()
    ends.check()
    assert held_by(ends.parent) == {"d1": [0, 2, 50]}


action = st.sampled_from(("send", "send long", "write", "forget", "above", "below", "trip", "trip", "trip", *FAULTS))


@settings(max_examples=25, derandomize=True)
@given(st.lists(action, min_size=10, max_size=45))
def test_any_schedule_of_faults(actions):
    with tempfile.TemporaryDirectory() as folder:
        ends = Ends(Path(folder))
        try:
            own = foreign = version = 0
            for what in actions:
                if what.startswith("send"):
                    count = 50 if what == "send long" else 2
                    ends.send(count, start=own)
                    own += count
                elif what == "write":
                    ends.write("d7", 3, start=foreign)
                    foreign += 3
                elif what == "forget":
                    ends.forget("d7")
                elif what == "above" and ends.child.acknowledged().entry:
                    ends.publish(ends.parent, PARENT, version := version + 1)
                elif what == "below" and ends.child.acknowledged().entry:
                    ends.publish(ends.child, CHILD, version := version + 1)
                elif what == "trip" or what in FAULTS:
                    ends.trip("" if what == "trip" else what)
            ends.settle()
            if ends.parent.head(CHILD).entry:
                ends.check()
                assert sum(len(ends.child.embeddings(CHILD).only(ids)) for ids in own_ids(ends)) == own
        finally:
            ends.close()


def own_ids(ends):
    samples = ends.child.embeddings(CHILD).samples
    return [SampleSet.of(o, c) for o, c in zip(samples.origins, samples.counters, strict=True) if o == CHILD]


def test_rows_forgotten_before_the_answer_came(ends):
    ends.send(5)
    while not ends.parent.head(CHILD).entry:
        ends.trip("lost answer" if ends.below._needed == [] else "")
    ends.parent.forget(CHILD)
    ends.settle()
    assert ends.child.acknowledged() == ends.parent.head(CHILD)
    assert len(ends.child.samples(CHILD)) == 0
    assert not [e for e in ends.events if isinstance(e, Refused)]


def test_a_child_that_lost_its_ledger_gets_its_rows_back(ends, tmp_path):
    ends.send(5)
    ends.settle()
    ends.child.close()
    ends.child = _fresh(ends, tmp_path)
    ends.restart()
    ends.settle()
    ends.check()


def lose(ends, tmp_path):
    """The child has nothing but its certificate, and what it takes in from now on."""
    ends.child.close()
    ends.child = _fresh(ends, tmp_path)
    ends.restart()
    ends.events.clear()


def own_keys(ledger):
    return [e.key for e in ledger.entries(CHILD, 0) if e.key is not None]


@pytest.mark.parametrize("first", ["log", "batch"])
@pytest.mark.parametrize("role", [Tier.DEVICE, Tier.EDGE])
@pytest.mark.parametrize("ready", [True, False])
def test_a_child_that_lost_its_ledger_adds_to_its_log(tmp_path, first, role, ready):
    ends = Ends(tmp_path, role=role)
    ends.send(3)
    ends.settle()
    ends.send(40, start=3)  # comes in chunks
    ends.settle()
    lose(ends, tmp_path)
    ends.below.ready = ready
    if first == "log":
        ends.settle()
    ends.send(2, start=43)
    ends.settle()
    ends.check()
    assert held_by(ends.parent) == {"d1": list(range(45))}
    assert own_keys(ends.parent) == [1, 2, 3]
    assert not [e for e in ends.events if isinstance(e, Refused)]
    # its node begins when it is welcomed: only then does it know which numbers it gave
    assert [type(e) for e in ends.events] == [EntriesTaken, EntriesTaken, Welcomed, EntryCommitted]
    ends.close()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", range(14))
def test_a_child_that_lost_its_ledger_is_killed_or_cut_off_at_any_step(ends, tmp_path, fault, step):
    for start in (0, 3, 43):
        ends.send(40 if start == 3 else 3, start=start)
        ends.settle()
    lose(ends, tmp_path)
    ends.send(2, start=46)
    ends.send(50, start=48)
    for _ in range(step):
        ends.trip()
    ends.trip(fault)
    if not ends.child.joined():
        assert own_keys(ends.parent) == [1, 2, 3]  # nothing of its own goes before
        assert not [e for e in ends.events if isinstance(e, Welcomed)]
    ends.settle()
    ends.check()
    assert held_by(ends.parent) == {"d1": list(range(98))}
    assert sorted(own_keys(ends.parent)) == own_keys(ends.parent)
    assert ends.child.joined()


def test_an_entry_under_the_key_of_a_batch_that_was_never_sent_is_not_taken_for_it(ends, tmp_path):
    """Of the same samples, too: a source may give the first files first again."""
    ends.send(3)
    ends.settle()
    lose(ends, tmp_path)
    rows = embeddings(CHILD, 3)
    ends.child.send(only(rows, rows.samples.only(np.array([True, True, False]))))
    ends.settle()
    ends.check()
    assert held_by(ends.parent) == {"d1": [0, 1, 2]}
    assert own_keys(ends.parent) == [1, 2]


def test_a_parent_that_takes_back_what_it_said_of_its_log_is_asked_anew(ends, tmp_path):
    ends.send(3)
    ends.settle()
    lose(ends, tmp_path)
    ends.trip()
    request = ends.below.next(ends.now)
    empty = Exchanged(-1, 0, (), None, (), False, 0.0)
    (refused,) = ends.below.receive(request, Response(200, encode(empty)), ends.now)
    assert refused.problem.code == "malformed"
    assert ends.below.step is Step.HELLO
    ends.settle()
    assert ends.child.joined()


def test_a_child_that_is_new_begins_at_once_and_one_whose_answer_was_lost_sends_it_again(ends):
    ends.send(3)
    ends.trip()
    assert ends.child.joined()
    ends.trip("lost answer")
    ends.restart()
    ends.settle()
    assert own_keys(ends.parent) == [1]
    paths = [type(e) for e in ends.events]
    assert EntriesTaken not in paths
    assert ends.parent.get(f"present/{CHILD}") is None  # it is not here before all of it is


def _fresh(ends, tmp_path):
    (tmp_path / "again").mkdir()
    return ends._open(tmp_path / "again", CHILD, ends.peer.role)


def test_another_layout_of_chunks_than_the_default(tmp_path):
    # larger chunks and messages than this version's own defaults: both ends must cut alike
    ends = Ends(tmp_path, Limits(message=1 << 20, inline=16, chunk=2 << 20))
    try:
        work(ends)
        ends.settle()
        ends.check()
        assert ends.below.limits.chunk == 2 << 20
    finally:
        ends.close()


def test_knowledge_replaced_while_it_was_fetched(ends):
    ends.send(60)
    ends.settle()
    ends.publish(ends.parent, PARENT, 1)
    while not isinstance(answer := ends.trip(), Idle) and ends.below._download is None:
        pass
    assert answer.status == 200
    ends.trip()
    ends.publish(ends.parent, PARENT, 2)
    ends.settle()
    ends.check()
    assert not [e for e in ends.events if isinstance(e, Refused)]


def test_knowledge_that_does_not_fit_is_given_up_and_the_next_one_goes(ends):
    ends.send(4)
    ends.settle()
    ends.child.put_knowledge(knowledge(CHILD, 0, "ab" * 32, 4), -1)
    while not [e for e in ends.events if isinstance(e, Refused)]:
        ends.trip()
    assert ends.events[-1].problem.code == "unknown_digest"
    assert ends.below.step is not Step.REFUSED
    ends.publish(ends.child, CHILD, 1)
    ends.settle()
    ends.check()


def test_notices_and_the_end(ends):
    ends.trip()
    ends.parent.notify(CHILD, "renew", b"\xc0")
    ends.trip()
    assert [e.notice.kind for e in ends.events if isinstance(e, NoticeArrived)] == ["renew"]
    ends.child.put("noticed", 1)
    ends.parent.put("finished", True)
    for _ in range(4):
        ends.trip()
    assert sum(isinstance(e, Finished) for e in ends.events) == 1
    assert sum(isinstance(e, NoticeArrived) for e in ends.events) == 1


def test_after_the_end_what_a_child_has_to_say_goes_at_once(tmp_path):
    """Only its questions for news wait for a minute: a receipt or a batch would take as long a level."""
    ends, waiting = Ends(tmp_path, role=Tier.EDGE), []
    ends.below.state.receipts = lambda: tuple(waiting)
    ends.send(1)
    ends.settle()
    ends.parent.put("finished", True)
    while not isinstance(idle := ends.below.next(ends.now), Idle):
        ends.events += ends.below.receive(idle, ends.ask(idle), ends.now)
    assert 60.0 <= idle.until - ends.now <= 90.0
    ends.send(2, start=1)
    assert ends.trip().status == 200
    assert ends.child.acknowledged().entry == 2
    assert ends.below.next(ends.now) == idle  # the batch's answer does not end the pause
    ends.publish(ends.child, CHILD, 1)
    ends.trip()
    assert any(isinstance(e, KnowledgeAccepted) for e in ends.events)
    waiting.append(b"one")
    ends.trip()
    assert ends.parent.get(f"receipts/{CHILD}") == [b"one"]
    assert isinstance(ends.below.next(ends.now), Idle)  # also while the parent's answer is not kept here
    waiting.append(b"two")
    assert not isinstance(ends.below.next(ends.now), Idle)
    ends.close()


def test_a_draining_parent_is_asked_later(ends):
    ends.trip()
    ends.parent.put("draining", 7.0)
    ends.send(1)
    begun = ends.now
    ends.trip()
    assert isinstance(idle := ends.below.next(ends.now), Idle)
    assert begun + 7.0 <= idle.until <= begun + 10.5
    ends.parent.put("draining", None)
    ends.settle()
    ends.check()


def test_children_that_were_told_the_same_wait_come_back_over_half_of_it(ends):
    """A thousand of them in half a second would be refused again."""
    for told in ("refused", "finished"):
        waits = []
        for seed in range(200):
            ends.restart()
            ends.below.rng = random.Random(seed)
            if told == "refused":
                request = ends.below.next(ends.now)
                problem = encode(Problem("draining", "stops", 60.0))
                ends.below.receive(request, Response(503, problem, 60.0), ends.now)
            else:
                ends.parent.put("finished", True)
                ends.trip()
                ends.trip()
            waits.append(ends.below.next(ends.now).until - ends.now)
        spread = sorted(wait - 60.0 for wait in waits)
        assert 0.0 <= spread[0] <= spread[-1] <= 30.0
        for part in range(6):  # each twelfth of a minute gets its share
            assert sum(5.0 * part <= s < 5.0 * part + 5.0 for s in spread) >= 15


def test_waits_double_up_to_a_minute_whether_no_answer_came_or_an_unreadable_one(ends):
    for garbage in (False, True):
        ends.restart()
        ends.below.rng = random.Random(3)
        longest = 0.0
        for _ in range(40):
            request = ends.below.next(ends.now)
            if garbage:
                (refused,) = ends.below.receive(request, Response(200, b"\xc1"), ends.now)
                assert refused.problem.code == "malformed"
            else:
                ends.below.failed(request, ends.now)
            idle = ends.below.next(ends.now)
            assert idle.until - ends.now <= 60.0
            longest = max(longest, idle.until - ends.now)
            ends.now = idle.until
        assert longest > 30.0


@pytest.mark.parametrize("status", [401, 403, 404, 426])
def test_a_refusal_waits_and_says_hello_again(ends, status):
    request = ends.below.next(ends.now)
    body = encode(Problem("revoked", "no", None))
    assert ends.below.receive(request, Response(status, body), ends.now) == (
        Refused(status, Problem("revoked", "no", None)),
    )
    assert ends.below.step is Step.REFUSED
    idle = ends.below.next(ends.now)
    assert isinstance(idle, Idle)
    assert idle.until >= ends.now + 15.0
    assert ends.below.next(idle.until).path == "/v1/hello"


def test_what_is_no_answer_changes_nothing(ends):
    ends.send(1)
    ends.trip()
    request = ends.below.next(ends.now)
    before = ends.child.pending()
    for answer in (Response(302), Response(200, b""), Response(409, encode(Behind(1, ())))):
        (refused,) = ends.below.receive(request, answer, ends.now)
        assert refused.problem.code == "malformed"
        assert ends.child.pending() == before
        ends.below._wake, ends.below.step = 0.0, Step.SYNC
        request = ends.below.next(ends.now)
        assert isinstance(request, Request)
    ends.settle()
    ends.check()


@settings(max_examples=60, derandomize=True)
@given(st.binary(max_size=300), st.sampled_from((200, 204, 301, 400, 404, 409, 413, 429, 500, 503)), st.integers(0, 5))
def test_no_answer_whatever_breaks_the_end(body, status, trips):
    with tempfile.TemporaryDirectory() as folder:
        ends = Ends(Path(folder), SMALL)
        try:
            ends.send(30)
            for _ in range(trips):
                ends.trip()
            request = ends.below.next(ends.now)
            if isinstance(request, Request):
                ends.below.receive(request, Response(status, body), ends.now)
            ends.settle()
            ends.check()
        finally:
            ends.close()


def test_samples_that_were_let_go_while_they_waited(ends):
    ends.send(5)
    ends.child.retire(SampleSet.of(CHILD, np.array([0, 1], np.uint64)))
    ends.settle()
    assert not [e for e in ends.events if isinstance(e, Refused)]
    assert ends.child.acknowledged() == ends.parent.head(CHILD)


def test_the_page_draws_the_same_steps():
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", PAGE.read_text(), re.MULTILINE)
    drawn = {a: set(re.findall(r"\w+", b)) for a, b in rows if a in set(Step)}
    assert drawn == {str(a): {str(b) for b in bs} for a, bs in _STEPS.items()}


def test_receipts_travel_with_exchanges_until_one_was_answered(tmp_path):
    ends, waiting = Ends(tmp_path, role=Tier.EDGE), []
    ends.below.state.receipts = lambda: tuple(waiting)
    while ends.below.step != Step.EXCHANGE:
        ends.trip()
    waiting += [b"one", b"two"]
    ends.trip("lost answer")
    assert ends.parent.get(f"receipts/{CHILD}") == [b"one", b"two"]
    assert not [e for e in ends.events if isinstance(e, ReceiptsTaken)]
    while not (taken := [e for e in ends.events if isinstance(e, ReceiptsTaken)]):
        ends.trip()
    assert taken == [ReceiptsTaken((b"one", b"two"))]
    assert ends.parent.get(f"receipts/{CHILD}") == [b"one", b"two"]  # once, though they came twice
    waiting.clear()
    ends.trip()
    assert len([e for e in ends.events if isinstance(e, ReceiptsTaken)]) == 1
    ends.close()


def test_greeting_hears_the_welcome_again_and_loses_nothing(ends):
    work(ends)
    for _ in range(4):
        ends.trip()
        ends.below.greet()
    ends.settle()
    assert len([e for e in ends.events if isinstance(e, Welcomed)]) >= 2
    before = len([e for e in ends.events if isinstance(e, Welcomed)])
    ends.below.greet()
    assert ends.below.next(ends.now + 100).path == "/v1/hello"
    ends.settle()
    assert before >= 2


def test_a_parent_that_takes_short_entries_gets_short_ones(tmp_path):
    made = Ends(tmp_path, Limits(chunk=256, inline=64, entry_rows=10, entry_bytes=2048, staged=2048))
    made.send(25)
    made.send(4, start=50)
    made.child.retire(SampleSet.of(CHILD, np.arange(5, dtype=np.uint64)))
    made.send(1, start=60)
    made.settle()
    made.check()
    assert [e.rows for e in made.parent.entries(CHILD, 0)] == [10, 10, 4, 5, 1]
    assert len(made.parent.samples(CHILD)) == 25 + 4 - 5 + 1
    assert not [e for e in made.events if isinstance(e, Refused)]
    made.close()


def test_an_entry_is_cut_to_the_bytes_that_a_parent_takes_and_lets_it_stage(tmp_path):
    made = Ends(tmp_path, Limits(chunk=256, inline=64, entry_bytes=4096, staged=700))
    made.send(100)
    made.settle()
    made.check()
    entries = made.parent.entries(CHILD, 0)
    assert sum(e.rows for e in entries) == 100
    assert 1 < len(entries) < 20
    assert max(e.size for e in entries) <= 700
    made.close()


def test_a_batch_that_was_committed_before_the_limit_was_lowered_is_not_doubled(ends):
    ends.send(30)
    while (request := ends.below.next(ends.now)).path != "/v1/append":
        ends.below.receive(request, ends.ask(request), ends.now)
    assert ends.ask(request).status == 200  # the answer is lost
    ends.below.failed(request, ends.now)
    lower = Limits(chunk=256, inline=64, entry_rows=10, entry_bytes=65_536, staged=65_536)
    ends.above = ParentEnd(replace(ends.above.terms, limits=lower))
    ends.settle()
    ends.check()
    assert len(ends.parent.samples(CHILD)) == 30


def test_rows_from_above_come_however_short_the_entries_are_that_the_parent_takes(tmp_path):
    made = Ends(tmp_path, Limits(chunk=256, inline=64, entry_rows=4, entry_bytes=1024, staged=1024))
    made.send(1)
    made.settle()
    made.write("d7", 200)
    made.settle()
    made.check()
    assert len(made.child.samples(CHILD)) == 201
    made.close()
