"""The gateway's parts without a socket; with one they run in test_up.py."""

import asyncio
import dataclasses
import hashlib
import io
import time
from types import SimpleNamespace

import msgspec
import pytest
from identity.worlds import make_world
from toys import embeddings

from fedagg_edge.errors import IdentityBusy, IdentityError, PermissionDenied, StorageFull
from fedagg_edge.fleet import errands, operating, parts, server
from fedagg_edge.fleet.config import FleetConfig, LimitsConfig, ListenConfig, parse_fleet_config
from fedagg_edge.fleet.ends import HangUp
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.node_loop import NodeLoop
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.fleet.views import ParentView
from fedagg_edge.identity import enrolment, operator, revocation, tokens
from fedagg_edge.identity.facts import Facts, Issuer, IssuerKind
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.http import Request
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Adopt, Enrol, Exchange, Hello, MoveTo, Problem, Renew, Welcome, decode, encode
from fedagg_edge.wire.parent import Later
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import EMPTY_DIGEST, Peer
from fedagg_edge.wire.tensors import dump_embeddings
from fedagg_edge.wire.terms import LEAVING


@pytest.fixture
def config(tmp_path):
    return parse_fleet_config(
        {
            "federation": "toy",
            "node": {"id": "cloud", "state": "state", "model": "mlp"},
            "classes": 10,
            "autoencoder": {"path": "a"},
        },
        Tier.CLOUD,
        base_dir=tmp_path,
    )


@pytest.fixture
def view(config):
    view = ParentView(parts.open_ledger(config, Tier.CLOUD))
    yield view
    view.close()


def hello(role="edge"):
    body = Hello(1, 1, "s", "edge-0", role, "toy", ("f32",), 0, 0, bytes.fromhex(EMPTY_DIGEST), "all")
    return Request("POST", "/v1/hello", encode(body))


EDGE = Peer(NodeId("edge-0"), Tier.EDGE, "1")


def ask(config, view, peer, request):
    with view.transaction():
        return server._Handler(config, Tier.CLOUD).handle(view, peer, request, 5.0)


def test_a_parent_that_does_not_know_its_terms_yet_asks_for_patience(config, view):
    answer = ask(config, view, EDGE, hello())
    assert (answer.status, answer.retry_after) == (503, 1.0)


def test_an_edge_that_the_operator_made_is_let_in_and_a_strange_device_is_not(config, view):
    view.put("terms", {"classes": 10, "mode": "sync", "target": 4})
    DiskShelf(config.state / "artefacts").put("autoencoder", b"x", b"", "m")
    welcome = decode(Welcome, ask(config, view, EDGE, hello()).body, Limits())
    assert (welcome.node, welcome.classes, welcome.target) == ("cloud", 10, 4)
    assert [a.name for a in welcome.artefacts] == ["autoencoder"]
    device = Peer(NodeId("edge-0x"), Tier.DEVICE, "2")
    assert decode(Problem, ask(config, view, device, hello("device")).body, Limits()).code == "unknown"


def facts(serial, made, issuer="f"):
    root = Issuer(IssuerKind.CLOUD, NodeId("cloud"), issuer)
    return Facts(NodeId("edge-0"), Tier.EDGE, "toy", serial, made, made + 1e9, root)


def peer_with(facts):
    return server._Shown(facts.node, facts.role, facts.serial, facts)


