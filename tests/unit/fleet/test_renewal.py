"""Renewal over real TLS, of certificates that were made long ago; and when it is tried, by clocks that a test moves."""

import io
import json
import socket
import time
from random import Random

import msgspec
import pytest
from identity.worlds import NOW, make_device, make_world, put_leaf
from serving import server_config, serving

from fedagg_edge.errors import FedaggError, IdentityError, PermissionDenied
from fedagg_edge.fleet import server
from fedagg_edge.fleet.config import parse_fleet_config
from fedagg_edge.fleet.connection import Cutter, NoAnswer
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.member import own_renewer
from fedagg_edge.fleet.parent_link import ParentLink
from fedagg_edge.fleet.publish import Publisher
from fedagg_edge.fleet.renewal import Renewer, at_parent, by_own_issuer
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.fleet.visitor import Visitor
from fedagg_edge.identity import authority, enrolment, folder, operator, pem, revocation, tls
from fedagg_edge.identity.chain import check
from fedagg_edge.identity.renewal import DAY
from fedagg_edge.records import Tier
from fedagg_edge.wire.refusal import Refusal


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    place = tmp_path_factory.mktemp("world")
    made = make_world(place / "made")
    for name in ("cloud", "edge"):
        (place / name).mkdir()
        (place / "made" / name).rename(place / name / "identity")
    make_device(place / "edge" / "identity", place / "fresh", node="fresh.1")
    assert made.root.exists()
    return place


@pytest.fixture(scope="module")
def edge(world):
    config = server_config(world / "edge", Tier.EDGE, "edge.1", identity={"certificate_days": 3.0})
    with serving(config, Tier.EDGE) as made:
        yield made


def until(place):
    return pem.validity(pem.certificates((place / folder.CERTIFICATE).read_bytes())[0]).not_after


def made_ago(world, place, days, node, edge=None):
    """A device whose certificate of 7 days was made so many days ago, by `edge` if that is to know it."""
    done = make_device(world / "edge" / "identity", place, node=node, now=NOW - days * DAY)
    if edge is not None:
        edge.ask(lambda view: view.ledger.enrol(node, Tier.DEVICE, done.serial))
    return place


def renewer(place, buy, log=None, told=None, **words):
    told = [] if told is None else told
    return Renewer(place, buy, lambda: told.append(1), Log(log or io.StringIO()), rng=Random(0), **words)


def ask(edge, place):
    with Visitor(edge.url, place) as visitor:
        return json.loads(visitor.get("/v1/status").body)


@pytest.mark.parametrize(("days", "node"), [(6, "due.1"), (10, "expired.1"), (36, "long.1")])
def test_a_device_renews_at_its_parent_also_after_expiry(world, edge, tmp_path, days, node):
    place, told, log = made_ago(world, tmp_path / "identity", days, node, edge), [], io.StringIO()
    if days > 7:
        with pytest.raises(FedaggError):
            ask(edge, place)
    key = (place / folder.KEY).read_bytes()
    one = renewer(place, at_parent(place, lambda: [edge.url]), log, told)
    assert one.look() == 5.0
    assert abs(until(place) - time.time() - 3 * DAY) < 600  # what the edge's configuration says
    assert (place / folder.KEY).read_bytes() == key
    assert ask(edge, place)["node"] == "edge.1"
    assert (told, "certificate_renewed" in log.getvalue()) == ([1], True)
    assert one.look() > 60.0  # and then it is not due


def test_after_30_days_it_is_too_late_and_nothing_changes(world, edge, tmp_path):
    place, log = made_ago(world, tmp_path / "identity", 38, "late.1", edge), io.StringIO()
    before = (place / folder.CERTIFICATE).read_bytes()
    with pytest.raises(PermissionDenied, match="expired 31 days ago, expected at most 30; enrol again"):
        renewer(place, at_parent(place, lambda: [edge.url]))._renew(time.time())
    wait = renewer(place, at_parent(place, lambda: [edge.url]), log).look()
    assert 15.0 <= wait <= 30.0
    assert "certificate_lapsed" in log.getvalue()
    assert (place / folder.CERTIFICATE).read_bytes() == before


def test_a_revoked_device_is_not_renewed(world, edge, tmp_path):
    place = made_ago(world, tmp_path / "identity", 6, "revoked.1", edge)
    revocation.update(world / "edge" / "identity", lambda k: revocation.revoke(k, NOW, node="revoked.1"))
    with pytest.raises(PermissionDenied, match="revoked"):
        renewer(place, at_parent(place, lambda: [edge.url]))._renew(time.time())


