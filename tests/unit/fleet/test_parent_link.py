import hashlib
import io
import random
import ssl
import time

import msgspec
import pytest
from identity.worlds import make_world
from serving import server_config
from toys import embeddings

from fedagg_edge.errors import IdentityBusy, IdentityError
from fedagg_edge.fleet import moving, parent_link, parts
from fedagg_edge.fleet.config import parse_fleet_config
from fedagg_edge.fleet.connection import NoAnswer
from fedagg_edge.fleet.keys import ASIDE
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.parent_link import ParentLink
from fedagg_edge.fleet.views import ChildView
from fedagg_edge.identity import revocation
from fedagg_edge.identity.requests import Verified
from fedagg_edge.ledger import outbox
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire import events
from fedagg_edge.wire.child import ChildEnd, Idle, Step
from fedagg_edge.wire.http import Request
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Artefact, MoveTo, Notice, Problem, Welcome, encode
from fedagg_edge.wire.parent import ParentEnd
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.tensors import dump_embeddings
from fedagg_edge.wire.terms import Terms

DEVICE = {
    "federation": "toy",
    "node": {"id": "device-000", "state": "state", "model": "mlp"},
    "parent": {"url": "https://127.0.0.1:1"},
    "data": {"source": "folder", "options": {"path": "private"}},
}


@pytest.fixture
def link(tmp_path):
    """A link whose thread was never started: events are handed to it."""
    config = parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path)
    woken = []
    made = ParentLink(config, config.parent, Tier.DEVICE, Log(io.StringIO()), lambda: woken.append(1))
    ledger = parts.open_ledger(config, Tier.DEVICE)
    made._ledger = ledger
    made._end = ChildEnd(
        ChildView(ledger), NodeId("device-000"), Tier.DEVICE, "toy", "test", random.Random(0), ready=False
    )
    made.woken = woken
    yield made
    ledger.close()


def welcome(*artefacts, finished=False):
    return events.Welcomed(
        Welcome(1, "s", "edge-0", "toy", 10, 1.0, 0, 0, bytes(32), -1, "sync", 7, finished, Limits(), artefacts)
    )


PINNED = Artefact("autoencoder", bytes(range(32)), 9, b"signature", "m")


def test_what_the_parent_says_of_the_federation_is_kept(link):
    link._on_events([welcome(PINNED)])
    assert link._ledger.get("terms") == {
        "parent": "edge-0",
        "classes": 10,
        "mode": "sync",
        "target": 7,
        "autoencoder": PINNED.digest.hex(),
    }
    assert link._end._wanted == [PINNED]
    assert link.woken


def test_the_time_that_the_parent_tells_is_heard(link):
    assert link._clocks.now() is None
    told = welcome()
    link._on_events([events.Welcomed(msgspec.structs.replace(told.welcome, time=2.0e9))])
    now = link._clocks.now()
    assert now.latest >= 2.0e9 > now.earliest


def test_an_artefact_whose_signature_does_not_hold_is_not_kept(link):
    link._on_events([events.ArtefactArrived(PINNED, b"nine bytes")])
    assert link._shelf.listing() == ()


def test_an_artefact_that_a_busy_machine_could_not_verify_is_verified_later(link, monkeypatch):
    asked = []

    def verify(identity, artefact, now):
        asked.append(artefact)
        if len(asked) < 3:
            raise IdentityBusy("no answer within 30 s")
        return Verified(version=0, made=0.0, signer="cloud")

    monkeypatch.setattr(parent_link, "verify", verify)
    content = b"nine bytes"
    artefact = Artefact("autoencoder", hashlib.sha256(content).digest(), len(content), b"signature", "m")
    link._on_events([events.ArtefactArrived(artefact, content)])
    link.look()  # not yet: it has just been tried
    assert (len(asked), link._shelf.listing()) == (1, ())
    for tries in (2, 3):
        monkeypatch.setattr(parent_link, "_PAUSE", 0.0)
        link._unverified = (0.0, *link._unverified[1:])
        link.woken.clear()
        link.look()
        assert len(asked) == tries
        assert link.woken
    assert link._shelf.listing() == (artefact,)
    link.look()
    assert len(asked) == 3
    assert link._log._stream.getvalue().count("verification_delayed") == 2


