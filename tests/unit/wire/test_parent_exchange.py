import numpy as np
import pytest
from ends import CHILD, LINK, PARENT, Ends, knowledge
from msgspec import structs

from fedagg_edge.ledger.knowledge import Stored
from fedagg_edge.records import Tier
from fedagg_edge.wire import messages as m
from fedagg_edge.wire.chunks import payload_of
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.knowledge import wire_knowledge
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.parent import Later
from fedagg_edge.wire.parent_exchange import MOST_RECEIPTS


@pytest.fixture
def ends(tmp_path):
    made = Ends(tmp_path, Limits())
    made.send(4)
    made.settle()
    yield made
    made.close()


def ask(ends, **changes):
    fields = {"have": -1, "head": 1, "noticed": 0, "wait": 0.0, "fence": 0, **changes}
    return ends.ask(Request("POST", "/v1/exchange", m.encode(m.Exchange(**fields))))


def news(response):
    return m.decode(m.Exchanged, response.body, Limits())


def code(response):
    return response.status, m.decode(m.Problem, response.body, Limits()).code


def given(ends, version, rows=4, digest=None, basis=-1):
    digest = digest or ends.parent.head(CHILD).digest
    return wire_knowledge(Stored(knowledge(CHILD, version, digest, rows), basis, 0.0), Limits())


def test_knowledge_is_committed_once_and_a_late_copy_is_ignored(ends):
    for _ in range(2):
        assert news(ask(ends, knowledge=given(ends, 3))).version == 3
    assert news(ask(ends, knowledge=given(ends, 2))).version == 3
    assert code(ask(ends, knowledge=given(ends, 3, basis=1))) == (409, "conflict")


def test_knowledge_that_is_sent_again_after_rows_of_it_were_forgotten_is_known(ends):
    """The answer to it was lost, and an order to forget has come in between."""
    ends.write("d2", 2)
    sent = given(ends, 3, rows=6)
    assert news(ask(ends, knowledge=sent)).version == 3
    ends.parent.forget("d2")
    kept = ends.parent.newest(LINK, CHILD).knowledge.logits.value_NC
    assert kept[:4].all()
    assert not kept[4:].any()
    assert news(ask(ends, knowledge=sent)).version == 3
    np.testing.assert_array_equal(ends.parent.newest(LINK, CHILD).knowledge.logits.value_NC, kept)
    other = structs.replace(sent, payload=payload_of(np.ones((6, 3), np.float32).tobytes(), Limits()))
    assert code(ask(ends, knowledge=other)) == (409, "conflict")


def test_who_was_forgotten_and_comes_back_does_not_send_its_knowledge_for_ever(ends):
    """Its version is taken, and so it is told."""
    ends.publish(ends.child, CHILD, 3)
    ends.settle()
    ends.parent.forget(CHILD)
    assert ends.parent.newest(LINK, CHILD) is None
    ends.restart()
    sent = [ends.trip() for _ in range(6)]
    assert [isinstance(each, Response) and each.status for each in sent].count(200) == 6
    assert ends.below._given == 3
    assert not ends.parent.newest(LINK, CHILD).knowledge.logits.value_NC.any()


def test_knowledge_that_does_not_fit(ends):
    assert code(ask(ends, knowledge=given(ends, 0, digest="ab" * 32))) == (422, "unknown_digest")
    assert code(ask(ends, knowledge=given(ends, 0, rows=3))) == (422, "unfit")
    assert code(ask(ends, head=2)) == (409, "conflict")
    assert ends.parent.newest(LINK, CHILD) is None


def test_a_poll_waits_for_news(ends):
    body = m.encode(m.Exchange(-1, 1, 0, 1000.0, 0))
    with ends.parent.transaction():
        later = ends.above.handle(ends.view, ends.peer, Request("POST", "/v1/exchange", body), 0.0)
    assert later == Later(CHILD, -1, 1, 0, 60.0)
    assert ends.above.resume(ends.view, ends.peer, later, 59.0) is later
    assert isinstance(ends.above.resume(ends.view, ends.peer, later, 60.0), Response)
    ends.publish(ends.parent, PARENT, 0)
    told = news(ends.above.resume(ends.view, ends.peer, later, 1.0))
    assert told.knowledge.version == 0
    ends.parent.revoke(CHILD)
    assert code(ends.above.resume(ends.view, ends.peer, later, 1.0)) == (403, "revoked")


def test_a_parent_that_is_finished_has_its_children_ask_rarely_once_they_have_heard_all(ends):
    ends.publish(ends.parent, PARENT, 0)
    assert news(ask(ends, have=0)).retry_after == 0.0
    ends.parent.put("finished", True)
    number = ends.parent.notify(CHILD, "renew", b"")
    told = [(0, 1, number), (-1, 1, number), (0, 0, number), (0, 1, 0)]  # all, or knowledge, an entry, a notice is new
    waits = [news(ask(ends, have=have, head=head, noticed=noticed)).retry_after for have, head, noticed in told]
    assert waits == [60.0, 0.0, 0.0, 0.0]
    body = m.encode(m.Exchange(0, 1, number, 1000.0, 0))
    with ends.parent.transaction():  # a poll is not held: who waits has not heard of the end
        answer = ends.above.handle(ends.view, ends.peer, Request("POST", "/v1/exchange", body), ends.now)
    assert news(answer).finished
    ends.parent.put("draining", 7.0)
    assert news(ask(ends, have=0, noticed=number)).retry_after == 7.0


def test_a_device_has_no_receipts_to_give(ends):
    assert code(ask(ends, receipts=(b"a",))) == (403, "role")
    assert ends.parent.get(f"receipts/{CHILD}") is None


@pytest.fixture
def edge(tmp_path):
    made = Ends(tmp_path, Limits(), role=Tier.EDGE)
    made.send(4)
    made.settle()
    yield made
    made.close()


def test_a_receipt_has_a_size(edge):
    assert ask(edge, receipts=(bytes(4096),)).status == 200
    assert code(ask(edge, receipts=(bytes(4097),))) == (400, "malformed")


def test_receipts_are_kept_once(edge):
    ends = edge
    ask(ends, receipts=(b"a", b"b", b"a"))
    ask(ends, receipts=(b"b", b"c"))
    assert list(ends.parent.get(f"receipts/{CHILD}")) == [b"a", b"b", b"c"]
    for first in range(0, MOST_RECEIPTS, 64):  # many of them: the oldest go, and the link goes on
        ask(ends, receipts=tuple(b"%d" % n for n in range(first, first + 64)))
    kept = list(ends.parent.get(f"receipts/{CHILD}"))
    assert (len(kept), kept[0], kept[-1]) == (MOST_RECEIPTS, b"0", b"255")


def test_notices_fit_a_quarter_of_a_message(ends):
    for _ in range(3):
        ends.parent.notify(None, "renew", bytes(10_000))
    assert [n.number for n in news(ask(ends)).notices] == [1]
    assert [n.number for n in news(ask(ends, noticed=2)).notices] == [3]