def test_the_node_loop_waits_for_those_whose_certificate_the_gateway_takes_and_no_others(config, view):
    """The certificate that a child shows counts: an operator or another parent may have made it, of which nobody told
    this one."""
    view.put("terms", {"classes": 10, "mode": "sync", "target": 4})
    DiskShelf(config.state / "artefacts").put("autoencoder", b"x", b"", "m")
    place = config.state / "identity"
    place.mkdir(parents=True)
    shown = {"1": facts("1", 1000.0), "2": facts("2", 9000.0, "e")}
    handler = server._Handler(config, Tier.CLOUD)
    loop = NodeLoop(config, Tier.CLOUD, view.ledger, Log(io.StringIO()))

    def ask(serial, request):
        with view.transaction():
            return handler.handle(view, peer_with(shown[serial]), request, 5.0)

    def revoked():
        return loop._is_revoked(view.node(NodeId("edge-0")))

    assert ask("1", hello()).status == 200
    assert not revoked()
    revocation.update(place, lambda known: revocation.revoke(known, 5000.0, node="edge-0"))
    assert revoked()
    assert ask("2", hello()).status == 200  # made anew by the operator, under its name
    assert not revoked()
    revocation.update(place, lambda known: revocation.revoke(known, 1.0, serial="e"))
    assert revoked()  # by its issuer's serial
    shown["3"] = facts("3", 9000.0)
    poll = Request("POST", "/v1/exchange", encode(Exchange(-1, 0, 0, 1.0, 0)))
    assert isinstance(ask("3", poll), Later)  # renewed at another parent, and no new hello
    assert not revoked()
    revocation.update(place, lambda known: revocation.revoke(known, 1.0, serial="3"))
    assert revoked()
    before = view.ledger.db.one("SELECT total_changes()")
    ask("3", poll)
    assert view.ledger.db.one("SELECT total_changes()") == before


def test_an_edge_that_renewed_its_certificate_before_its_first_hello_is_let_in(config, view):
    """As one whose first connections broke off, while the cloud was starting, does."""
    view.put("terms", {"classes": 10, "mode": "sync", "target": 4})
    DiskShelf(config.state / "artefacts").put("autoencoder", b"x", b"", "m")
    view.introduce(EDGE.node, EDGE.role, "2")
    assert ask(config, view, EDGE, hello()).status == 200
    assert view.ledger.children() == ["edge-0"]
    view.ledger.append(NodeId("edge-0"), 1, dump_embeddings(embeddings("d1", 1)), key=1, by="child")
    view.ledger.leave(NodeId("edge-0"))  # it has been here, and went
    assert decode(Problem, ask(config, view, EDGE, hello()).body, Limits()).code == "moved"


def test_an_edge_that_asks_to_be_adopted_is_no_child_before_it_is(tmp_path):
    """Until the root has settled it, it must not count among those who are told to forget."""
    table = {
        "federation": "toy",
        "node": {"id": "mid", "state": "state", "model": "mlp"},
        "parent": {"url": "https://a"},
    }
    config = parse_fleet_config(table, Tier.EDGE, base_dir=tmp_path)
    view = ParentView(parts.open_ledger(config, Tier.EDGE))
    view.put("terms", {"classes": 10, "mode": "sync", "target": 4})
    DiskShelf(config.state / "artefacts").put("autoencoder", b"x", b"", "m")
    asked = Request("POST", "/v1/adopt", encode(Adopt(node="edge-0", origins=("edge-0", "d1"), fence=1)))
    with view.transaction():
        answer = server._Handler(config, Tier.EDGE).handle(view, EDGE, asked, 5.0)
    assert decode(Problem, answer.body, Limits()).code == "adopting"
    assert NodeId("edge-0") not in view.ledger.children()
    view.close()


def test_a_token_is_spent_by_the_first_key_that_brings_it(view):
    digest, key = "d" * 64, hashlib.sha256(b"key").hexdigest()
    server._spend(view, digest, key)
    server._spend(view, digest, key)  # its answer was lost
    with pytest.raises(PermissionDenied, match="it was used already"):
        server._spend(view, digest, hashlib.sha256(b"other").hexdigest())