def test_an_autoencoder_of_a_lower_version_than_one_seen_is_refused(link, monkeypatch):
    """Its signature holds: a parent that kept it could hand it out long after the cloud had another."""
    versions = {b"old": 3, b"new": 4}

    def verify(place, artefact, now):
        return Verified(version=versions[artefact.signature], made=0.0, signer="cloud")

    monkeypatch.setattr(parent_link, "verify", verify)
    old, new = (Artefact("autoencoder", hashlib.sha256(s).digest(), 3, s, "m") for s in (b"old", b"new"))
    link._on_events([events.ArtefactArrived(old, b"old")])
    assert (link._shelf.listing(), link._ledger.get("autoencoder.version")) == ((old,), 3)
    link._on_events([events.ArtefactArrived(new, b"new")])
    link._on_events([events.ArtefactArrived(old, b"old")])
    assert (link._shelf.listing(), link._ledger.get("autoencoder.version")) == ((new,), 4)
    assert link._log._stream.getvalue().count("artefact_refused") == 1


def test_the_end_and_notices_are_facts(link):
    link._on_events([events.Finished(), events.NoticeArrived(Notice(4, "drain", b""))])
    assert (link._ledger.get("finished"), link._ledger.get("noticed")) == (True, 4)
    link._on_events([welcome(finished=False)])
    assert link._ledger.get("finished") is False


def test_versions_that_do_not_meet_are_told_with_the_end_to_upgrade(link):
    """As a parent of this version says it to a child that is older."""
    hello = msgspec.msgpack.encode((0, 0, "fedagg-edge 0.0.1"))
    parent = ParentEnd(Terms("fed", NodeId("edge.1"), 3, Limits(), "fedagg-edge 9.9"))
    with pytest.raises(Refusal) as caught:
        parent._hello(None, None, hello, 0.0)
    refusal = caught.value
    link._on_events([events.Refused(refusal.status, Problem(refusal.code, str(refusal), None))])
    told = link._log._stream.getvalue()
    assert "reason=versions" in told.replace('"', "")
    assert all(word in told for word in ("0 to 0", "1 to 1", "the child"))


def test_a_log_that_is_too_long_is_told_with_its_size_and_the_node_goes_to_another_parent(with_fallback):
    link = with_fallback
    link._on_events([welcome()])
    link._lost("https://127.0.0.1:2")
    problem = Problem("too_large", "log: got 300 bytes, expected at most 256", None)
    link._on_events([events.Refused(413, problem)])
    assert 'refused status=413 reason="too large" bytes=300 limit=256' in link._log._stream.getvalue()
    assert moving.under_way(link._ledger) != ("https://127.0.0.1:2", 1)


def test_refusals_are_told_and_do_no_harm(link):
    link._on_events([events.Refused(403, Problem("role", "no", None))])
    assert "refused" in link._log._stream.getvalue()


def test_opening_lets_the_end_exchange(link):
    assert not link._end.ready
    link.open()
    assert link._end.ready
    assert link.offline


MOVED = {**DEVICE, "parent": {"url": "https://127.0.0.1:1", "fallback": ["https://127.0.0.1:2"]}}


@pytest.fixture
def with_fallback(link):
    link._parent = parse_fleet_config(MOVED, Tier.DEVICE, base_dir=link._config.base_dir).parent
    return link


def notice(number, *urls):
    return events.NoticeArrived(Notice(number, "move", encode(MoveTo(urls))))


def test_a_parent_that_is_about_to_stop_sends_to_the_fallback_and_is_heeded_once(with_fallback):
    link = with_fallback
    link._on_events([welcome(), notice(3), notice(3)])
    assert moving.under_way(link._ledger) == ("https://127.0.0.1:2", 1)
    assert link._ledger.get("noticed") == 3
    assert link._end.step is Step.HELLO
    link._on_events([notice(4, "https://127.0.0.1:9", "https://127.0.0.1:8")])
    assert moving.under_way(link._ledger) == ("https://127.0.0.1:9", 2)


def test_who_is_told_to_go_and_then_to_stay_stays(with_fallback):
    link = with_fallback
    link._on_events([welcome(), notice(3, "https://127.0.0.1:2"), notice(4, "https://127.0.0.1:1")])
    assert moving.under_way(link._ledger) is None
    link._on_events([notice(5, "https://127.0.0.1:1")])  # where it is
    assert moving.under_way(link._ledger) is None
    assert "no_fallback" not in link._log._stream.getvalue()


