"""HTTP/1.1 over TLS, as much of it as a client here needs: one request at a time over a connection that is kept alive.

Of our own: the standard library's client reads headers as those of an e-mail, and with what that imports it is some
2 MB of a device's memory, urllib3 5 MB (docs/decisions/device-memory.md). No redirects, retries, proxies, cookies or
compression, and no body without a Content-Length.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedagg_edge.fleet.endpoints import Endpoint

__all__ = ["BadAnswer", "Head", "HttpsLine"]

_LONGEST = 65_536  # bytes of a line
_MOST = 100  # lines of a head
_DIGITS = 18  # of a length; Python itself refuses thousands with a ValueError
_INTERIM = 8  # heads that only announce another one
_HEAD_PIECE = 4096
_PIECE = 65_536
_TOGETHER = 65_536  # a body up to this goes out with its head, in as few TLS records


class BadAnswer(Exception):
    """Raised when what came is no HTTP/1.1, or is more of it than anybody sends."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer. `headers`: by name in lower case; what came several times is joined by commas."""

    status: int
    headers: Mapping[str, str]
    version: str

    @property
    def length(self) -> int | None:
        """Bytes of the body; None where the answer does not say."""
        if self.status == 204:
            return 0
        declared = self.headers.get("content-length", "")
        said = declared.isascii() and declared.isdigit() and len(declared) <= _DIGITS
        if "transfer-encoding" in self.headers or not said:
            return None
        return int(declared)

    @property
    def keeps(self) -> bool:
        """Whether another request may follow over the same connection."""
        said = {word.strip().lower() for word in self.headers.get("connection", "").split(",")}
        return "close" not in said and (self.version == "HTTP/1.1" or "keep-alive" in said)


class HttpsLine:
    """A connection to `endpoint`, made when it is needed and again after it ended or broke.

    `opening` gets each socket before it connects, `check` each one that is connected, before anything is sent; both may
    refuse it by raising OSError. `ask`, then `read` until it gives nothing: an answer that was not read to its end ends
    the connection at the next request. Raises OSError (TimeoutError after `connect_seconds` or `read_seconds` without
    a byte, or twice that without a whole head, ConnectionResetError where the server hung up instead of answering,
    ssl.SSLError) and BadAnswer; the connection is closed then.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        *,
        connect_seconds: float,
        read_seconds: float,
        opening: Callable[[socket.socket], None] = lambda plain: None,
        check: Callable[[ssl.SSLSocket], None] = lambda secured: None,
    ) -> None:
        host, self._port = endpoint
        # bytes, as the standard library has a str of ASCII, too, encoded by "idna": a megabyte of tables for Unicode
        self._host, self._context = host.encode("ascii" if host.isascii() else "idna"), context
        self._connect_seconds, self._read_seconds = connect_seconds, read_seconds
        self._opening, self._check = opening, check
        self._socket: ssl.SSLSocket | None = None
        self._buffer = bytearray()  # what came and was not read yet
        self._deadline = 0.0  # of a head
        self._left = 0  # bytes of the body that were not read yet
        self._keeps = False

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Head:
        """Send a request and read the head of its answer."""
        head = self._request(method, path, body, headers or {})
        try:
            connection = self._connected()
            self._keeps = False  # until the answer says so
            self._send(connection, head, body)
            answer = self._read_head()
        except BaseException:
            self.close()
            raise
        self._left, self._keeps = answer.length or 0, answer.length is not None and answer.keeps
        return answer

    def read(self, most: int) -> bytes:
        """Some bytes of the body, at most so many; none at its end, or where the connection ended before it."""
        wanted = min(most, self._left)
        if self._socket is None or wanted == 0:
            return b""
        try:
            piece = bytes(self._buffer[:wanted]) or self._socket.recv(min(wanted, _PIECE))
        except BaseException:
            self.close()
            raise
        del self._buffer[:wanted]
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Close the connection, if there is one. The next request makes another."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None
        self._buffer.clear()

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        host = self._host.decode("ascii")
        host = f"[{host}]" if ":" in host else host
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}" if self._port == 443 else f"Host: {host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        if " " in path or not all(line.isascii() and line.isprintable() for line in lines):
            raise BadAnswer(f"request: got {path!a} with {dict(headers)!a}, expected printable ASCII")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def _connected(self) -> ssl.SSLSocket:
        if self._socket is not None and not self._is_idle(self._socket):
            self.close()
        if self._socket is None:
            plain = _connect(self._host, self._port, self._connect_seconds, self._opening)
            try:
                # the name in a certificate has neither a root's dot nor the interface of an address (fe80::1%eth0)
                name = self._host.rstrip(b".").partition(b"%")[0]
                self._socket = self._context.wrap_socket(plain, server_hostname=name)
            except BaseException:
                plain.close()
                raise
            self._check(self._socket)
            self._socket.settimeout(self._read_seconds)
        return self._socket

    def _is_idle(self, connection: ssl.SSLSocket) -> bool:
        """Whether a request may follow: nothing came that nobody asked for, as the end of the connection."""
        if not self._keeps or self._left or self._buffer or connection.pending():
            return False
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return not poll.poll(0)

    def _send(self, connection: ssl.SSLSocket, head: bytes, body: bytes) -> None:
        # a server that refuses a body may answer and hang up before it has all of it: its answer is there to be read
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            if len(body) <= _TOGETHER:
                connection.sendall(head + body)
            else:
                connection.sendall(head)
                connection.sendall(body)

    def _read_head(self) -> Head:
        self._deadline = time.monotonic() + 2 * self._read_seconds
        for _ in range(_INTERIM):
            version, _, rest = self._line(first=True).partition(" ")
            status, _, _ = rest.partition(" ")
            if version not in ("HTTP/1.1", "HTTP/1.0") or len(status) != 3 or not status.isdecimal():
                raise BadAnswer("the answer does not begin as one of HTTP/1.1")
            head = Head(int(status), self._headers(), version)
            if head.status >= 200:
                return head
            if head.status == 101 or head.status < 100:
                break
        raise BadAnswer("the answer has no status that says how it ends")

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        name = ""
        for _ in range(_MOST):
            line = self._line()
            if not line:
                return headers
            if line[0] in " \t" and name:  # the line before goes on
                headers[name] += " " + line.strip()
                continue
            name, colon, value = line.partition(":")
            name = name.strip().lower()
            if not colon or not name:
                raise BadAnswer("a header of the answer has no name")
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        raise BadAnswer(f"the answer has more than {_MOST} headers")

    def _line(self, *, first: bool = False) -> str:
        assert self._socket is not None
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST:
                raise BadAnswer(f"a line of the answer is longer than {_LONGEST} bytes")
            piece = self._socket.recv(_HEAD_PIECE)
            if not piece and first and not self._buffer:
                raise ConnectionResetError("the server hung up instead of answering")
            if not piece:
                raise BadAnswer("the answer breaks off")
            if time.monotonic() > self._deadline:
                raise TimeoutError("the head of the answer drips")
            self._buffer += piece
        line = bytes(self._buffer[:end]).rstrip(b"\r").decode("latin-1")
        del self._buffer[: end + 1]
        return line


def _connect(host: bytes, port: int, seconds: float, opening: Callable[[socket.socket], None]) -> socket.socket:
    """A connected socket to the first of the host's addresses that answers; raises OSError."""
    last: OSError = OSError(f"{host.decode('ascii')}: no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opening(connection)
            connection.connect(address)
        except OSError as error:
            connection.close()
            last = error
        else:
            return connection
    raise last