def test_a_drained_edge_enrols_no_newcomer_and_says_where_to_go(tmp_path):
    table = {
        "federation": "toy",
        "node": {"id": "hall", "state": "state", "model": "mlp"},
        "parent": {"url": "https://a"},
    }
    config = parse_fleet_config(table, Tier.EDGE, base_dir=tmp_path)
    view = ParentView(parts.open_ledger(config, Tier.EDGE))
    early, late = "a" * 64, "b" * 64
    server._spend(view, early, "key")
    operating.drain(view.ledger, config.state, ["https://hall-2.example:9443"])
    with pytest.raises(Refusal, match=r"enrol at https://hall-2\.example:9443, with a token made there") as caught:
        server._spend(view, late, "key")
    answer = server._denied(caught.value)
    assert (answer.status, decode(Problem, answer.body, Limits()).code) == (503, "draining")
    assert answer.retry_after == 60.0
    assert view.get(f"token/{late}") is None  # the token is not spent: it is good if the edge serves again
    server._spend(view, early, "key")  # its answer was lost
    for _ in range(2):
        server._enter(view, NodeId("device-9"), Tier.DEVICE, "ab")
        told = view.notices(NodeId("device-9"), 0)
        assert [decode(MoveTo, n.body, Limits()).urls for n in told] == [("https://hall-2.example:9443",)]
    operating.drain(view.ledger, config.state)
    operating.serve_again(view.ledger)
    server._spend(view, late, "key")
    server._enter(view, NodeId("device-10"), Tier.DEVICE, "cd")
    assert not view.notices(NodeId("device-10"), 0)
    view.close()


def test_a_drained_edge_that_knows_no_other_says_so(view):
    view.put(LEAVING, True)
    with pytest.raises(Refusal, match="enrol at another edge, with a token made there"):
        server._spend(view, "d" * 64, "key")


def test_revoked_and_expired_peers_are_refused_at_once(config):
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    gateway.identity.mkdir(parents=True)
    edge = peer_with(dataclasses.replace(facts("1", 100.0), not_after=1e10))
    assert gateway._is_allowed(edge)
    revocation.save(gateway.identity, revocation.revoke(revocation.Revocations(), 500.0, node=NodeId("edge-0")))
    assert not gateway._is_allowed(edge)
    assert not gateway._is_allowed(Peer(NodeId("nobody"), Tier.DEVICE, "9"))
    assert not gateway._is_allowed(peer_with(dataclasses.replace(facts("3", 1.0), not_after=9.0)))


def certificate(node, serial, issuer, made):
    """What TLS says of a device's, signed by an edge; `issuer`: the signing certificate's serial."""

    def name(*values):
        keys = ("organizationName", "organizationalUnitName", "commonName", "serialNumber")
        return tuple(((key, value),) for key, value in zip(keys, values, strict=False))

    return {
        "subject": name("toy", "device", node),
        "issuer": name("toy", "edge-issuer", "hall", issuer),
        "subjectAltName": (("URI", f"fedagg://toy/device/{node}"),),
        "serialNumber": serial,
        "notBefore": time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(made)),
        "notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(made + 86400)),
    }


def test_a_certificate_is_not_judged_by_another_issuers_of_the_same_serial(config):
    """A serial is its issuer's choice: a device of a revoked edge was let in again once another of the same serial,
    signed by somebody else, had connected; and that one's was refused by the first one's dates."""
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    gateway.identity.mkdir(parents=True)
    revoked = gateway._identify(certificate("d.1", "2A", "aa", time.time()))
    revocation.save(gateway.identity, revocation.revoke(revocation.Revocations(), 5.0, serial="aa"))
    assert not gateway._is_allowed(revoked)
    other = gateway._identify(certificate("d.2", "2A", "bb", time.time()))
    assert gateway._is_allowed(other)
    assert not gateway._is_allowed(revoked)
    gateway._identify(certificate("d.3", "2A", "bb", 9.0))
    assert gateway._is_allowed(other)


def test_a_child_that_was_not_told_these_terms_begins_anew(config, view):
    """A connection that ended while nothing was asked is made again without hello: an edge that was started again in
    another mode meanwhile would have children that go on in the old one, for as long as it has."""
    view.put("terms", {"classes": 10, "mode": "sync", "target": 4})
    DiskShelf(config.state / "artefacts").put("autoencoder", b"x", b"", "m")
    handler = server._Handler(config, Tier.CLOUD)
    poll = Request("POST", "/v1/exchange", encode(Exchange(-1, 0, 0, 1.0, 0)))

    def ask(request):
        with view.transaction():
            return handler.handle(view, EDGE, request, 5.0)

    with pytest.raises(HangUp):  # it spoke to the process before
        ask(poll)
    assert decode(Welcome, ask(hello()).body, Limits()).mode == "sync"
    assert isinstance(ask(poll), Later)
    view.put("terms", {"classes": 10, "mode": "sync", "target": 4})  # they were told again
    assert isinstance(ask(poll), Later)
    view.put("terms", {"classes": 10, "mode": "async", "target": 0})
    with pytest.raises(HangUp):
        ask(poll)
    assert decode(Welcome, ask(hello()).body, Limits()).mode == "async"
    assert isinstance(ask(poll), Later)


