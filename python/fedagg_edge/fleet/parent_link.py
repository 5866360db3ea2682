"""A node's link to its parent: the protocol's child end in the uplink's thread, and what its events set in motion."""

from __future__ import annotations

import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fedagg_edge import __version__
from fedagg_edge.errors import (
    ArtefactError,
    ConfigError,
    FedaggError,
    IdentityBusy,
    IdentityError,
    RemoteProtocolError,
    StorageFull,
)
from fedagg_edge.failpoints import reach
from fedagg_edge.fleet import forgetting, moving, parts, receipts
from fedagg_edge.fleet.clocks import Clocks
from fedagg_edge.fleet.config import FleetConfig, ParentConfig
from fedagg_edge.fleet.endpoints import parse_endpoint
from fedagg_edge.fleet.ends import Talker
from fedagg_edge.fleet.errands import Errands, RevocationList
from fedagg_edge.fleet.keys import ASIDE, SEEN, TERMS
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.renewal import Renewer, at_parent
from fedagg_edge.fleet.shelf import AUTOENCODER, DiskShelf
from fedagg_edge.fleet.signatures import verify
from fedagg_edge.fleet.uplink import Uplink
from fedagg_edge.fleet.views import ChildView
from fedagg_edge.identity import revocation, tls
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.ledger.signal import Signal
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire import events
from fedagg_edge.wire.child import ChildEnd, Idle
from fedagg_edge.wire.child_state import Batch
from fedagg_edge.wire.http import Request
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Artefact, MoveTo, Notice, Problem, Welcome, decode

__all__ = ["ParentLink"]

_BROKEN = 5  # connections that break off, one after the other, before a renewal is tried
_PAUSE = 5.0  # seconds before the next parent is asked when one has refused, or a signature is looked at again

_OVER = re.compile(r"got (\d{1,18}) bytes, expected at most (\d{1,18})")
_SPOKEN = re.compile(r"protocol (\d{1,6} to \d{1,6}).* (\d{1,6} to \d{1,6}); upgrade (the child|the parent)")


class _Talk:
    """The child's end, and before each request a look at what the operator wants."""

    def __init__(self, link: ParentLink, end: ChildEnd) -> None:
        self._link, self._end = link, end
        self.receive, self.failed = end.receive, end.failed

    def next(self, now: float) -> Request | Idle:
        self._link.look()
        step = self._end.next(now)
        self._link.tell_aside()
        return step