def test_a_parent_without_a_signing_key_is_told_as_the_reason(world, edge, tmp_path):
    place, log = made_ago(world, tmp_path / "identity", 6, "unsigned.1", edge), io.StringIO()
    key = world / "edge" / "identity" / folder.ISSUER_KEY
    key.rename(tmp_path / "aside")
    try:
        renewer(place, at_parent(place, lambda: (edge.url,)), log).look()
    finally:
        (tmp_path / "aside").rename(key)
    assert 'renewal_failed count=0 reason="no signing key"' in log.getvalue()


def test_what_an_edge_may_not_certify_its_own_parent_does(world, edge, tmp_path):
    """An edge below an edge; and any node below one that was enrolled with a token, which has no signing key."""
    made_below = made_ago_by_the_operator(world, tmp_path / "below" / "identity", "edge.below")
    unsigned = tmp_path / "unsigned"
    make_device(world / "cloud" / "identity", unsigned / "identity", node="edge.2", role=Tier.EDGE, hosts=["127.0.0.1"])
    its_own = made_ago(world, tmp_path / "identity", 6, "its.1", edge)
    key = (made_below / folder.KEY).read_bytes()
    with serving(server_config(world / "cloud", Tier.CLOUD, "cloud.1"), Tier.CLOUD) as cloud:
        parent = {"url": cloud.url}
        with (
            serving(server_config(world / "edge", Tier.EDGE, "edge.1", parent=parent), Tier.EDGE) as signing,
            serving(server_config(unsigned, Tier.EDGE, "edge.2", parent=parent), Tier.EDGE) as not_signing,
        ):
            for place, url in ((made_below, signing.url), (its_own, not_signing.url)):
                before = until(place)
                assert renewer(place, at_parent(place, lambda url=url: [url])).look() == 5.0
                assert until(place) > max(before, time.time() + 6 * DAY)  # as long as the cloud's last
                assert signer_of(place) == "cloud.1"
            assert "renewal_handed_on" in signing.log.getvalue()
            assert ask(signing, its_own)["node"] == "edge.1"
            before = cloud.log.getvalue().count("renewed")
            for server, gone, place, url in (
                (unsigned, "its.1", its_own, not_signing.url),  # what is revoked here alone is not handed on
                (world / "cloud", "edge.below", made_below, signing.url),  # of what the parent refuses the asker hears
            ):
                revocation.update(
                    server / "identity", lambda k, gone=gone: revocation.revoke(k, time.time() + 60, node=gone)
                )
                with pytest.raises(PermissionDenied, match="revoked"):
                    renewer(place, at_parent(place, lambda url=url: [url]))._renew(time.time())
            assert cloud.log.getvalue().count("renewed") == before
            assert (made_below / folder.KEY).read_bytes() == key
    with serving(server_config(unsigned, Tier.EDGE, "edge.2", parent=parent), Tier.EDGE) as cut_off:
        with pytest.raises(Refusal, match="its own parent, which may, does not answer") as refused:
            at_parent(made_below, lambda: [cut_off.url])(_prepared(made_below))
        assert (refused.value.status, refused.value.code) == (503, "no_signing_key")


def test_only_what_another_may_certify_is_handed_on_and_nothing_waits_for_ever(world, tmp_path, monkeypatch):
    """Not what goes wrong here: a damaged revocation list would let those in again whom it names."""
    monkeypatch.setattr(server, "_ABOVE", 0.3)
    unsigned, silent = tmp_path / "unsigned", socket.create_server(("127.0.0.1", 0))
    make_device(world / "cloud" / "identity", unsigned / "identity", node="edge.3", role=Tier.EDGE, hosts=["127.0.0.1"])
    place = made_ago(world, tmp_path / "identity", 6, "its.2")
    parent = {"url": f"https://127.0.0.1:{silent.getsockname()[1]}"}
    silent.settimeout(0.5)
    held, cutters = [], []
    monkeypatch.setattr(server, "Cutter", lambda: cutters.append(Cutter()) or cutters[-1])

    def asked():
        try:
            held.append(silent.accept()[0])  # and stay silent
        except TimeoutError:
            return False
        return True

    with silent, serving(server_config(unsigned, Tier.EDGE, "edge.3", parent=parent), Tier.EDGE) as edge:
        buy = at_parent(place, lambda: [edge.url])
        with pytest.raises(Refusal, match="does not answer"):
            buy(_prepared(place))
        assert asked()
        assert [cutter.is_cut for cutter in cutters] == [True]  # its thread does not wait on for a minute
        damaged = unsigned / "identity" / folder.REVOKED
        damaged.write_bytes(b"{")
        with pytest.raises(PermissionDenied, match="revocation list"):
            buy(_prepared(place))
        damaged.unlink()
        for words in ({"public_key": bytes(257)}, {"proof": bytes(257)}, {"time": 1e11}):
            asking = msgspec.structs.replace(_prepared(place), **words)
            with pytest.raises(FedaggError, match="malformed"):
                buy(asking)
        with pytest.raises(PermissionDenied):  # of whoever has no key for what it shows
            buy(msgspec.structs.replace(_prepared(place), proof=bytes(70)))
        assert not asked()
        for connection in held:
            connection.close()


