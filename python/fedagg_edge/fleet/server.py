"""The gateway's process of an edge or the cloud: the protocol's parent end behind TLS, with enrolment and renewal."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from fedagg_edge import __version__
from fedagg_edge.errors import (
    CannotCertify,
    DataError,
    FedaggError,
    IdentityBusy,
    IdentityError,
    PermissionDenied,
    RemoteProtocolError,
)
from fedagg_edge.failpoints import reach
from fedagg_edge.fleet import moving, parts
from fedagg_edge.fleet.commons import Commons
from fedagg_edge.fleet.config import FleetConfig, ListenConfig
from fedagg_edge.fleet.connection import Cutter, NoAnswer
from fedagg_edge.fleet.ends import HangUp
from fedagg_edge.fleet.ends import Peer as AnyPeer
from fedagg_edge.fleet.errands import REVOKED_EVERY
from fedagg_edge.fleet.exits import Exit
from fedagg_edge.fleet.gateway import GatewayLimits
from fedagg_edge.fleet.keys import CERTIFICATE, LEFT_TO, TERMS
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.rates import TokenBucket
from fedagg_edge.fleet.reload import Reloaded
from fedagg_edge.fleet.renewal import buy_at
from fedagg_edge.fleet.round_metrics import metrics_file
from fedagg_edge.fleet.serve import Service, ServiceSettings, serve
from fedagg_edge.fleet.shelf import DiskShelf, Pinned
from fedagg_edge.fleet.views import ParentView
from fedagg_edge.identity import folder, offload, pem, requests, revocation, tls, tokens
from fedagg_edge.identity.facts import Facts
from fedagg_edge.identity.renewal import DAY
from fedagg_edge.ledger.signal import Listener
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Enrol, Enrolled, MoveTo, Renew, decode, encode
from fedagg_edge.wire.parent import Later, ParentEnd
from fedagg_edge.wire.problems import answer
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.terms import CHILD, DRAINING, FINISHED, LEAVING, PRESENT, Terms

__all__ = ["run_gateway"]

_FOLD_BYTES = 16 << 20  # rows are the node loop's to keep in memory; here a child's are wanted when it appends
_PAGE_BYTES = 16 << 20  # the four rows of knowledge of 1,000 children: each is read and written in every exchange
_TIDY_EVERY = 3600.0  # seconds between looks at tokens and revocations that have had their time
_SWEEP_EVERY = 600.0  # seconds between looks at chunks that no message has named
_STAGED_FOR = 86400.0  # seconds without another chunk that a node's are kept: its link may be away for so long
_READY_EVERY = 1.0
_SPREAD_EVERY = 1.0  # seconds between looks at whether the revocation list has changed
_SPREAD_FOR = REVOKED_EVERY + 2 * _SPREAD_EVERY  # seconds; in this time each edge below comes to its question once
_DRAINED = 60.0  # seconds after which to ask a drained edge again: it may be started again and serve
_ABOVE = 10.0  # seconds for an answer from further up: meanwhile a hook's place is taken, of which there are two
_UNSIGNED = 300.0  # seconds after which to ask a server without a signing key again: a person may give it one
_EXCHANGE = "/v1/exchange"
_HELLO = "/v1/hello"
_FROM_CHILDREN = (_HELLO, _EXCHANGE)  # a child that renewed may go on without another hello
_STRANGERS = 6.0  # renewals a minute of certificates that this server has not seen before


def run_gateway(config: FleetConfig, tier: Tier, log: Log) -> Exit:
    """Serve until SIGTERM; the exit code. Raises FedaggError before it listens."""
    return serve(lambda: _Gateway(config, tier, log).service(), log)


@dataclass(frozen=True, slots=True)
class _Shown(Peer):
    """A peer with what its certificate says. They stay together: a serial is its issuer's choice, and one that chose
    another's would have that one's facts judged in place of its own."""

    facts: Facts


class _Handler:
    """The parent's end; its terms are read from the ledger, where the node loop keeps them."""

    def __init__(self, config: FleetConfig, tier: Tier, connected: Callable[[], frozenset[str]] = frozenset) -> None:
        self._config = config
        self._shelf = DiskShelf(config.state / "artefacts")
        self._limits = config.limits.wire()
        self._commons = Commons(config, tier, connected)
        self._known: bytes | None = None  # the terms that `_parent` was made of
        self._greeted: set[NodeId] = set()  # those who were told these terms, by this process
        self._parent: ParentEnd | None = None

    def handle(self, ledger: ParentView, peer: AnyPeer, request: Request, now: float) -> Response | Later:
        if request.path == _EXCHANGE:
            ledger.look(NodeId(peer.node), _asked_of(peer.node))
        try:
            return self._handle(ledger, peer, request, now)
        finally:
            ledger.forget_look()

    def _handle(self, ledger: ParentView, peer: AnyPeer, request: Request, now: float) -> Response | Later:
        common = self._commons.answer(ledger, peer, request)
        if common is not None:
            return common
        end = self._end(ledger)
        if end is None:
            return answer(Refusal(503, "starting", "this parent does not know its own terms yet", 1.0))
        known = _peer(peer)
        if known.role is Tier.EDGE and not request.path.endswith("/adopt") and _is_new(ledger, known.node):
            ledger.ledger.enrol(known.node, known.role, known.serial)  # the operator made its identity
        if request.path == _EXCHANGE and known.node not in self._greeted:
            # a connection that ended while nothing was asked is made again without a word, and these terms may have
            # another mode or target than those before: a child that does not know may keep all from going on
            raise HangUp
        answered = end.handle(ledger, known, request, now)
        if request.path == _HELLO and not isinstance(answered, Later) and answered.status == 200:
            self._greeted.add(known.node)
        if request.path in _FROM_CHILDREN and (isinstance(answered, Later) or answered.status == 200):
            self._keep_certificate(ledger, known)
        return answered

    def _keep_certificate(self, ledger: ParentView, peer: Peer) -> None:
        """What the node loop looks up in the revocation list, as the gateway does: only here is the certificate seen
        that a child shows, which an operator or another parent may have made."""
        if not isinstance(peer, _Shown):
            return
        if ledger.raw(CERTIFICATE + peer.node) != msgspec.msgpack.encode(peer.facts):
            ledger.put(CERTIFICATE + peer.node, msgspec.to_builtins(peer.facts))
            ledger.ledger.introduce(peer.node, peer.role, peer.serial)  # its renewal is no stranger's, whoever made it

    @property
    def ready(self) -> bool:
        """Whether children are answered with more than `starting`."""
        return self._parent is not None

    def look(self, ledger: ParentView) -> None:
        """Read the terms, if they have come."""
        self._end(ledger)

    def resume(self, ledger: ParentView, peer: AnyPeer, later: Any, now: float) -> Response | Later:
        ledger.look(NodeId(peer.node), _asked_of(peer.node))
        try:
            end = self._end(ledger)
            return later if end is None else end.resume(ledger, _peer(peer), later, now)
        finally:
            ledger.forget_look()

    def _end(self, ledger: ParentView) -> ParentEnd | None:
        known = ledger.raw(TERMS)
        if self._parent is not None and known == self._known:
            return self._parent
        terms = ledger.get(TERMS)
        if terms is None or self._shelf.find("autoencoder") is None:
            return None
        self._known, self._parent = known, self._make_end(terms)
        self._greeted.clear()
        return self._parent

    def _make_end(self, terms: Mapping[str, Any]) -> ParentEnd:
        return ParentEnd(
            Terms(
                federation=self._config.federation,
                node=parts.node_of(self._config),
                classes=int(terms["classes"]),
                limits=self._limits,
                software=f"fedagg-edge {__version__}",
                mode=str(terms["mode"]),
                target=int(terms["target"]),
                shelf=Pinned(self._shelf),
            )
        )