def test_a_stranger_is_told_no_more_than_it_must():
    answer = server._denied(PermissionDenied("enrolment: no"))
    assert (answer.status, decode(Problem, answer.body, Limits()).message) == (403, "enrolment: no")


@pytest.mark.parametrize("place", ["/var/lib/fedagg/identity/tokens/ab.json", "state/identity"])
def test_of_a_servers_files_nothing_goes_to_a_peer(place):
    for error in (IdentityError(f"{place}: damaged; remove it"), PermissionDenied(f"not readable ({place})")):
        answer = server._denied(error)
        told = decode(Problem, answer.body, Limits())
        assert (answer.status, told.code, told.retry_after) == (503, "busy", 30.0)
        assert "/" not in told.message
        assert "damaged" not in told.message


def test_an_overloaded_server_says_later_and_not_no():
    """A refusal ends a device that enrols for good: its exit code says that a person has to give a token."""
    for error in (IdentityBusy("identity process: no answer within 30 s"), StorageFull("no room")):
        answer = server._denied(error)
        assert (answer.status, decode(Problem, answer.body, Limits()).code) == (503, "busy")


def test_limits_are_the_configurations_and_children_are_told(config, view):
    table = {name: getattr(config, name) for name in config.__struct_fields__}
    table["limits"] = LimitsConfig(samples=50, requests_per_minute=7, bytes_per_minute=9000)
    mine = FleetConfig(**table)
    view.put("terms", {"classes": 10, "mode": "sync", "target": 4})
    DiskShelf(mine.state / "artefacts").put("autoencoder", b"x", b"", "m")
    told = decode(Welcome, ask(mine, view, EDGE, hello()).body, Limits()).limits
    assert (told.samples, told.requests_per_minute, told.bytes_per_minute) == (50, 7, 9000)


def test_what_has_had_its_time_is_let_go(config, monkeypatch):
    monkeypatch.setattr(revocation, "FEW", 1)
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    place = gateway.identity
    place.mkdir(parents=True)
    now = time.time()
    for name, expires in (("a", now - 1), ("b", now + 3600)):
        grant = tokens.Grant(digest=name * 64, id="i", node="n", role=Tier.DEVICE, expires=expires)
        tokens.put_grant(place, grant)
    old = revocation.revoke(revocation.Revocations(), 5.0, node="old", serial="ab")
    revocation.save(place, revocation.revoke(old, now, node="new"))
    asyncio.run(gateway._tidy())
    assert [path.stem[0] for path in (place / "tokens").iterdir()] == ["b"]
    known = revocation.load(place)
    assert (set(known.nodes), set(known.serials)) == ({"new"}, {"ab"})
    assert "tokens_expired count=1" in gateway.log._stream.getvalue()


class _Service:
    """A service's writer, in this thread."""

    def __init__(self, view):
        self.writer, self.view = self, view

    async def run(self, operation):
        with self.view.transaction():
            return operation(self.view)


def test_a_token_from_before_a_revocation_buys_nothing_not_even_for_whom_it_was_spent(config, view, tmp_path):
    """Else whoever has a revoked board, with its key and token file, would have a certificate that is not refused."""
    world = make_world(tmp_path / "world", federation="toy")
    config.state.mkdir(exist_ok=True)
    place = world.cloud.rename(config.state / "identity")
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    gateway._service = _Service(view)
    root = (place / "authority.pem").read_bytes()

    def enrol(token):
        mine = enrolment.request_enrolment(tmp_path / "d", root, token, node="d.1", role=Tier.DEVICE, time=time.time())
        body = Enrol(token.text, mine.node, mine.role, mine.public_key, mine.proof, mine.time)
        return asyncio.run(gateway._enrol(Request("POST", "/v1/enrol", encode(body)), None))

    def grant():
        return operator.grant(place, node="d.1", role=Tier.DEVICE, expires=time.time() + 3600)

    spent, unused = grant(), grant()
    assert [enrol(spent).status, enrol(spent).status] == [200, 200]  # an answer can be lost
    operator.revoke(place, time.time(), node="d.1")
    for token in (spent, unused):
        answer = enrol(token)
        assert answer.status == 403
        assert "was revoked since; make another" in decode(Problem, answer.body, Limits()).message
    new = grant()
    assert [enrol(new).status, enrol(new).status] == [200, 200]