def made_ago_by_the_operator(world, place, node):
    """An edge's identity whose certificate is due."""
    operator.make_server(
        world / "made" / "root",
        place,
        node=node,
        role=Tier.EDGE,
        hosts=["127.0.0.1"],
        now=NOW - 6 * DAY,
        lifetime=7 * DAY,
    )
    return place


def signer_of(place):
    """Whose signing certificate has made a node's own."""
    chain = (place / folder.CERTIFICATE).read_bytes(), (place / folder.AUTHORITY).read_bytes()
    return check(*chain).facts.issuer.node


def test_certificates_that_nobody_knows_start_no_flood_of_processes(world, edge, tmp_path):
    """Of another issuer of this federation, so that they are fine, but never seen by this edge."""
    root = (world / "made" / "root" / folder.AUTHORITY).read_bytes()
    signer = authority.load_signer(world / "cloud" / "identity")
    answers = []
    for n in range(40):  # some are let in, and one more every ten seconds, on a slow machine too
        place = tmp_path / str(n)
        put_leaf(place, signer, root, node=f"stranger.{n}", role=Tier.DEVICE, now=NOW)
        try:
            renewer(place, at_parent(place, lambda: [edge.url]))._renew(time.time())
            answers.append("ok")
        except FedaggError as error:
            answers.append("429" if "status 429" in str(error) else str(error))
            break
    assert answers[:1] == ["ok"]
    assert answers[-1] == "429"
    assert ask(edge, world / "fresh")["node"] == "edge.1"


def test_the_next_parent_is_asked_when_one_does_not_answer(world, edge, tmp_path):
    place = made_ago(world, tmp_path / "identity", 6, "second.1", edge)
    renewer(place, at_parent(place, lambda: ["https://127.0.0.1:1", edge.url])).look()
    assert until(place) > time.time() + 2 * DAY
    with pytest.raises(NoAnswer):
        at_parent(place, lambda: ["https://127.0.0.1:1"])(_prepared(place))
    with pytest.raises(IdentityError, match="no parent is known"):
        at_parent(place, tuple)(_prepared(place))


def _prepared(place):
    return enrolment.prepare(place, time.time())


def serial_shown(port, place):
    """The serial of the certificate that a server shows to a new connection."""
    context = tls.client_context(place)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        return tls.peer_of(secured).serial


def test_the_cloud_renews_itself_and_its_gateway_shows_the_new_certificate_without_a_restart(world):
    state = world / "cloud"
    config = server_config(state, Tier.CLOUD, "cloud.1", identity={"certificate_days": 20.0})
    publisher = Publisher(state)
    old = publisher.put("autoencoder", b"codec", version=0)
    with serving(config, Tier.CLOUD) as cloud, Visitor(cloud.url, world / "fresh") as open_before:
        assert open_before.get("/v1/status").status == 200
        before = serial_shown(cloud.service.port, world / "fresh")
        one = own_renewer(config, publisher, Log(io.StringIO()))
        one._refused = True  # due now
        one.look()
        after = serial_shown(cloud.service.port, world / "fresh")
        assert before != after
        assert until(state / "identity") > time.time() + 19 * DAY
        assert open_before.get("/v1/status").status == 200
        assert json.loads(open_before.get("/v1/status").body)["certificate_until"] == until(state / "identity")
    new = publisher.shelf.find("autoencoder")
    assert (new.digest, new.signature != old.signature) == (old.digest, True)