def _is_new(ledger: ParentView, node: NodeId) -> bool:
    """Whether a node has never been here, nor asked to come: at most it has renewed its certificate, as one does whose
    first connections broke off."""
    facts = ledger.node(node)
    if facts is None:
        return True
    was_here = facts.active or ledger.fence(node) or ledger.head(node).entry
    return facts.revoked is None and not was_here and ledger.adoption(node) is None


def _asked_of(node: str) -> tuple[str, ...]:
    """The facts that an exchange of `node` asks for."""
    return TERMS, DRAINING, FINISHED, PRESENT + node, CHILD + node, CERTIFICATE + node


def _peer(peer: AnyPeer) -> Peer:
    return peer if isinstance(peer, Peer) else Peer(NodeId(peer.node), Tier(peer.role), peer.serial)


@dataclass(slots=True)
class _Gateway:
    """What the service is made of."""

    config: FleetConfig
    tier: Tier
    log: Log
    _service: Service[ParentView] | None = None
    _handler: _Handler | None = None
    _revoked: Reloaded[revocation.Revocations] = field(init=False)
    _contexts: Reloaded[ssl.SSLContext] = field(init=False)
    _strangers: TokenBucket = field(init=False)
    _told: revocation.Revocations | None = None
    _spread_until: float = -math.inf  # on the monotonic clock

    def __post_init__(self) -> None:
        place = self.identity
        own = [place / name for name in (folder.CERTIFICATE, folder.KEY, folder.AUTHORITY)]
        self._contexts = Reloaded(own, lambda: tls.server_context(place), self.log)
        self._revoked = Reloaded([place / folder.REVOKED], lambda: revocation.load(place), self.log)
        self._strangers = TokenBucket(_STRANGERS / 60, _STRANGERS, time.monotonic())

    @property
    def identity(self) -> Path:
        return self.config.state / "identity"

    def service(self) -> Service[ParentView]:
        listen = self.config.listen or ListenConfig()
        state, limits = self.config.state, self.config.limits.wire()
        allowed = GatewayLimits(
            body=limits.body,
            chunk=limits.chunk,
            requests_per_minute=limits.requests_per_minute,
            bytes_per_minute=limits.bytes_per_minute,
        )
        self._contexts.get()  # an identity that is not there or does not fit is told now, not to each who connects
        if not folder.may_sign(self.identity):  # it serves those whom others certify
            self.log.warning(
                "cannot_certify",
                reason="no signing key",
                expected="identity of fedagg pki server",
                advice="enrol devices elsewhere; renewals are handed on to the parent",
            )
        handler = self._handler = _Handler(self.config, self.tier, self._connected)
        service: Service[ParentView] = Service(
            ServiceSettings(
                listen.host,
                listen.port,
                admin_host=listen.admin_host,
                admin_port=listen.admin_port,
                gateway=allowed,
                metrics_files=(metrics_file(state),),
            ),
            handler,
            lambda: ParentView(
                parts.open_ledger(self.config, self.tier, fold_bytes=_FOLD_BYTES, page_bytes=_PAGE_BYTES)
            ),
            self._contexts.get,
            self._identify,
            log=self.log,
            is_allowed=self._is_allowed,
            hooks={"/v1/enrol": self._enrol, "/v1/renew": self._renew},
            doorbell=Listener(state / "gateway.sock"),
            poll=lambda ledger, topics: topics,  # a look a second: a wake-up that was lost costs no more
            chores=(
                (_TIDY_EVERY, self._tidy),
                (_SWEEP_EVERY, self._sweep),
                (_READY_EVERY, self._look_ready),
                (_SPREAD_EVERY, self._spread),
            ),
            ready=lambda: handler.ready,
        )
        self._service = service
        return service

    def _connected(self) -> frozenset[str]:
        return frozenset() if self._service is None else self._service.connections.nodes()

    def _identify(self, connection: Any) -> Peer | None:
        try:
            facts = tls.peer_of(connection)
        except PermissionDenied:
            return None
        if facts.federation != self.config.federation:
            return None
        return _Shown(facts.node, facts.role, facts.serial, facts)

    def _is_allowed(self, peer: AnyPeer) -> bool:
        # an open connection outlives its certificate
        if not isinstance(peer, _Shown) or time.time() > peer.facts.not_after:
            return False
        try:
            revocation.check(self._revoked.get(), peer.facts)
        except PermissionDenied:
            return False
        return True

    async def _tidy(self) -> None:
        """Let go what can never be asked for again: tokens, revocations of nodes."""
        now = time.time()
        removed = tokens.remove_expired(self.identity, now)
        revocation.update(self.identity, lambda known: revocation.prune(known, now))
        if removed:
            self.log.info("tokens_expired", count=removed)

    async def _spread(self) -> None:
        """A revocation list that has changed goes down at once: for a while no edge below is held in a poll, so that
        each comes to its own question after the list, a level in seconds."""
        known = self._revoked.get()
        if known is not self._told:
            self._told, self._spread_until = known, time.monotonic() + _SPREAD_FOR
        if self._service is not None and time.monotonic() < self._spread_until:
            self._service.gateway.recall_servers()

    async def _look_ready(self) -> None:
        """Until there are terms and an autoencoder a look a second for them, so that /readyz knows: nobody may have
        asked for anything yet."""
        if self._handler is not None and not self._handler.ready:
            await self._in_ledger(self._handler.look)

    async def _sweep(self) -> None:
        """Drop chunks that no message will name: their child was killed, or had newer knowledge before they had all
        come. They would count against its `limits.staged` for ever, and nothing could be sent any more."""
        if self._service is None:
            return
        removed = await self._in_ledger(lambda ledger: ledger.ledger.drop_staged(time.time() - _STAGED_FOR))
        if removed:
            self.log.info("chunks_dropped", count=removed)

    async def _enrol(self, request: Request, peer: AnyPeer | None) -> Response:
        try:
            asked = decode(Enrol, request.body, Limits())
            self._check_signs()  # first: a token of another server is refused for good
            grant = tokens.find_grant(self.identity, asked.token, time.time())
            if (grant.node, grant.role.value) != (asked.node, asked.role):
                raise PermissionDenied(f"enrolment: the token is not for {asked.role} {asked.node!r}")
            revocation.check_token(self._revoked.get(), grant.node, grant.made)
            key = hashlib.sha256(asked.public_key).hexdigest()
            await self._in_ledger(lambda ledger: _spend(ledger, grant.digest, key))
            reach("server.enrol.after-token")
            wanted = requests.Enrol(
                folder=str(self.identity),
                node=grant.node,
                role=grant.role,
                token_digest=bytes.fromhex(grant.digest),
                public_key=asked.public_key,
                proof=asked.proof,
                time=asked.time,
                now=time.time(),
                hosts=grant.hosts,
                lifetime=self._lifetime,
            )
            issued = await offload.ask_async(wanted, requests.Issued)
            reach("server.enrol.after-issue")
            node = NodeId(grant.node)
            await self._in_ledger(lambda ledger: _enter(ledger, node, grant.role, issued.serial))
        except (FedaggError, RemoteProtocolError) as error:
            return self._denied(error)
        self.log.info("enrolled", peer=node, serial=issued.serial)
        return self._certified(issued)

    async def _renew(self, request: Request, peer: AnyPeer | None) -> Response:
        try:
            asked = decode(Renew, request.body, Limits())
            if self.config.parent is None:
                self._check_signs()
            await self._check_known(asked)
            wanted = requests.Renew(
                folder=str(self.identity),
                certificate=asked.certificate,
                public_key=asked.public_key,
                proof=asked.proof,
                time=asked.time,
                now=time.time(),
                lifetime=self._lifetime,
            )
            try:
                issued = await offload.ask_async(wanted, requests.Issued)
            except CannotCertify:  # all else was checked before: what is denied here nobody above is asked for
                if self.config.parent is None:
                    raise
                return await self._renew_above(asked)
            reach("server.renew.after-issue")
            node, role = NodeId(issued.node), issued.role
            # a certificate makes nobody a child: this may be the former parent of a node whose own does not answer
            await self._in_ledger(lambda ledger: ledger.ledger.introduce(node, role, issued.serial))
        except (FedaggError, RemoteProtocolError) as error:
            return self._denied(error)
        self.log.info("renewed", peer=node, serial=issued.serial)
        return self._certified(issued)

    async def _renew_above(self, asked: Renew) -> Response:
        """What this server's own parent gives for a request that this one cannot grant: an edge signs for devices
        alone, not for an edge below it, and one that was enrolled with a token for nobody. The proof names no server.
        Only the parent that it has is asked: two edges that are each other's fallbacks would ask in a circle."""
        assert self.config.parent is not None
        url = await self._in_ledger(lambda view: moving.home(view.ledger)) or self.config.parent.url
        cutter = Cutter()
        try:
            async with asyncio.timeout(_ABOVE):
                chain = await asyncio.to_thread(buy_at, self.identity, url, asked, cutter)
        except (NoAnswer, TimeoutError):
            text = "this server may not certify you, and its own parent, which may, does not answer"
            raise Refusal(503, "no_signing_key", text, _UNSIGNED) from None
        except RemoteProtocolError as error:
            if isinstance(error, Refusal | PermissionDenied):
                raise
            self.log.failure("request_failed", error)
            raise Refusal(503, "busy", "this server's own parent answered what it cannot read", _UNSIGNED) from None
        finally:
            cutter.cut()  # who asked has gone, this server stops, or it took too long: no thread waits on
        self.log.info("renewal_handed_on", serial=pem.validity(pem.certificates(chain)[0]).serial)
        authority = folder.read(self.identity / folder.AUTHORITY)
        return Response(200, encode(Enrolled(chain, authority, self.config.node.id, self.config.federation)))

    def _denied(self, error: FedaggError) -> Response:
        """The refusal; what it does not tell the peer, the log has."""
        refusal = _denied(error)
        if refusal.status == 503:
            self.log.failure("request_failed", error)
        return refusal

    @property
    def _lifetime(self) -> float:
        return self.config.identity.certificate_days * DAY

    def _check_signs(self) -> None:
        """Refuse what this server cannot do however long one waits, in words that help who reads them there. An edge
        that was enrolled with a token is one; no process is started, and no token is spent."""
        if not folder.may_sign(self.identity):
            text = "this server has no signing key, so it enrols and renews nobody: ask another one of the federation, "
            text += "or have the operator make this one's identity with `fedagg pki server`"
            raise Refusal(503, "no_signing_key", text, _UNSIGNED)

    async def _check_known(self, asked: Renew) -> None:
        """A stranger must not be able to start processes: certificates that were never seen here, as those of nodes
        that have just moved, are looked at a few times a minute only."""
        serial = pem.validity(pem.certificates(asked.certificate)[0]).serial
        if await self._in_ledger(lambda ledger: ledger.ledger.knows_serial(serial)):
            return
        if wait := self._strangers.wait(1, time.monotonic()):
            raise Refusal(429, "rate", "renewal: too many certificates that are not known here, ask again", wait)
        self._strangers.take(1)

    async def _in_ledger(self, operation: Any) -> Any:
        if self._service is None:
            raise IdentityError("the gateway is not up yet")
        return await self._service.writer.run(operation)

    def _certified(self, issued: requests.Issued) -> Response:
        done = Enrolled(issued.certificate, issued.authority, self.config.node.id, self.config.federation)
        return Response(200, encode(done))


