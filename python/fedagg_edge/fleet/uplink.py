"""A node's talk with its parent: one thread that does what the protocol's child end says.

The child end decides what to send, when, and how long to wait after a failure; this thread has the socket. Its ledger
is opened in the thread, too.
"""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from fedagg_edge.errors import StorageFull
from fedagg_edge.fleet.connection import CheckPeer, Cutter, NoAnswer, ParentConnection, StrangeAnswer
from fedagg_edge.fleet.endpoints import Endpoints, parse_endpoint
from fedagg_edge.fleet.ends import Talker
from fedagg_edge.fleet.logs import Log
from fedagg_edge.wire.http import Request

__all__ = ["Counts", "Uplink"]

LONGEST_IDLE = 3600.0
FULL_WAIT = 5.0  # seconds until a full disk may have room


@dataclass(slots=True)
class Counts:
    """What went over the link so far; sizes are of bodies, in bytes."""

    exchanges: int = 0
    failures: int = 0
    sent: int = 0
    received: int = 0
    last_contact: float = -math.inf  # when the parent last gave what it was asked for, on the uplink's clock


class Uplink:
    """Runs a talker against a parent until `stop`.

    `open_talker` is entered in the thread and left when it ends (it opens and closes the ledger). `context` makes the
    TLS context, again after `renewed`. Called in the thread: `on_events` with the events of an answer (once more if the
    disk was full), `on_move` with the address that became current because the one before had not answered for
    `patience` seconds, `on_failure` with what kept an answer from coming (true: the next try needs another context),
    `on_end` last.
    An exception from the talker or a callback ends the thread and is kept in `error`: a broken ledger must stop the
    node, not be retried for ever. A full disk is waited for: an answer that could not be kept counts as none.
    """

    def __init__(
        self,
        open_talker: Callable[[], AbstractContextManager[Talker]],
        endpoints: Sequence[str],
        context: Callable[[], ssl.SSLContext],
        check: CheckPeer,
        *,
        on_events: Callable[[Sequence[object]], None],
        log: Log,
        on_move: Callable[[str], None] = lambda url: None,
        on_end: Callable[[], None] = lambda: None,
        on_failure: Callable[[BaseException], bool] = lambda error: False,
        patience: float = 600.0,
        connect_seconds: float = 10.0,
        read_seconds: float = 75.0,
        most: int = 2 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most`: bytes of an answer. `clock`: seconds that never jump; the talker gets no other. Raises ConfigError
        for a malformed address."""
        self._open, self._context, self._check = open_talker, context, check
        self._on_events, self._on_move, self._on_end, self._log, self._clock = on_events, on_move, on_end, log, clock
        self._on_failure = on_failure
        self._connect_seconds, self._read_seconds, self._most = connect_seconds, read_seconds, most
        self._endpoints = Endpoints(endpoints, patience, clock())
        self._changed = threading.Condition()
        self._stopping = self._poked = self._polling = False
        self._new_urls: tuple[str, ...] | None = None
        self._stale = True  # the connection, if there is one, must be made anew
        self._strange: tuple[int, str] | None = None  # what somebody else answered last, told once
        self._cutter = Cutter()
        self._connection: ParentConnection | None = None
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self.counts = Counts()
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        """There is something new to send: do not wait until the time that the talker gave."""
        with self._changed:
            self._poked = True
            self._changed.notify()

    def interrupt(self) -> None:
        """End a long poll: there is something that cannot wait for its end. The request counts as failed."""
        if self._polling:
            self._cutter.interrupt()

    @property
    def endpoint(self) -> str:
        """The address that is talked to."""
        return self._endpoints.current

    def renewed(self) -> None:
        """The certificate changed: the next request goes over a new connection with a new context."""
        with self._changed:
            self._stale = True

    def redirect(self, urls: Sequence[str]) -> None:
        """Talk to other addresses from the next request on; raises ConfigError for a malformed one."""
        Endpoints(urls, 0.0, 0.0)
        with self._changed:
            self._new_urls = tuple(urls)
            self._poked = True
            self._changed.notify()

    def stop(self, seconds: float | None = 5.0) -> bool:
        """End the thread, also in the middle of a long poll; return whether it ended in time. A request that was cut
        off counts as failed: it is sent again under its own key."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._cutter.cut()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def silence(self) -> float:
        """Seconds since the parent last gave what it was asked for, so no refusal; infinite before that."""
        return self._clock() - self.counts.last_contact

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self._open() as talker:
                while not self._stopping:
                    self._turn(talker)
        except BaseException as error:
            self.error = error
            self._log.failure("uplink_failed", error)
        finally:
            if self._connection is not None:
                self._connection.close()
            self._on_end()

    def _turn(self, talker: Talker) -> None:
        step = talker.next(self._clock())
        if isinstance(step, Request):
            self._exchange(talker, step)
        else:
            self._idle(step.until)

    def _idle(self, until: float) -> None:
        with self._changed:
            while not (self._stopping or self._poked) and (left := until - self._clock()) > 0:
                self._changed.wait(min(left, LONGEST_IDLE))
            self._poked = False

    def _exchange(self, talker: Talker, request: Request) -> None:
        try:
            connection = self._connected()
            self._polling = request.path == "/v1/exchange"
            try:
                response = connection.send(request)
            finally:
                self._polling = False
        except (NoAnswer, OSError) as error:
            self.counts.failures += 1
            self._log.debug(
                "no_answer", endpoint=self._endpoints.current, error=type(error.__cause__ or error).__name__
            )
            self._tell_strange(error)
            talker.failed(request, self._clock())
            if self._on_failure(error):
                self._stale = True
            if self._endpoints.failed(self._clock()):
                self._stale = True
                self._log.warning("parent_changed", endpoint=self._endpoints.current, reason="no contact")
                self._on_move(self._endpoints.current)
            return
        self._endpoints.contact(self._clock())
        self._strange = None
        counts = self.counts
        counts.exchanges += 1
        counts.sent += len(request.body)
        counts.received += len(response.body)
        if response.status < 400:  # a parent that refuses, or has no room, is one that this node has to do without
            counts.last_contact = self._clock()
        try:
            events = tuple(talker.receive(request, response, self._clock()))
        except StorageFull as error:  # the answer was not kept, so it counts as none
            self._log.failure("answer_not_kept", error)
            talker.failed(request, self._clock())
            return
        while events and not self._stopping:
            try:
                self._on_events(events)
                break
            except StorageFull as error:
                self._log.failure("answer_not_kept", error)
                with self._changed:
                    self._changed.wait(FULL_WAIT)

    def _tell_strange(self, error: BaseException) -> None:
        if isinstance(error, StrangeAnswer) and self._strange != (error.status, error.kind):
            self._strange = (error.status, error.kind)
            kind = error.kind.replace("/", " ")
            self._log.warning(
                "no_parents_answer", endpoint=self._endpoints.current, status=error.status, kind=kind,
                reason="proxy or captive portal",
            )  # fmt: skip

    def _connected(self) -> ParentConnection:
        """The connection to the current address; raises OSError if its TLS context cannot be made."""
        with self._changed:
            urls, self._new_urls = self._new_urls, None
            stale, self._stale = self._stale or urls is not None, False
        if urls is not None:
            self._endpoints.replace(urls, self._clock())
        if stale or self._connection is None:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            try:
                self._connection = ParentConnection(
                    parse_endpoint(self._endpoints.current),
                    self._context(),
                    self._check,
                    self._cutter,
                    connect_seconds=self._connect_seconds,
                    read_seconds=self._read_seconds,
                    whole_seconds=2 * self._read_seconds,
                    most=self._most,
                )
            except BaseException:
                self._stale = True
                raise
        return self._connection