def test_a_notice_that_cannot_be_meant_is_passed_over(with_fallback):
    link = with_fallback
    link._on_events([welcome(), notice(3, "ftp://x"), events.NoticeArrived(Notice(4, "move", b"\xc1"))])
    assert moving.under_way(link._ledger) is None
    assert link._ledger.get("noticed") == 4
    assert link._log._stream.getvalue().count("notice_refused") == 2


def test_without_a_fallback_it_stays_and_says_so(link):
    link._on_events([welcome(), notice(3)])
    assert moving.under_way(link._ledger) is None
    assert 'no_fallback reason="parent.fallback names no other"' in link._log._stream.getvalue()


def test_what_the_operator_wants_is_taken_before_the_next_request(link):
    moving.want(link._ledger, ["https://127.0.0.1:5"])
    link.look()
    link.look()
    assert moving.under_way(link._ledger) == ("https://127.0.0.1:5", 1)


def test_a_lost_parent_and_one_that_refuses_lead_to_the_next_under_a_new_number(with_fallback):
    link = with_fallback
    link._lost("https://127.0.0.1:2")
    assert moving.under_way(link._ledger) == ("https://127.0.0.1:2", 1)
    link._on_events([events.Refused(409, Problem("leaving", "no", None))])
    assert moving.under_way(link._ledger) == ("https://127.0.0.1:1", 2)
    assert isinstance(link._end.next(0.0), Idle)  # not at once
    assert isinstance(link._end.next(time.monotonic() + 10.0), Request)  # but soon, on the link's own clock
    link._on_events([events.Refused(0, Problem("malformed", "what?", None))])
    assert moving.under_way(link._ledger)[1] == 2


def test_back_to_the_parent_that_it_has_is_no_move_unless_that_has_let_it_go(with_fallback):
    link = with_fallback
    link._on_events([welcome()])
    link._lost("https://127.0.0.1:2")
    link._lost("https://127.0.0.1:1")
    assert moving.under_way(link._ledger) is None
    link._on_events([events.Refused(409, Problem("moved", "you left", None))])
    assert moving.under_way(link._ledger) == ("https://127.0.0.1:1", 2)


def test_a_move_that_takes_too_long_is_given_up(with_fallback):
    link = with_fallback
    link._on_events([welcome()])
    link._lost("https://127.0.0.1:2")
    link.look()
    link.look()
    assert moving.under_way(link._ledger) == ("https://127.0.0.1:2", 1)
    link._patience = -1.0
    link.look()
    assert moving.under_way(link._ledger) is None


def test_a_refusal_of_the_own_parent_is_no_reason_to_go(with_fallback):
    with_fallback._on_events([welcome(), events.Refused(403, Problem("revoked", "no", None))])
    assert moving.under_way(with_fallback._ledger) is None


def test_a_server_that_breaks_off_again_and_again_may_mean_the_certificate(link):
    asked = []
    link._renewer.refused = lambda: asked.append(1)
    gone = NoAnswer("gone")
    gone.__cause__ = ConnectionResetError()
    assert [link._on_failure(gone) or len(asked) for _ in range(6)] == [0, 0, 0, 0, 1, 1]
    link.uplink.counts.exchanges += 1  # it answered in between
    for _ in range(4):
        link._on_failure(gone)
    assert len(asked) == 1
    refused = NoAnswer("gone")
    refused.__cause__ = ConnectionRefusedError()  # nobody there is another matter
    for _ in range(20):
        link._on_failure(refused)
    assert len(asked) == 1
    expired = ssl.SSLError(1, "alert")
    expired.reason = "SSLV3_ALERT_CERTIFICATE_EXPIRED"
    link._on_failure(expired)
    assert len(asked) == 2


def test_a_clock_that_is_behind_changes_the_context_once(link):
    early = ssl.SSLCertVerificationError(1, "not yet valid")
    early.verify_code = 9
    assert [link._on_failure(early), link._on_failure(early)] == [True, False]
    assert link._clock_is_behind