def test_a_server_without_a_signing_key_says_so_to_who_enrols_or_renews(config, view, tmp_path):
    """An edge that was enrolled with a token has none. Its devices were answered `busy` for ever."""
    world = make_world(tmp_path / "world", federation="toy")
    config.state.mkdir(exist_ok=True)
    place = world.cloud.rename(config.state / "identity")
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    gateway._service = _Service(view)
    token = operator.grant(place, node="d.1", role=Tier.DEVICE, expires=time.time() + 3600)  # of before
    root = (place / "authority.pem").read_bytes()
    mine = enrolment.request_enrolment(tmp_path / "d", root, token, node="d.1", role=Tier.DEVICE, time=time.time())
    enrol = Enrol(token.text, mine.node, mine.role, mine.public_key, mine.proof, mine.time)
    old = enrolment.prepare(world.device, time.time())
    renew = Renew(old.certificate, old.public_key, old.proof, old.time)

    def asked():
        answers = [
            asyncio.run(gateway._enrol(Request("POST", "/v1/enrol", encode(enrol)), None)),
            asyncio.run(gateway._renew(Request("POST", "/v1/renew", encode(renew)), None)),
        ]
        return answers, [decode(Problem, a.body, Limits()) for a in answers if a.status != 200]

    (place / "issuer_key.pem").rename(tmp_path / "aside")
    clouds = msgspec.structs.replace(enrol, token="fedagg1.of-the-cloud")  # a 403 would end the device for good
    answer = asyncio.run(gateway._enrol(Request("POST", "/v1/enrol", encode(clouds)), None))
    assert (answer.status, decode(Problem, answer.body, Limits()).code) == (503, "no_signing_key")
    answers, told = asked()
    assert [(a.status, a.retry_after) for a in answers] == [(503, 300.0)] * 2
    assert {p.code for p in told} == {"no_signing_key"}
    assert all("make this one's identity with `fedagg pki server`" in p.message for p in told)
    (tmp_path / "aside").rename(place / "issuer_key.pem")
    assert [a.status for a in asked()[0]] == [200, 200]  # the token was not spent


def test_a_gateway_without_a_signing_key_says_so_at_its_start(config, tmp_path, monkeypatch):
    """It starts: those whom others certify can do without."""
    monkeypatch.setattr(server, "Service", lambda *args, **rest: None)
    monkeypatch.setattr(server, "Listener", lambda path: None)
    world = make_world(tmp_path / "world", federation="toy")
    config.state.mkdir(exist_ok=True)
    place = world.cloud.rename(config.state / "identity")
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    gateway.service()
    assert "cannot_certify" not in gateway.log._stream.getvalue()
    (place / "issuer_key.pem").unlink()
    gateway.service()
    assert 'cannot_certify reason="no signing key" expected="identity of fedagg pki server"' in (
        gateway.log._stream.getvalue()
    )


def test_chunks_are_dropped_once_their_node_has_sent_none_for_a_day(config, tmp_path, monkeypatch):
    now = 1_000_000.0
    options = Options(tier=Tier.CLOUD, clock=lambda: now)
    ledger = Ledger.open(tmp_path / "sweep.sqlite", node=NodeId("cloud"), federation="toy", options=options)
    monkeypatch.setattr(server.time, "time", lambda: now)
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    asyncio.run(gateway._sweep())  # the service is not there yet: nothing to sweep, and no error
    gateway._service = _Service(ParentView(ledger))
    node = NodeId("edge-0")
    other = NodeId("edge-1")
    for name in (node, other):
        ledger.stage(name, hashlib.sha256(b"old").digest(), b"old")
    now += 80_000.0
    ledger.stage(node, hashlib.sha256(b"late").digest(), b"late")
    asyncio.run(gateway._sweep())
    assert (ledger.staged(node), ledger.staged(other)) == (7, 3)
    now += 80_000.0
    asyncio.run(gateway._sweep())
    assert (ledger.staged(node), ledger.staged(other)) == (7, 0)  # the first of a slow link's chunks stay with the last
    now += 6401.0
    asyncio.run(gateway._sweep())
    assert ledger.staged(node) == 0
    assert "chunks_dropped count=2" in gateway.log._stream.getvalue()
    ledger.close()


