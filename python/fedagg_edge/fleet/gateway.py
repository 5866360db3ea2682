"""A parent's front door: HTTPS requests in, the protocol's answers out, after the ledger has committed.

One catch-all route. The gateway knows peers, sizes, rates, time and waiting; what a request means is the handler's
affair (wire/parent.py). No thread waits for anything: long polls are futures, the ledger has one thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Generic, TypeVar

import msgspec

from fedagg_edge.errors import RemoteProtocolError, StorageFull
from fedagg_edge.fleet.ends import Handler, HangUp, Later, Peer
from fedagg_edge.fleet.gateway_metrics import GatewayMetrics, endpoint
from fedagg_edge.fleet.http1 import Answer, Finish, Incoming
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.peers import Connection, Connections
from fedagg_edge.fleet.problems import problem
from fedagg_edge.fleet.rates import Meters
from fedagg_edge.fleet.waiting import Waiters
from fedagg_edge.fleet.writer import Store, Writer, WriterBusy, WriterStopped
from fedagg_edge.records import Tier
from fedagg_edge.wire.http import JSON_TYPE, MEDIA_TYPE, RAW_TYPE, Request, Response

__all__ = ["Gateway", "GatewayLimits", "Hook"]

L = TypeVar("L", bound=Store)
Hook = Callable[[Request, Peer | None], Awaitable[Response]]
"""Answers one path by itself, before or without a certificate: enrol and renew."""


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """What a peer may ask of the gateway. Sizes in bytes, times in seconds."""

    body: int = 131_072  # of a message with what travels inside it
    chunk: int = 1 << 20  # of a PUT
    hook_body: int = 16_384  # of those who have no certificate yet
    requests_per_minute: float = 1200
    bytes_per_minute: float = 256 << 20
    body_seconds: float = 30.0
    hooks: int = 2  # at a time; each runs a process
    hooks_per_minute: float = 30  # of one address
    drain_seconds: float = 10.0


class _Refused(Exception):
    """Raised with what to answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(code)
        self.response = problem(status, code, message, retry_after)


def _headers(media: str) -> dict[str, str]:
    return {"Content-Type": media, "Server": "fedagg"}


_HEADERS = {media: _headers(media) for media in (MEDIA_TYPE, RAW_TYPE, JSON_TYPE)}
_HEALTH = ("/healthz", "/readyz")
_FULL_SECONDS = 30.0
"""How long who is refused for want of room may wait before it tries again; a log says it once in that time."""