def test_a_board_that_was_off_for_three_weeks_comes_back_by_itself(world, edge, tmp_path):
    """The whole link: refused as expired, renewed without a certificate, connected again; no restart, no hands."""
    edge.ask(lambda view: view.put("terms", {"classes": 3, "mode": "sync", "target": 0}))
    DiskShelf(world / "edge" / "artefacts").put("autoencoder", b"codec", b"", "m")
    made_ago(world, tmp_path / "state" / "identity", 21, "board.1", edge)
    config = parse_fleet_config(
        {
            "federation": "fed",
            "node": {"id": "board.1", "state": "state", "model": "mlp"},
            "parent": {"url": edge.url},
            "data": {"source": "folder", "options": {"path": "private"}},
        },
        Tier.DEVICE,
        base_dir=tmp_path,
    )
    log = io.StringIO()
    link = ParentLink(config, config.parent, Tier.DEVICE, Log(log), lambda: None)
    link.start()
    try:
        deadline = time.monotonic() + 60
        while "welcomed" not in log.getvalue():
            assert time.monotonic() < deadline, log.getvalue()
            time.sleep(0.05)
    finally:
        link.stop()
    assert "certificate_renewed" in log.getvalue()


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


def test_when_it_looks(world):
    """Between two thirds and three quarters of the lifetime, not before, and never by a clock that is not set."""
    place, bought = world / "fresh", []

    def buy(prepared):
        bought.append(prepared)
        raise NoAnswer("gone")

    made = until(place) - 7 * DAY
    clock = Clock(made + 4.6 * DAY)
    one = renewer(place, buy, clock=clock)
    assert (one.look(), bought) == (600.0, [])
    clock.now = 1000.0
    assert (one.look(), bought) == (600.0, [])
    clock.now = made + 5.3 * DAY
    waits = [one.look() for _ in range(10)]
    assert len(bought) == 10
    assert all(30 * 2**n * 0.5 <= w <= 30 * 2**n for n, w in enumerate(waits[:7]))
    assert all(w <= 3600 for w in waits)


def test_a_clock_that_is_days_ahead_does_not_have_it_renew_again_and_again(world, tmp_path):
    """By that clock the new certificate is due at once, too."""
    place, bought = made_ago(world, tmp_path / "identity", 6, "ahead.1"), []
    certify, running = by_own_issuer(world / "edge" / "identity", DAY * 7), Clock(50.0)

    def buy(prepared):
        bought.append(prepared)
        return certify(prepared)

    one = renewer(place, buy, clock=lambda: time.time() + 6 * DAY, running=running)
    assert one.look() == 5.0
    running.now += 5.0
    assert one.look() == 600.0
    running.now += 2 * DAY
    assert (one.look(), len(bought)) == (600.0, 1)
    one.refused()
    one.look()
    assert len(bought) == 2
    running.now += 3 * DAY
    one.look()
    assert len(bought) == 3


def test_a_server_that_says_expired_counts_more_than_the_own_clock(world):
    bought, clock = [], Clock(1000.0)
    one = renewer(world / "fresh", lambda p: bought.append(p) or (_ for _ in ()).throw(NoAnswer("gone")), clock=clock)
    one.refused()
    one.look()
    assert len(bought) == 1
    assert one._changed.is_set()
    one._changed.clear()
    one.refused()  # while it waits to try again
    assert not one._changed.is_set()


def test_what_must_follow_is_tried_until_it_works(world, tmp_path):
    """The certificate is in place but the artefacts could not be signed: that is done at the next look."""
    place, calls = made_ago(world, tmp_path / "identity", 6, "again.1"), []

    def installed():
        calls.append(1)
        if len(calls) < 3:
            raise OSError(28, "No space left on device")

    one = Renewer(
        place, by_own_issuer(world / "edge" / "identity", DAY * 4), installed, Log(io.StringIO()), rng=Random(0)
    )
    assert one.look() > 5.0
    assert until(place) > time.time() + 3 * DAY
    one.look()
    assert one.look() > 60.0
    assert len(calls) == 3


def test_the_thread_looks_by_itself_and_stops(world, tmp_path):
    place, told = made_ago(world, tmp_path / "identity", 6, "thread.1"), []
    one = renewer(place, by_own_issuer(world / "edge" / "identity", DAY * 4), told=told)
    one.start()
    deadline = time.monotonic() + 30
    while not told and time.monotonic() < deadline:
        time.sleep(0.02)
    one.stop()
    assert told
    assert not one._thread.is_alive()
