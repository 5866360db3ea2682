"""One keep-alive HTTPS connection to a parent, with bounds on time and size, that another thread may cut.

urllib3 underneath, without retries, redirects or decompression: what to do after a failure is the protocol's decision.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER, Timeout

from fedagg_edge.fleet.endpoints import Endpoint
from fedagg_edge.wire.http import MEDIA_TYPE, Request, Response, strange

__all__ = ["Cutter", "NoAnswer", "ParentConnection", "StrangeAnswer"]

PIECE = 65_536
CheckPeer = Callable[[ssl.SSLSocket], None]


class NoAnswer(Exception):
    """Raised when no complete answer came: refused, reset, timed out, cut, too large, not the parent's certificate."""


class StrangeAnswer(NoAnswer):
    """Raised when somebody else answered in the parent's place: its text says what came. `kind`: its media type."""

    def __init__(self, text: str, status: int, kind: str) -> None:
        super().__init__(text)
        self.status, self.kind = status, kind


class Cutter:
    """Interrupts what the other thread waits for: shuts the socket that it registered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: socket.socket | None = None
        self.is_cut = False

    def register(self, connection: socket.socket) -> None:
        """Remember a socket that is about to connect; raises OSError if the cut has been made."""
        with self._lock:
            if self.is_cut:
                raise ConnectionAbortedError("the connection was cut")
            self._drop()
            # a duplicate: TLS wraps the original and detaches it, and shutting down works through any descriptor
            self._file = connection.dup()

    def cut(self) -> None:
        """Shut the registered socket, now and for all that follow."""
        with self._lock:
            self.is_cut = True
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.shutdown(socket.SHUT_RDWR)
            self._drop()

    def interrupt(self) -> None:
        """Shut the registered socket; those that follow are not touched."""
        with self._lock:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """The registered socket is closed."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class ParentConnection:
    """Requests to one address, in turn.

    `check` looks at the connected socket (whose certificate is it?) before anything is sent, and raises ssl.SSLError;
    needed because a device's certificate is signed by the same authority as its parent's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        check: CheckPeer,
        cutter: Cutter,
        *,
        connect_seconds: float = 10.0,
        read_seconds: float = 75.0,
        whole_seconds: float = 150.0,
        most: int = 2 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read_seconds` must be longer than the longest long poll; `whole_seconds` bounds an answer that drips;
        `most` bounds its bytes."""
        self._cutter, self._most, self._whole, self._clock = cutter, most, whole_seconds, clock
        self._pool = urllib3.HTTPSConnectionPool(
            *endpoint,
            maxsize=1,
            retries=False,
            timeout=Timeout(connect=connect_seconds, read=read_seconds),
            ssl_context=context,
            assert_hostname=None if context.check_hostname else False,
        )
        self._pool.ConnectionCls = _connection_class(cutter, check)

    def send(self, request: Request) -> Response:
        """One exchange; raises NoAnswer."""
        headers = {"User-Agent": SKIP_HEADER, "Accept-Encoding": SKIP_HEADER}
        if request.body:
            headers["Content-Type"] = MEDIA_TYPE
        try:
            answer = self._pool.urlopen(
                request.method,
                request.path,
                body=request.body or None,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                assert_same_host=False,
            )
            try:
                _check_media(answer)
                body = self._read(answer)
            except BaseException:
                answer.close()
                raise
            finally:
                answer.release_conn()  # also a broken one: the pool has but this, and connects it anew
        except NoAnswer:
            self._cutter.forget()
            raise
        except (HTTPError, OSError, ValueError) as error:
            self._cutter.forget()
            raise NoAnswer(type(error).__name__) from error
        return Response(answer.status, body, _seconds(answer.headers.get("Retry-After")), _media(answer.headers))

    def close(self) -> None:
        """Close the connection; this object is of no more use."""
        self._pool.close()
        self._cutter.forget()

    def _read(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        if answer.status == HTTPStatus.NO_CONTENT:  # which has no Content-Length
            answer.drain_conn()
            return b""
        declared = answer.headers.get("Content-Length")
        if declared is None or not declared.isascii() or not declared.isdigit() or int(declared) > self._most:
            raise NoAnswer("size")
        size, deadline = int(declared), self._clock() + self._whole
        pieces, got = [], 0
        while got < size:
            piece = answer.read1(min(PIECE, size - got))
            if not piece or self._clock() > deadline:
                raise NoAnswer("truncated" if not piece else "slow")
            pieces.append(piece)
            got += len(piece)
        answer.drain_conn()
        return b"".join(pieces)


def _connection_class(cutter: Cutter, check: CheckPeer) -> type[HTTPSConnection]:
    class Connection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            # as urllib3 does, but the socket is registered before it connects
            assert self.timeout is None or isinstance(self.timeout, int | float)
            return _connect(self.host, self.port, self.timeout, cutter)

        def connect(self) -> None:
            super().connect()
            assert isinstance(self.sock, ssl.SSLSocket)
            try:
                check(self.sock)
            except BaseException:
                self.close()
                raise

    return Connection


def _connect(host: str, port: int | None, seconds: float | None, cutter: Cutter) -> socket.socket:
    """A connected socket to the first of the host's addresses that answers; raises OSError."""
    last: OSError = OSError(f"{host}: no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            cutter.register(connection)
            connection.connect(address)
        except OSError as error:
            connection.close()
            last = error
        else:
            return connection
    raise last


def _seconds(text: str | None) -> float | None:
    """A Retry-After in seconds; None where there is none or it is a date, which nobody here sends."""
    try:
        seconds = float(text) if text else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 86_400 else None


def _media(headers: Any) -> str:
    return str(headers.get("Content-Type", ""))


def _check_media(answer: urllib3.BaseHTTPResponse) -> None:
    media = _media(answer.headers)
    if (text := strange(answer.status, media)) is not None:
        raise StrangeAnswer(text, answer.status, media.partition(";")[0].strip().lower())
