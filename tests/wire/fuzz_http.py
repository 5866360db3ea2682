"""What `fuzz_wire` feeds to both ends of HTTP: a server's connection and a client's line, without a socket or a clock.

A server understands the same requests, and answers the same, however its client's bytes are cut into pieces; it says
nothing that is no answer, and raises nothing. A client takes an answer or refuses it with BadAnswer or OSError, and
gives no more of a body than was declared.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[1] / "fleet"))

from transport import Wire

from fedagg_edge.fleet.http1 import Answer, HttpConnection, Incoming
from fedagg_edge.fleet.https import BadAnswer, Head, HttpsLine

__all__ = ["SEEDS", "client", "server"]

_LARGEST = 2048  # bytes of a body that the server here takes
_TURNS = 8  # of the event loop: more than any request needs from its last byte to its answer

_GET = b"GET /v1/status HTTP/1.1\r\nHost: e\r\n\r\n"
_POST = b"POST /v1/append HTTP/1.1\r\nHost: e\r\nContent-Length: 5\r\n\r\nhello"
_CHUNKED = (
    b"PUT /v1/chunks/ab HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"
)
_EXPECT = b"POST /v1/hello HTTP/1.1\r\nHost: e\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
_LAST = b"POST /v1/leave HTTP/1.1\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"
_OLD = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
_REQUESTS = (_GET, _POST, _CHUNKED, _EXPECT, _LAST, _OLD, _GET + _POST + _GET, _POST + _CHUNKED, _GET + b"\x16\x03\x01")
_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 503 Wait\r\nRetry-After: 3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nFolded: a\r\n b\r\nX: 1\r\nX: 2\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
)
SEEDS: tuple[tuple[bytes, ...], tuple[bytes, ...]] = (
    tuple(bytes([cut]) + request for request in _REQUESTS for cut in (0, 1, 7)),
    tuple(bytes([cut]) + answer for answer in _ANSWERS for cut in (0, 3)),
)
"""Inputs of `server`, and of `client`."""


def server(data: bytes) -> None:
    """The first byte: how the rest is cut."""
    if not data:
        return
    loop = asyncio.new_event_loop()
    try:
        whole = loop.run_until_complete(_served([data[1:]]))
        pieces = loop.run_until_complete(_served(_cut(data[1:], data[0])))
    finally:
        loop.close()
    # what breaks off inside a body ends the connection, and with it what has not been answered at that moment
    is_cut_off = whole[2] or pieces[2]
    for one, other in zip(whole[:2], pieces[:2], strict=True):
        shared = min(len(one), len(other)) if is_cut_off else None
        assert one[:shared] == other[:shared], (one, other)


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)] if size else [data]


async def _served(pieces: list[bytes]) -> tuple[list[tuple[str, str, bytes]], list[int], bool]:
    """The requests that a connection gave to its handler, the statuses of its answers, and whether it was cut off."""
    seen: list[tuple[str, str, bytes]] = []
    wrong: list[bytes] = []

    async def handler(request: Incoming) -> Answer:
        if request.coded or request.chunked or request.size > _LARGEST:
            seen.append((request.method, request.path, b""))
            return Answer(413, {}, close=True)
        body = await request.read(60.0)
        wrong.extend([body] if len(body) != request.size else [])  # raised here nobody would see it
        seen.append((request.method, request.path, body))
        return Answer(200, {})

    wire = Wire()
    connection = HttpConnection(handler, keepalive=60.0)
    connection.connection_made(wire)
    for piece in pieces:
        if wire.is_closing():
            break
        connection.data_received(piece)
        await _settle(_TURNS)
    await _settle(_TURNS * (1 + sum(piece.count(b"\n\r\n") for piece in pieces)))  # each head's request in its turn
    connection.connection_lost(None)
    await _settle(1)
    assert not wrong
    return seen, _statuses(b"".join(wire.sent)), wire.ended == "aborted"


async def _settle(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def _statuses(written: bytes) -> list[int]:
    """What was said; all answers here have no body or a problem's, whose length stands in the head."""
    found = []
    while written:
        head, end, written = written.partition(b"\r\n\r\n")
        assert end, head
        lines = head.split(b"\r\n")
        version, status, *_ = lines[0].split(b" ")
        assert version == b"HTTP/1.1", head
        if int(status) == 100:  # said only to who has not sent the body yet
            continue
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        found.append(int(status))
        written = written[int(fields[b"Content-Length"]) :] if int(status) in (400, 431) else written
    return found


class _Socket:
    """Gives an answer in pieces, then the end."""

    def __init__(self, answer: bytes, size: int) -> None:
        self.left, self.size = answer, size

    def recv(self, most: int) -> bytes:
        most = min(most, self.size)
        piece, self.left = self.left[:most], self.left[most:]
        return piece

    def sendall(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class _Line(HttpsLine):
    def __init__(self, answer: bytes, size: int) -> None:
        super().__init__(("e", 1), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), connect_seconds=1, read_seconds=1)
        self._given = _Socket(answer, size)

    def _connected(self) -> ssl.SSLSocket:
        self._socket = cast(ssl.SSLSocket, self._given)
        return self._socket


def client(data: bytes) -> None:
    """The first byte: how many bytes come at a time, 0 for any number."""
    if not data:
        return
    whole, pieces = (_told(data[1:], size) for size in (len(data), data[0] or len(data)))
    assert whole == pieces, (whole, pieces)
    head, body = whole
    assert head is None or (200 <= head.status <= 999 and len(body) <= (head.length or 0))


def _told(answer: bytes, size: int) -> tuple[Head | None, bytes]:
    """What a client makes of an answer; no head if it refuses it."""
    line = _Line(answer, size)
    body = b""
    with contextlib.suppress(BadAnswer, OSError):
        head = line.ask("POST", "/v1/hello", b"{}")
        while piece := line.read(100):
            body += piece
        return head, body
    return None, body
