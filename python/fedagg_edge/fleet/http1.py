"""HTTP/1.1 as a server speaks it on one connection: parsed by httptools, one request after another, each answer one
write.

What a client sends is bounded before it is kept: a head by the numbers below, a body that nobody has asked for by
`AHEAD`, requests behind the one that is being answered by the piece that they came in. A head that is not strictly
HTTP/1.1 ends the connection, as nobody can say where the next request begins.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, cast

import httptools
import msgspec

from fedagg_edge.fleet.listener import unsent
from fedagg_edge.fleet.problems import problem

__all__ = ["Answer", "Finish", "HttpConnection", "Incoming", "Quick"]

FIELD = 1024
"""Bytes of a request's target, and of one field with its name."""
FIELDS = 32
HEAD = FIELD * (FIELDS + 1)
AHEAD = 65_536
"""Bytes of a body that are taken before anybody has asked for it."""
LINGER = 2.0
"""Seconds in which the rest of a body that nobody wants may come, so that its sender reads why."""
FLUSH = 10.0
"""Seconds in which some of what was written last must be read; who goes on reading has as long as who is idle."""
LOOK = 0.1
"""Seconds between looks at how much of it is left."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_EMPTY = (204, 304)
_SHORTEST = len(b"expect")  # of the fields that matter here


class Answer(msgspec.Struct, frozen=True):
    """What goes back; Content-Length, Date and Connection are added to `headers`. `close`: no request may follow."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    close: bool = False


class Incoming:
    """A request whose head has come. `size`: declared bytes of the body, 0 if none; `chunked`: it has no size;
    `coded`: compressed or the like; `expects`: the client sends the body once it is told to go on."""

    __slots__ = (
        "_held",
        "_parts",
        "_reader",
        "_wanted",
        "chunked",
        "coded",
        "complete",
        "connection",
        "expects",
        "keep_alive",
        "method",
        "path",
        "size",
    )

    def __init__(
        self, connection: HttpConnection, method: str, path: str, size: int, *, chunked: bool, coded: bool,
        keep_alive: bool, expects: bool,
    ) -> None:  # fmt: skip
        self.connection, self.method, self.path, self.size = connection, method, path, size
        self.chunked, self.coded, self.keep_alive, self.expects = chunked, coded, keep_alive, expects
        self.complete = False
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted: int | None = AHEAD  # None: nothing more of it
        self._reader: asyncio.Future[None] | None = None

    async def read(self, seconds: float) -> bytes:
        """The body; raises TimeoutError if it has not come in `seconds`. Whoever calls has looked at `size`."""
        if not self.complete:
            self._wanted = self.size
            if self.expects:
                self.expects = False
                self.connection.invite()
            self.connection.balance()
            self._reader = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(seconds):
                await self._reader
        return self._body()

    def whole(self) -> bytes | None:
        """The body if all of it has come."""
        return self._body() if self.complete else None

    def _body(self) -> bytes:
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]  # not kept twice while the answer is made
        return self._parts[0]

    def feed(self, data: bytes) -> None:
        """A part of the body came."""
        self.expects = False
        if self._wanted is not None:
            self._parts.append(data)
            self._held += len(data)

    def end(self) -> None:
        """All of it came."""
        self.complete = True
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def drop(self) -> None:
        """Nobody will read it any more."""
        self._wanted = None
        self._parts.clear()

    @property
    def is_ahead(self) -> bool:
        """Whether as much of the body has come as may be kept now."""
        return not self.complete and self._wanted is not None and self._held >= max(self._wanted, AHEAD)


Work = Callable[[], Coroutine[Any, Any, Answer]]
Finish = Callable[["Answer | Work"], "asyncio.Task[None] | None"]
Quick = Callable[[Incoming, Finish], bool]
"""Takes a request without a task: calls back later, never before it has returned, from the event loop, with its answer
or with what will give it, of which it gets the task unless the client has gone. Or returns False: the handler is
asked."""


class _Fault(Exception):
    """Raised inside the parser."""