def test_a_clock_that_is_far_ahead_is_told_once_each_time_that_it_begins(link):
    """By such a clock the parent's certificate has expired, and no connection is made."""
    over, told = ssl.SSLCertVerificationError(1, "has expired"), link._log._stream
    over.verify_code = 10
    failed = NoAnswer("SSLCertVerificationError")
    failed.__cause__ = over
    for begun in (1, 2):
        assert [link._on_failure(failed) for _ in range(3)] == [False] * 3  # the dates are looked at all the same
        lines = [line for line in told.getvalue().splitlines() if "parents_certificate_expired" in line]
        assert len(lines) == begun
        assert " warning " in lines[-1]
        assert 'reason="clock ahead or parent not renewed" expected="a clock that is right"' in lines[-1]
        assert 'advice="set the clock or see parent"' in lines[-1]
        link.uplink.counts.exchanges += 1  # it was set, and the parent answered


def test_after_a_renewal_it_says_hello_over_a_new_connection(link):
    link._end.step = Step.EXCHANGE
    link.uplink._stale = False
    link._renewed()
    assert link.uplink._stale
    assert link._end.next(0.0).path == "/v1/hello"


def test_a_new_signature_of_what_is_here_is_checked_and_kept_without_fetching(link, monkeypatch):
    kept = link._shelf.put("autoencoder", b"content", b"old", "m")
    again = Artefact(kept.name, kept.digest, kept.size, b"new", "m")
    monkeypatch.setattr(
        "fedagg_edge.fleet.parent_link.verify", lambda *words: Verified(version=0, made=0.0, signer="cloud")
    )
    link._on_events([welcome(again)])
    assert link._shelf.listing() == (again,)
    assert link._end._wanted == []
    link._on_events([welcome(again, Artefact("model", bytes(32), 5, b"", "m"))])  # not for children
    assert link._end._wanted == []


def test_an_order_to_forget_is_carried_out_by_an_edge(tmp_path):
    """And by nobody else: a device's ledger has no children."""
    config = server_config(tmp_path / "edge", Tier.EDGE, "edge.1")
    made = ParentLink(config, config.parent, Tier.EDGE, Log(io.StringIO()), lambda: None)
    ledger = made._ledger = parts.open_ledger(config, Tier.EDGE)
    made._end = object()
    ledger.append(NodeId("d1"), 1, dump_embeddings(embeddings("d1", 3)), key=1, by="child")
    made._on_events([events.NoticeArrived(Notice(7, "forget", msgspec.msgpack.encode(["o", "d1", 0])))])
    assert (len(ledger.samples(NodeId("d1"))), ledger.get("noticed")) == (0, 7)
    (sent,) = ChildView(ledger).receipts()
    made._on_events([events.ReceiptsTaken((sent,))])
    assert ChildView(ledger).receipts() == ()
    (config.state / "identity").mkdir()
    made._on_events([events.NoticeArrived(Notice(8, "forget", msgspec.msgpack.encode(["p", "d1", 0, 5e5])))])
    assert revocation.load(config.state / "identity").nodes == {"d1": 5e5}
    ledger.close()


def test_while_the_identity_does_not_fit_the_connection_before_goes_on(link, tmp_path):
    with pytest.raises(IdentityError, match="not there"):
        link._context()
    made = make_world(tmp_path / "made")
    made.device.rename(link._identity)
    good = link._context()
    (link._identity / "key.pem").rename(link._identity / "key.gone")  # in the middle of enrolling again
    assert link._context() is good
    assert "reload_failed error=IdentityError" in link._log._stream.getvalue()
    (link._identity / "key.gone").rename(link._identity / "key.pem")
    assert link._context() is not good


def test_what_the_parent_does_not_take_is_told_once_and_kept_for_status(link):
    ledger, end = link._ledger, link._end
    ledger.send(embeddings("device-000", 2))
    end.aside = tuple(ledger.pending(inline=0))
    for _ in range(3):
        link.tell_aside()
    told = ledger.get(ASIDE)
    assert told == {"batches": 1, "rows": 2, "bytes": end.aside[0].size, "limit": Limits().entry_bytes}
    text = link._log._stream.getvalue()
    assert text.count("rows_set_aside") == 1
    assert f"rows=2 bytes={told['bytes']} limit={told['limit']}" in text
    assert outbox.aside(ledger.db) == [b.key for b in end.aside]
    end.aside = tuple(ledger.pending(inline=0))  # the same, looked at again
    link.tell_aside()
    assert text == link._log._stream.getvalue()
    end.aside = ()
    link.tell_aside()
    assert ledger.get(ASIDE) is None
    assert "nothing_set_aside" in link._log._stream.getvalue()