class ParentLink:
    """Runs until `stop`. `wake` is called, in the link's thread, whenever the ledger has something new."""

    def __init__(
        self,
        config: FleetConfig,
        parent: ParentConfig,
        tier: Tier,
        log: Log,
        wake: Callable[[], None],
        *,
        clocks: Clocks | None = None,
    ) -> None:
        """`clocks` hear what time it is at the parent."""
        self._config, self._tier, self._log, self._wake = config, tier, log, wake
        self._identity = config.state / "identity"
        self._shelf = DiskShelf(config.state / "artefacts")
        self._end: ChildEnd | None = None
        self._ledger: Ledger | None = None
        self._ready = threading.Event()
        self._begun: tuple[int, float] | None = None  # number of the move under way, and when it was first seen
        self._unverified: tuple[float, Artefact, bytes] | None = None  # from when on it may be tried again
        self._parent = parent
        self._patience = parent.lost_after
        self._clocks = Clocks() if clocks is None else clocks
        self.uplink = Uplink(
            self._open,
            self._targets(),
            self._context,
            parts.check_parent,
            on_events=self._on_events,
            log=log,
            on_move=self._lost,
            on_end=wake,
            on_failure=self._on_failure,
            most=revocation.LIMIT if tier is Tier.EDGE else 2 << 20,
            patience=parent.lost_after,
        )
        self._aside: tuple[Batch, ...] | None = None  # looked at last
        self._clock_is_behind = False
        self._told_expired = False  # since the parent last answered
        self._good: ssl.SSLContext | None = None
        self._broken = self._answered = 0
        urls = (parent.url, *parent.fallback)
        self._renewer = Renewer(
            self._identity, at_parent(self._identity, lambda: (self.uplink.endpoint, *urls)), self._renewed, log
        )

    def _targets(self) -> tuple[str, ...]:
        ledger = parts.open_ledger(self._config, self._tier)
        try:
            return moving.open_targets(ledger, self._parent)
        finally:
            ledger.close()

    def start(self) -> None:
        """Begin to talk."""
        self.uplink.start()
        self._renewer.start()

    def stop(self, seconds: float | None = 5.0) -> None:
        """End the threads, also in the middle of a long poll; that which writes the ledger has `seconds`, None: any."""
        self.uplink.stop(seconds)
        self._renewer.stop()

    def open(self) -> None:
        """This node is ready to exchange knowledge: its own children, or its own samples, are there."""
        if not self._ready.is_set():
            self._ready.set()
            if self._end is not None:
                self._end.ready = True
            self.uplink.poke()

    @property
    def error(self) -> BaseException | None:
        """What ended the link's thread by itself; None while it runs or was stopped."""
        return self.uplink.error

    @property
    def offline(self) -> bool:
        """Whether the parent has not answered, or refused all, for as long as makes it count as lost."""
        return self.uplink.silence > self._patience

    def _context(self) -> ssl.SSLContext:
        """A TLS context of the identity's files; the one before while these do not fit, as in the middle of
        enrolling again. Raises IdentityError if there is none."""
        try:
            self._good = tls.client_context(self._identity, check_time=False if self._clock_is_behind else None)
        except IdentityError as error:
            if self._good is None:
                raise
            self._log.failure("reload_failed", error)
        return self._good

    def _renewed(self) -> None:
        """Connect again with the new certificate, and hear again what the parent has pinned: it may have new
        signatures, as the old ones do not outlive their certificates for long."""
        self.uplink.renewed()
        if self._end is not None:
            self._end.greet()

    def _on_failure(self, error: BaseException) -> bool:
        """Whether the next try needs another TLS context."""
        exchanges = self.uplink.counts.exchanges
        if exchanges != self._answered:
            self._broken, self._told_expired = 0, False
        self._broken += 1
        self._answered = exchanges
        # the reason does not always get through; a board whose clock is not set has nothing else to go by
        if tls.refused_as_expired(error) or (tls.broke_off(error) and self._broken % _BROKEN == 0):
            self._renewer.refused()
        if tls.clock_is_behind(error) and not self._clock_is_behind:
            self._log.warning("clock_is_behind")
            self._clock_is_behind = True
            return True
        if tls.expired_by_this_clock(error) and not self._told_expired:
            self._told_expired = True
            self._log.warning(
                "parents_certificate_expired",
                endpoint=self.uplink.endpoint,
                reason="clock ahead or parent not renewed",
                expected="a clock that is right",
                advice="set the clock or see parent",
            )
        return False

    def look(self) -> None:
        """Take the operator's wish for another parent, if there is one, give up a move that takes too long, and verify
        an artefact for which this machine was too busy; called in the link's thread."""
        ledger = self._ledger
        if ledger is None:
            return
        if self._unverified is not None and time.monotonic() >= self._unverified[0]:
            _, artefact, content = self._unverified
            self._unverified = None
            self._keep(ledger, artefact, content)
            self._wake()
        if urls := moving.wanted(ledger):
            with ledger.transaction():
                ledger.put(moving.WANTED, None)
                self._go(ledger, urls, "asked for here")
        move = moving.under_way(ledger)
        if move is None or self._begun is None or self._begun[0] != move[1]:
            self._begun = None if move is None else (move[1], time.monotonic())
        elif time.monotonic() - self._begun[1] > self._patience:
            self._begun = None
            self._turned_away(ledger, "not taken in for too long")

    def tell_aside(self) -> None:
        """Say once what the parent does not take, and again whenever that changes; called in the link's thread."""
        ledger, end = self._ledger, self._end
        if ledger is None or end is None or end.aside is self._aside:
            return
        rows, longest = sum(b.rows for b in end.aside), max((b.size for b in end.aside), default=0)
        limit = min(end.limits.entry_bytes, end.limits.staged)
        found = {"batches": len(end.aside), "rows": rows, "bytes": longest, "limit": limit} if end.aside else None
        known = ledger.get(ASIDE)
        try:
            with ledger.transaction():
                if end.aside:  # else they stay noted, as after a start the parent has not been asked yet
                    ledger.set_aside(b.key for b in end.aside)
                if found != known:
                    ledger.put(ASIDE, found)
        except StorageFull:  # told when there is room
            return
        if found != known:
            self._log_aside(found)
        self._aside = end.aside

    def _log_aside(self, found: Mapping[str, int] | None) -> None:
        if found is None:
            self._log.info("nothing_set_aside")
        else:
            self._log.warning("rows_set_aside", **{name: found[name] for name in ("rows", "bytes", "limit")})

    def _lost(self, url: str) -> None:
        """The parent was silent for too long: `url` is the next one."""
        ledger, end = self._ledger, self._end
        if ledger is not None and end is not None:
            with ledger.transaction():
                self._choose(ledger, url)
            end.restart()

    def _choose(self, ledger: Ledger, url: str) -> int:
        """Back to the parent that this node has, or on to another one; the number of the move, 0 for none."""
        if url == moving.home(ledger) and moving.under_way(ledger) is not None:
            moving.cancel(ledger)
            return 0
        return moving.begin(ledger, url)

    def _go(self, ledger: Ledger, urls: Sequence[str], why: str, wake: float = 0.0) -> None:
        """Change to the first of `urls`; the others, and what is known besides, are tried after it."""
        fence = self._choose(ledger, urls[0])
        self.uplink.redirect(moving.targets(ledger, self._parent, urls))
        if self._end is not None:
            self._end.restart(wake)
        self._log.info("parent_changes", endpoint=urls[0], fence=fence, reason=why)

    def _told_to_go(self, ledger: Ledger, body: bytes) -> None:
        """The parent says where to go, or that it is about to stop."""
        try:
            urls = decode(MoveTo, body, Limits()).urls
            for url in urls:
                parse_endpoint(url)
        except (RemoteProtocolError, ConfigError) as error:
            self._log.failure("notice_refused", error)
            return
        move = moving.under_way(ledger)
        there = self.uplink.endpoint if move is None else move[0]  # told to go, and then to stay: the last word counts
        others = tuple(u for u in (urls or self._parent.fallback) if u != there)
        if others:
            self._go(ledger, others, "the parent says so")
        elif not urls:
            self._log.warning("no_fallback", reason="parent.fallback names no other")

    def _turned_away(self, ledger: Ledger, why: str) -> None:
        """The new parent does not take this node in: on to the next one, the one that it has among them."""
        move = moving.under_way(ledger)
        other = None if move is None else moving.after(ledger, self._parent, move[0])
        if other is not None:
            with ledger.transaction():
                self._go(ledger, (other,), why, time.monotonic() + _PAUSE)

    def _refused(self, ledger: Ledger, code: str) -> None:
        """A refusal while this node moves; or its own parent has let it go, by a move that was thought given up."""
        home = moving.home(ledger)
        if moving.under_way(ledger) is not None:
            self._turned_away(ledger, "the new parent refused")
        elif code == "moved" and home is not None:
            with ledger.transaction():
                self._go(ledger, (home,), "the parent had let it go", time.monotonic() + _PAUSE)

    @contextmanager
    def _open(self) -> Iterator[Talker]:
        ledger = parts.open_ledger(self._config, self._tier)
        try:
            self._ledger = ledger
            self._end = ChildEnd(
                ChildView(ledger),
                parts.node_of(self._config),
                self._tier,
                self._config.federation,
                f"fedagg-edge {__version__}",
                random.Random(),
                ready=self._ready.is_set(),
                labels=self._config.labels,
            )
            listed = RevocationList(self._identity, self._log)
            talk = _Talk(self, self._end)
            yield Errands(talk, listed) if self._tier is Tier.EDGE else talk
        finally:
            ledger.close()

    def _on_events(self, found: Sequence[object]) -> None:
        for event in found:
            self._on_event(event)
        self._wake()

    def _on_event(self, event: object) -> None:
        ledger, end = self._ledger, self._end
        if ledger is None or end is None:
            return
        match event:
            case events.Welcomed(welcome):
                self._welcomed(ledger, end, welcome)
            case events.ArtefactArrived(artefact, content):
                self._keep(ledger, artefact, content)
            case events.Finished():
                ledger.put("finished", True)
                self._log.info("finished")
            case events.NoticeArrived(notice):
                self._noticed(ledger, notice)
            case events.ReceiptsTaken(taken):
                receipts.mark_sent(ledger, taken)
            case events.Refused(status, problem):
                self._log.warning("refused", status=status, reason=problem.code.replace("_", " "), **_details(problem))
                if status:
                    self._refused(ledger, problem.code)
            case events.Moved(fence):
                self._log.info("parent_changed", endpoint=self.uplink.endpoint, fence=fence)
            case events.Settled(node):
                self._log.info("node_adopted", peer=node)
                bell = Signal(self._config.state / "gateway.sock")
                bell.notify(node)
                bell.close()
            case events.KnowledgeArrived(version):
                self._log.debug("knowledge_arrived", version=version)
            case events.EntryCommitted(_, entry):
                self._log.debug("entry_committed", entry=entry)

    def _refuse(self, node: NodeId, since: float) -> None:
        """Put a node on this server's own list, which its gateway looks at for each request."""
        revocation.update(self._identity, lambda known: revocation.revoke(known, since, node=node))

    def _noticed(self, ledger: Ledger, notice: Notice) -> None:
        """Heed a notice once: what it asks for is decided in the transaction that notes its number."""
        if notice.number <= (ledger.get("noticed") or 0):
            return
        self._log.info("notice", kind=notice.kind, number=notice.number)
        if notice.kind == forgetting.KIND:
            forgetting.obey(ledger, notice, self._log, self._refuse)
            reach("parent_link.noticed.after-order")
        with ledger.transaction():
            ledger.put("noticed", notice.number)
            reach("parent_link.noticed.after-number")
            if notice.kind == "move":
                self._told_to_go(ledger, notice.body)

    def _welcomed(self, ledger: Ledger, end: ChildEnd, welcome: Welcome) -> None:
        self._clocks.heard(welcome.time)
        pinned = next((a for a in welcome.artefacts if a.name == "autoencoder"), None)
        terms: dict[str, Any] = {
            "parent": welcome.node,
            "classes": welcome.classes,
            "mode": welcome.mode,
            "target": welcome.target,
            "autoencoder": None if pinned is None else pinned.digest.hex(),
        }
        with ledger.transaction():
            moving.arrived(ledger, self._parent, self.uplink.endpoint)
            ledger.put(TERMS, terms)
        reach("parent_link.welcomed.after-terms")
        ledger.put("finished", welcome.finished)
        self._log.info("welcomed", peer=welcome.node, mode=welcome.mode, entry=welcome.head)
        here = {a.digest: a for a in self._shelf.listing()}
        for artefact in welcome.artefacts:
            if artefact.name != AUTOENCODER:
                continue
            known = here.get(artefact.digest)
            if known is None:
                end.fetch(artefact)
            elif known != artefact:  # the cloud has signed it again
                self._keep(ledger, artefact, self._shelf.content(known))

    def _keep(self, ledger: Ledger, artefact: Artefact, content: bytes) -> None:
        """Put an artefact on the shelf once the cloud's signature holds, and says no lower version than one seen
        before: a parent that kept an old one could hand it out for as long as its signature is good. A machine that is
        too busy to tell tries again: its parent gives it once a connection, and without it a device can do nothing."""
        try:
            version, seen = verify(self._identity, artefact, time.time()).version, ledger.get(SEEN) or 0
            if version < seen:
                raise ArtefactError(
                    f"artefact {artefact.name!r}: got version {version}, version {seen} was here; expected no lower "
                    "one: see that the cloud has the state folder that it had, and this parent the cloud's newest"
                )
        except IdentityBusy as error:
            self._log.failure("verification_delayed", error, digest=artefact.digest.hex()[:12])
            self._unverified = (time.monotonic() + _PAUSE, artefact, content)
            return
        except FedaggError as error:
            self._log.failure("artefact_refused", error, digest=artefact.digest.hex()[:12])
            return
        if version > seen:  # first: whoever is killed in between must not take an older one afterwards
            ledger.put(SEEN, version)
            reach("parent_link.keep.after-version")
        self._shelf.put(artefact.name, content, artefact.signature, artefact.media)
        self._log.info("artefact_kept", bytes=artefact.size, version=version, digest=artefact.digest.hex()[:12])


def _details(problem: Problem) -> dict[str, object]:
    """Fields for the log that say which versions of the protocol met and which end to upgrade, or how much was too
    much: numbers, as a text may quote what a peer sent."""
    if problem.code == "versions" and (found := _SPOKEN.search(problem.message)) is not None:
        return {"here": found[1], "there": found[2], "upgrade": found[3]}
    if problem.code == "too_large" and (found := _OVER.search(problem.message)) is not None:
        return {"bytes": int(found[1]), "limit": int(found[2])}
    return {}
