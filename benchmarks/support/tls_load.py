"""Many keep-alive mTLS connections driven by one thread, every byte on the wire counted.

Not the fleet's own client: that one is a thread a node. Requests go out at given moments, whether or not the answers
before them have come, and a latency counts from the moment at which its request was due.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fedagg_edge.identity import tls

PIECE = 1 << 16


@dataclass(slots=True)
class Connection:
    """One device's connection; `sent` and `received` are bytes on the wire, TLS and HTTP headers included."""

    name: str
    file: socket.socket
    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    sent: int = 0
    received: int = 0
    is_open: bool = False
    due: list[float] = field(default_factory=list)  # of the requests that have no answer yet
    buffer: bytearray = field(default_factory=bytearray)

    def flush(self) -> None:
        """Send what TLS has ready."""
        data = self.outgoing.read()
        if data:
            self.sent += len(data)
            self.file.settimeout(30)  # a request fits the socket's buffer, so this does not wait in practice
            self.file.sendall(data)
            self.file.settimeout(0 if self.is_open else 30)

    def ask(self, path: str, body: bytes, due: float) -> None:
        """Send a POST."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-fedagg\r\n"
        self.due.append(due)
        self.tls.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.flush()

    def take(self) -> list[tuple[int, int]]:
        """Read what came; (status, bytes of body) of each answer that is complete."""
        data = self.file.recv(PIECE)
        if not data:
            raise ConnectionError(f"{self.name}: closed by the gateway")
        self.received += len(data)
        self.incoming.write(data)
        while True:
            try:
                piece = self.tls.read(PIECE)
            except ssl.SSLWantReadError:
                break
            self.buffer += piece
        done = []
        while (answer := _answer(self.buffer)) is not None:
            done.append(answer)
        return done


def _answer(buffer: bytearray) -> tuple[int, int] | None:
    """Take one complete answer off the buffer."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end]).decode("ascii").split("\r\n")
    size = next(int(h.split(":")[1]) for h in head[1:] if h.lower().startswith("content-length:"))
    if len(buffer) < end + 4 + size:
        return None
    del buffer[: end + 4 + size]
    return int(head[0].split()[1]), size


def connect(name: str, port: int, identity: Path) -> Connection:
    """A connection that has shaken hands."""
    file = socket.create_connection(("127.0.0.1", port), timeout=30)
    file.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = Connection(
        name, file, tls.client_context(identity).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1"),
        incoming, outgoing,
    )  # fmt: skip
    while True:
        try:
            made.tls.do_handshake()
        except ssl.SSLWantReadError:
            made.flush()
            incoming.write(file.recv(PIECE))
            continue
        break
    made.is_open = True
    made.flush()
    file.setblocking(False)
    made.sent = made.received = 0
    return made


def drive(
    connections: Iterable[Connection],
    path: str,
    body: Callable[[Connection, int], bytes],
    *,
    rounds: int,
    period: float,
) -> list[float]:
    """Every connection asks `rounds` times, a `period` (seconds) apart, all spread evenly over it; the latencies.

    Raises RuntimeError for an answer that is not 200.
    """
    waiting = selectors.DefaultSelector()
    each = list(connections)
    began = time.perf_counter() + 0.1
    plan = [(began + period * i / len(each), i, 0) for i in range(len(each))]
    heapq.heapify(plan)
    for i, one in enumerate(each):
        waiting.register(one.file, selectors.EVENT_READ, i)
    left, latency = rounds * len(each), []
    while left:
        now = time.perf_counter()
        while plan and plan[0][0] <= now:
            due, i, done = heapq.heappop(plan)
            each[i].ask(path, body(each[i], done), due)
            if done + 1 < rounds:
                heapq.heappush(plan, (due + period, i, done + 1))
        pause = max(0.0, plan[0][0] - time.perf_counter()) if plan else 1.0
        for key, _ in waiting.select(pause):
            one = each[key.data]
            for status, _size in one.take():
                if status != 200:
                    raise RuntimeError(f"{one.name}: got status {status}: {bytes(one.buffer[:200])!r}")
                latency.append(time.perf_counter() - one.due.pop(0))
                left -= 1
    waiting.close()
    return latency