def test_edges_are_recalled_for_a_while_when_the_revocation_list_has_changed(config, monkeypatch):
    """Whoever edits the list: the operator's command, a forget, this node's own link."""
    place = config.state / "identity"
    place.mkdir(parents=True)
    gateway, recalls, now = server._Gateway(config, Tier.CLOUD, Log(io.StringIO())), [], [100.0]
    monkeypatch.setattr(server.time, "monotonic", lambda: now[0])
    gateway._service = SimpleNamespace(gateway=SimpleNamespace(recall_servers=lambda: recalls.append(now[0])))

    def recalled(seconds):
        recalls.clear()
        for _ in range(seconds):
            asyncio.run(gateway._spread())
            now[0] += 1.0
        return len(recalls)

    assert recalled(30) > 0  # at its start: it may have changed while this process was not there
    assert recalled(10) == 0
    revocation.update(place, lambda known: revocation.revoke(known, 5.0, node="dev.1"))
    # as long as an edge that has just asked takes to come to its next question
    assert errands.REVOKED_EVERY < recalled(30) < 2 * errands.REVOKED_EVERY


def test_the_service_sweeps_and_tidies(config, monkeypatch):
    monkeypatch.setattr(server, "Service", lambda *args, chores, **rest: chores)
    monkeypatch.setattr(server, "Listener", lambda path: None)
    monkeypatch.setattr(server.Reloaded, "get", lambda self: None)
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    assert {work for _, work in gateway.service()} == {
        gateway._tidy,
        gateway._sweep,
        gateway._look_ready,
        gateway._spread,
    }


def test_the_service_listens_where_it_was_told_and_shows_the_node_loops_metrics(config, monkeypatch):
    monkeypatch.setattr(server, "Service", lambda settings, *args, **rest: settings)
    monkeypatch.setattr(server, "Listener", lambda path: None)
    monkeypatch.setattr(server.Reloaded, "get", lambda self: None)
    for listen, expected in (({}, ("127.0.0.1", None)), ({"admin_host": "::", "admin_port": 9100}, ("::", 9100))):
        mine = msgspec.structs.replace(config, listen=ListenConfig(**listen))
        settings = server._Gateway(mine, Tier.CLOUD, Log(io.StringIO())).service()
        assert (settings.admin_host, settings.admin_port) == expected
        assert settings.metrics_files == (config.state / "metrics.prom",)


def test_it_is_ready_once_it_has_terms_and_an_autoencoder(config, view, monkeypatch):
    told = []
    monkeypatch.setattr(server, "Service", lambda *args, ready, **rest: told.append(ready) or _Service(view))
    monkeypatch.setattr(server, "Listener", lambda path: None)
    monkeypatch.setattr(server.Reloaded, "get", lambda self: None)
    gateway = server._Gateway(config, Tier.CLOUD, Log(io.StringIO()))
    gateway.service()
    ready = told[0]
    asyncio.run(gateway._look_ready())
    assert not ready()
    view.put("terms", {"classes": 10, "mode": "sync", "target": 4})
    asyncio.run(gateway._look_ready())
    assert not ready()
    DiskShelf(config.state / "artefacts").put("autoencoder", b"x", b"", "m")
    asyncio.run(gateway._look_ready())
    assert ready()


def test_a_server_without_an_identity_says_so_before_it_listens(config):
    with pytest.raises(IdentityError, match="not there"):
        server._Gateway(config, Tier.CLOUD, Log(io.StringIO())).service()