class Gateway(Generic[L]):
    """Answers requests; give it to `Connections` as the handler.

    `handler` is called in the writer's transaction. `is_allowed` is asked for every request and every other second
    for each connection: it must be quick.
    """

    def __init__(
        self,
        handler: Handler[L],
        writer: Writer[L],
        *,
        connections: Callable[[], Connections],
        is_allowed: Callable[[Peer], bool],
        hooks: Mapping[str, Hook],
        limits: GatewayLimits,
        metrics: GatewayMetrics,
        log: Log,
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler, self._writer, self._connections = handler, writer, connections
        self._ready = ready
        self.is_allowed, self._hooks, self._limits = is_allowed, hooks, limits
        self._metrics, self._log, self._clock, self._monotonic = metrics, log, clock, monotonic
        self.waiters = Waiters()
        self._servers: set[str] = set()  # edges that wait for news
        self._recalls = 0
        self._meters = Meters(limits.requests_per_minute, limits.bytes_per_minute)
        self._hook_meters = Meters(limits.hooks_per_minute, limits.hooks_per_minute * limits.hook_body)
        self._hooks_free = asyncio.Semaphore(limits.hooks)
        self.in_flight = 0
        self.draining = False
        self._silent_until = 0.0  # about a full disk

    async def __call__(self, request: Incoming) -> Answer:
        """Answer one HTTP request. Who has no certificate has a connection for one: enrolment and renewal need no more,
        and what strangers keep open is bounded by how fast they are answered."""
        started = self._monotonic()
        self.in_flight += 1
        connection = self._connections().of(request)
        connection.requests += 1
        try:
            response = await self._answer(request, connection)
        except Exception as error:
            response = self._failed(error)
        finally:
            self.in_flight -= 1
        answer = self._done(request, started, response)
        return answer if connection.peer is not None else msgspec.structs.replace(answer, close=True)

    def begin(self, request: Incoming, finish: Finish) -> bool:
        """Take a request as nearly all are, a whole one for the handler, and call `finish` after its commit: that saves
        a task and its turns of the event loop. False for any other."""
        body, path = request.whole(), request.path
        if body is None or self.draining or path in _HEALTH or path in self._hooks:
            return False
        started, asked, mark = self._monotonic(), self._clock(), self.waiters.mark
        connection = self._connections().of(request)
        if (peer := connection.peer) is None:
            return False
        connection.requests += 1

        def done(response: Response) -> None:
            self.in_flight -= 1
            finish(self._done(request, started, response))

        def committed(value: Response | Later, error: BaseException | None) -> None:
            if error is not None:
                self._end(request, error)
                done(self._refusal(error))
            elif isinstance(value, Response):
                self._meters.charge(peer.node, len(value.body))
                done(value)
            elif (task := finish(partial(wait, value))) is not None:
                task.add_done_callback(over)
            else:
                over(None)

        async def wait(later: Later) -> Answer:
            try:
                response = await self._news(peer, later, mark, asked)
            except Exception as error:
                self._end(request, error)
                response = self._refusal(error)
            self._meters.charge(peer.node, len(response.body))
            return self._done(request, started, response)

        def over(_: object) -> None:
            self.in_flight -= 1

        self.in_flight += 1
        try:
            self._check(peer)
            self._check_rate(request, self._meters, peer.node, self._most(request))
            self._writer.submit(partial(self._handle, peer, Request(request.method, path, body), asked), committed)
        except _Refused as refused:
            asyncio.get_running_loop().call_soon(done, refused.response)
        except Exception as error:
            asyncio.get_running_loop().call_soon(done, self._refusal(error))
        return True

    def _done(self, request: Incoming, started: float, response: Response) -> Answer:
        self._metrics.answered(endpoint(request.path), response, self._monotonic() - started, request.size)
        return self._render(response)

    def _failed(self, error: BaseException) -> Response:
        self._log.failure("request_failed", error)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the server failed; its log says where")

    async def _answer(self, request: Incoming, connection: Connection) -> Response:
        path = request.path
        if path in _HEALTH:
            return self.health(path)
        if self.draining:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "the server is stopping, try again", 2.0)
        hook = self._hooks.get(path)
        try:
            if hook is not None:
                body = await self._admit(request, self._hook_meters, connection.address, self._limits.hook_body)
                async with self._hooks_free:
                    return await hook(Request(request.method, path, body), connection.peer)
            if (peer := connection.peer) is None:
                raise _Refused(HTTPStatus.UNAUTHORIZED, "no_certificate", "got no client certificate, enrol first")
            self._check(peer)
            body = await self._admit(request, self._meters, peer.node, self._most(request))
        except _Refused as refused:
            return refused.response
        response = await self._ask(peer, request, body)
        self._meters.charge(peer.node, len(response.body))
        return response

    def _most(self, request: Incoming) -> int:
        return self._limits.chunk if request.method == "PUT" else self._limits.body

    def _check(self, peer: Peer) -> None:
        if not self.is_allowed(peer):
            raise _Refused(HTTPStatus.FORBIDDEN, "revoked", "this certificate is revoked or has expired")

    async def _admit(self, request: Incoming, meters: Meters, name: str, most: int) -> bytes:
        """The body, if its declared size and the name's rate allow it; raises _Refused."""
        self._check_rate(request, meters, name, most)
        try:
            return await request.read(self._limits.body_seconds)
        except TimeoutError as error:
            raise _Refused(HTTPStatus.REQUEST_TIMEOUT, "slow", "the body did not arrive in time") from error

    def _check_rate(self, request: Incoming, meters: Meters, name: str, most: int) -> None:
        if wait := meters.admit(name, _declared_size(request, most), self._monotonic()):
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, "rate", "over the rate for one node", wait)

    async def _ask(self, peer: Peer, request: Incoming, body: bytes) -> Response:
        """The handler's answer, waiting for news where it says so."""
        mark, asked = self.waiters.mark, self._clock()
        try:
            whole = Request(request.method, request.path, body)
            answer = await self._writer.run(partial(self._handle, peer, whole, asked))
            return answer if isinstance(answer, Response) else await self._news(peer, answer, mark, asked)
        except Exception as error:
            self._end(request, error)
            return self._refusal(error)

    def _end(self, request: Incoming, error: BaseException) -> None:
        """End the connection where the handler wants that; then nobody gets what is answered."""
        if isinstance(error, HangUp):
            request.connection.abort()

    async def _news(self, peer: Peer, later: Later, mark: int, asked: float) -> Response:
        """The answer to one who waits for news since `mark`; raises as the writer does."""
        ends = self._monotonic() + later.until - asked  # of the poll, on a clock that never jumps
        recalls = self._recalls
        if is_server := peer.role == Tier.EDGE:
            self._servers.add(later.node)
        while True:
            if not self.draining:
                await self.waiters.wait(later.node, mark, ends - self._monotonic())
            mark = self.waiters.mark
            over = self._monotonic() >= ends or (is_server and recalls != self._recalls)
            now = later.until if over else min(self._clock(), later.until - 1e-3)
            answer = await self._writer.run(partial(self._resume, peer, later, now))
            if isinstance(answer, Response):
                return answer
            if over or self.draining:
                return problem(HTTPStatus.SERVICE_UNAVAILABLE, "nothing", "nothing new, ask again", 0.0)
            later = answer

    def _refusal(self, error: BaseException | None) -> Response:
        """What an error is answered with; one that nobody has thought of is told to the log."""
        if isinstance(error, StorageFull):
            self._tell_of_full_disk()
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "disk_full",
                "the server's disk is full, nothing was taken; it keeps serving what it has",
                _FULL_SECONDS,
            )
        if isinstance(error, WriterBusy):
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many requests wait", 1.0)
        if isinstance(error, WriterStopped):
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "the server is stopping, try again", 2.0)
        if isinstance(error, HangUp):  # for who counts; it goes nowhere
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "starting", "say hello again", 0.0)
        if isinstance(error, RemoteProtocolError):
            return problem(HTTPStatus.BAD_REQUEST, "malformed", str(error))
        return self._failed(error or RuntimeError("an operation gave nothing"))

    def _tell_of_full_disk(self) -> None:
        """Say it in the log, not once for each of a thousand devices that try again."""
        if self._monotonic() >= self._silent_until:
            self._silent_until = self._monotonic() + _FULL_SECONDS
            self._log.warning("disk_full")

    def _handle(self, peer: Peer, request: Request, now: float, ledger: L) -> Response | Later:
        return self._handler.handle(ledger, peer, request, now)

    def _resume(self, peer: Peer, later: Later, now: float, ledger: L) -> Response | Later:
        return self._handler.resume(ledger, peer, later, now)

    def health(self, path: str) -> Response:
        """``/healthz``: the process answers. ``/readyz``: it takes requests and has what to answer them with, too."""
        ready = not self.draining and self._ready()
        status = HTTPStatus.OK if ready or path == "/healthz" else HTTPStatus.SERVICE_UNAVAILABLE
        body = json.dumps({"ready": ready, "waiting": len(self.waiters), "queue": self._writer.waiting})
        return Response(status, body.encode(), media="application/json")

    def recall_servers(self) -> None:
        """Answer the long polls of edges now, with what there is: each has something else to ask for."""
        self._recalls += 1
        servers, self._servers = self._servers, set()
        self.waiters.wake(servers)

    def drain(self) -> None:
        """Refuse what comes from now on and answer those that wait for news."""
        self.draining = True
        self.waiters.wake_all()

    async def finished(self) -> bool:
        """Wait until nothing is in flight, for as long as the limits say; return whether that was so."""
        deadline = self._monotonic() + self._limits.drain_seconds
        while self.in_flight and self._monotonic() < deadline:
            await asyncio.sleep(0.02)
        return self.in_flight == 0

    def _render(self, response: Response) -> Answer:
        headers = _HEADERS.get(response.media) or _headers(response.media)
        if response.retry_after is not None:  # whole seconds, as RFC 9110 has them
            headers = {**headers, "Retry-After": str(math.ceil(response.retry_after))}
        return Answer(response.status, headers, response.body, close=self.draining)


def _declared_size(request: Incoming, most: int) -> int:
    """The size of the body, known before a byte of it is kept; raises _Refused."""
    if request.coded:
        raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "compressed", "got a compressed body, send it as it is")
    if request.chunked:
        raise _Refused(HTTPStatus.LENGTH_REQUIRED, "length", "got a chunked body, send Content-Length")
    size = request.size
    if size > most:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"got {size} bytes, expected at most {most}")
    return size
