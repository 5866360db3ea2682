"""One keep-alive HTTPS connection to a parent, with bounds on time and size, that another thread may cut.

What to do after a failure is the protocol's decision: nothing is sent twice here.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping

from fedagg_edge.fleet.endpoints import Endpoint
from fedagg_edge.fleet.https import BadAnswer, Head, HttpsLine
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
        self._line = HttpsLine(
            endpoint,
            context,
            connect_seconds=connect_seconds,
            read_seconds=read_seconds,
            opening=cutter.register,
            check=check,
        )

    def send(self, request: Request) -> Response:
        """One exchange; raises NoAnswer."""
        try:
            answer = self._line.ask(
                request.method, request.path, request.body, {"Content-Type": MEDIA_TYPE} if request.body else {}
            )
            _check_media(answer)
            body = self._read(answer)
        except (NoAnswer, BadAnswer, OSError, ValueError) as error:
            self._line.close()
            self._cutter.forget()
            if isinstance(error, NoAnswer):
                raise
            raise NoAnswer(type(error).__name__) from error
        return Response(answer.status, body, _seconds(answer.headers.get("retry-after")), _media(answer.headers))

    def close(self) -> None:
        """Close the connection; this object is of no more use."""
        self._line.close()
        self._cutter.forget()

    def _read(self, answer: Head) -> bytes:
        size, deadline = answer.length, self._clock() + self._whole
        if size is None or size > self._most:
            raise NoAnswer("size")
        pieces, got = [], 0
        while got < size:
            piece = self._line.read(PIECE)
            if not piece or self._clock() > deadline:
                raise NoAnswer("truncated" if not piece else "slow")
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)


def _seconds(text: str | None) -> float | None:
    """A Retry-After in seconds; None where there is none or it is a date, which nobody here sends."""
    try:
        seconds = float(text) if text else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 86_400 else None


def _media(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "")


def _check_media(answer: Head) -> None:
    media = _media(answer.headers)
    if (text := strange(answer.status, media)) is not None:
        raise StrangeAnswer(text, answer.status, media.partition(";")[0].strip().lower())