class HttpConnection(asyncio.Protocol):
    """One connection. `handler` answers a request and raises nothing; it is cancelled when the client goes. `quick`
    is asked before it. `made` and `lost` are told of the connection's beginning and end. Without a whole request for
    `keepalive` seconds it is closed."""

    def __init__(
        self,
        handler: Callable[[Incoming], Coroutine[Any, Any, Answer]],
        *,
        keepalive: float,
        quick: Quick = lambda request, finish: False,
        made: Callable[[HttpConnection, asyncio.Transport], None] = lambda connection, transport: None,
        lost: Callable[[HttpConnection], None] = lambda connection: None,
    ) -> None:
        self._handler, self._keepalive, self._made, self._lost = handler, keepalive, made, lost
        self._quick = quick
        self._is_quick = False  # the request that is being answered has no task
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._receiving: Incoming | None = None  # its body is still coming
        self._waiting: deque[Incoming] = deque()
        self._task: asyncio.Task[None] | None = None
        self._lingering: Incoming | None = None  # is answered, but still coming
        self._timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._idle_since = self._loop.time()
        self._is_full = self._is_paused = self._is_closing = False
        self._ends = False  # no request is answered any more
        self._fault: Answer | None = None  # the last answer, to what could not be understood
        self._in_head = self._chunked = self._coded = self._expects = False
        self._piece = 0  # bytes of what is being parsed
        self._url, self._head_bytes, self._fields, self._size = b"", 0, 0, 0

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # asyncio's of TLS is no subclass of it
        self._timer = self._loop.call_later(self._keepalive, self._look_if_idle)
        self._made(self, self._transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._is_closing = True
        for timer in (self._timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._waiting.clear()
        self._transport = None
        self._lost(self)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._is_closing or self._fault is not None or (self._ends and self._lingering is None):
            return
        self._piece = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self._give_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "got a head over the limits")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._give_up(HTTPStatus.BAD_REQUEST, "malformed", "got what is no request of HTTP/1.1")
        else:
            if self._in_head or (self._chunked and self._receiving is not None):  # a trailer is bounded as a head is
                self._head_bytes += len(data)
                if self._head_bytes > HEAD:
                    self._give_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "got a head over the limits")
        self._go_on()

    def _give_up(self, status: HTTPStatus, code: str, message: str) -> None:
        """Answer what was understood, then say what is wrong, then close."""
        said = problem(status, code, message)
        self._fault = Answer(status, {"Content-Type": said.media, "Server": "fedagg"}, said.body)
        if self._receiving is not None:  # the rest of that body will never come
            self.abort()

    # the parser's side

    def on_message_begin(self) -> None:
        self._in_head, self._chunked, self._coded, self._expects = True, False, False, False
        self._url, self._head_bytes, self._fields, self._size = b"", 0, 0, 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > FIELD:
            raise _Fault

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > FIELDS or len(name) + len(value) > FIELD:
            raise _Fault
        if len(name) < _SHORTEST:
            return
        known = name.lower()
        if known == b"content-length":
            self._size = int(value)  # digits: the parser has seen to that
        elif known == b"content-encoding":
            self._coded = self._coded or value != b"identity"
        elif known == b"transfer-encoding":
            self._chunked = True
        elif known == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser = self._parser
        is_1_1 = parser.get_http_version() == "1.1"
        self._receiving = Incoming(
            self,
            parser.get_method().decode("ascii"),
            self._url.decode("latin-1"),
            self._size,
            chunked=self._chunked,
            coded=self._coded,
            keep_alive=parser.should_keep_alive() and is_1_1,
            expects=self._expects and is_1_1,
        )
        self._waiting.append(self._receiving)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = -self._piece  # a body has bounds of its own
        if self._receiving is not None:
            self._receiving.feed(body)

    def on_message_complete(self) -> None:
        if self._receiving is not None:
            self._receiving.end()
            self._receiving = None

    # answers

    def _go_on(self) -> None:
        """Begin with the next request, if the answers before it are on their way; close after the last."""
        if self._lingering is not None and self._lingering.complete and self._linger_timer is not None:
            self._linger_timer.cancel()
            self._lingering = self._linger_timer = None
        if not self._is_busy and self._lingering is None and not self._is_full and not self._is_closing:
            if self._ends:
                self.close()
            elif self._waiting:
                self._begin(self._waiting.popleft())
            elif self._fault is not None:
                self._write(self._fault, last=True)
                self.close()
        self.balance()

    @property
    def _is_busy(self) -> bool:
        return self._task is not None or self._is_quick

    def _begin(self, request: Incoming) -> None:
        self._is_quick = True
        if not self._quick(request, partial(self._quickly, request)):
            self._is_quick = False
            self._task = self._loop.create_task(self._answer(request, partial(self._handler, request)))

    def _quickly(self, request: Incoming, answer: Answer | Work) -> asyncio.Task[None] | None:
        self._is_quick = False
        if isinstance(answer, Answer):
            self._finish(request, answer)
        elif not self._is_closing:
            self._task = self._loop.create_task(self._answer(request, answer))
        return self._task

    async def _answer(self, request: Incoming, work: Work) -> None:
        try:
            answer = await work()
        except Exception:  # it should not have
            self.abort()
            raise
        self._task = None
        self._finish(request, answer)

    def _finish(self, request: Incoming, answer: Answer) -> None:
        self._idle_since = self._loop.time()
        request.drop()
        if self._transport is None or self._is_closing:
            return
        # who was not told to go on may send its body all the same, or another request in its place
        self._ends = answer.close or not request.keep_alive or (request.expects and not request.complete)
        self._write(answer, with_body=request.method != "HEAD", last=self._ends)
        if not request.complete:  # let the client send the rest, so that it comes to read the answer
            self._lingering, self._linger_timer = request, self._loop.call_later(LINGER, self.close)
        self._go_on()

    def _write(self, answer: Answer, *, with_body: bool = True, last: bool = False) -> None:
        assert self._transport is not None
        parts = [
            _start(answer.status, tuple(answer.headers.items())),
            _date(),
            b"Connection: close\r\n" if last else b"",
        ]
        if answer.status in _EMPTY:
            parts.append(b"\r\n")
        else:
            parts.append(b"Content-Length: %d\r\n\r\n" % len(answer.body))
            if with_body:
                parts.append(answer.body)
        self._transport.write(b"".join(parts))  # in one: a TLS record and a packet less

    def invite(self) -> None:
        """Tell a client that waits for that to send the body of the request that is being answered."""
        if self._transport is not None and not self._is_closing:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def balance(self) -> None:
        """Take no more from the client while there is enough to do, or go on taking."""
        behind = self._waiting and (self._is_busy or self._is_full)
        pause = bool(behind) or (self._receiving is not None and self._receiving.is_ahead)
        if pause != self._is_paused and self._transport is not None and not self._is_closing:
            self._is_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # the end

    @property
    def unread(self) -> int:
        """Bytes of answers that wait here for the client to read what is before them."""
        return 0 if self._transport is None else unsent(self._transport)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered or waits for it."""
        return not self._is_busy and not self._waiting

    def close(self) -> None:
        """Let what was written go out, then end the connection; what is being answered is given up."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            if self._is_full:  # its client does not read
                self._transport.abort()
            else:
                now = self._loop.time()
                self._close_when_read(self.unread, now, now + self._keepalive)

    def _close_when_read(self, before: int, since: float, most: float) -> None:
        """Close once the kernel has taken all. asyncio would cut TLS two seconds later, however steadily its client
        reads, and wait without end over plain TCP, though nobody reads. `before`: bytes that were left at `since`."""
        if self._transport is None:
            return
        left, now = self.unread, self._loop.time()
        if left < before:
            before, since = left, now
        if not left:
            self._transport.close()
        elif now >= min(since + FLUSH, most):
            self._transport.abort()
        else:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(min(LOOK, FLUSH), self._close_when_read, before, since, most)

    def abort(self) -> None:
        """End it now."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.abort()

    def _look_if_idle(self) -> None:
        """One timer a connection, not one a request."""
        now = self._loop.time()
        # requests that wait without one that is being answered: the client does not read the answers before them
        due = now + self._keepalive if self._is_busy else self._idle_since + self._keepalive
        if now >= due:
            self.close()
        else:
            self._timer = self._loop.call_at(due, self._look_if_idle)


@lru_cache(64)
def _start(status: int, fields: tuple[tuple[str, str], ...]) -> bytes:
    """A head up to what differs between answers of a kind."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join((*lines, "")).encode("latin-1")


_now = 0
_line = b""


def _date() -> bytes:
    """The header Date, made once a second."""
    global _now, _line
    now = int(time.time())
    if now != _now:
        _now, _line = now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("latin-1")
    return _line