def _spend(ledger: ParentView, digest: str, key: str) -> None:
    """A token is spent by the first key that comes with it; the same key again is a retry, whose node was told where
    to go if this edge is drained since. Raises PermissionDenied, Refusal."""
    fact = f"token/{digest}"
    known = ledger.get(fact)
    if known is None:
        _refuse_newcomers(ledger)
        ledger.put(fact, key)
    elif known != key:
        raise PermissionDenied("enrolment token: it was used already; make another: fedagg pki token")


def _enter(ledger: ParentView, node: NodeId, role: Tier, serial: str) -> None:
    """Make it a child; one whose token was spent before this edge was drained hears where the others have gone."""
    ledger.ledger.enrol(node, role, serial)
    if ledger.get(LEAVING) is True and not any(n.kind == "move" for n in ledger.notices(node, 0)):
        ledger.ledger.notify(node, "move", encode(MoveTo(tuple(ledger.get(LEFT_TO) or ()))))


def _refuse_newcomers(ledger: ParentView) -> None:
    """An edge that is drained takes nobody in: who came now would hear of that from nobody."""
    if ledger.get(LEAVING) is not True:
        return
    others = " or ".join(ledger.get(LEFT_TO) or ())
    where = f"at {others}, with a token made there" if others else "at another edge, with a token made there"
    raise Refusal(503, "draining", f"this edge is drained and takes nobody in; enrol {where}", _DRAINED)


_PLACE = re.compile(r"[^\s/]*/\S")  # a path, absolute or not: of this server's files nothing goes to a peer


def _denied(error: FedaggError) -> Response:
    """A refusal that tells a stranger no more than it must. What names a file is about this server: it asks for
    patience, as a person may mend that."""
    if isinstance(error, Refusal):
        return answer(error)
    if isinstance(error, PermissionDenied | IdentityError | DataError) and _PLACE.search(str(error)):
        return answer(Refusal(503, "busy", "this server cannot do that now; its log says where it failed", 30.0))
    if isinstance(error, PermissionDenied | IdentityError | DataError) and not isinstance(error, IdentityBusy):
        return answer(Refusal(403, "role", str(error)))
    return answer(error if isinstance(error, RemoteProtocolError) else Refusal(503, "busy", type(error).__name__, 5.0))
