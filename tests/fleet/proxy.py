"""A TCP proxy that misbehaves: below TLS, so it sees bytes and connections, not requests.

Each connection draws its fate from the proxy's seed: after so many bytes it is reset, closed in the middle, stalls for
a while, has a byte turned round, or is well; every piece may be late. A proxy can be cut off (`partition`): nothing
passes, nobody is told; `heal` lets it pass again, and the connections of before are gone, as behind a NAT that forgot
them. After `faults` faults it behaves.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass

__all__ = ["FATES", "Proxy"]

FATES = ("reset", "close", "stall", "garble", "drop", "well")
_PIECE = 4096


@dataclass(slots=True)
class _Way:
    """One direction of a connection."""

    source: socket.socket
    target: socket.socket
    passed: int = 0


@dataclass(slots=True)
class _Pair:
    client: socket.socket
    server: socket.socket
    fate: str
    after: int  # bytes, both directions together
    passed: int = 0
    until: float = 0.0  # stalled until
    silent: bool = False  # swallows everything: nothing arrives any more, nobody is told


class Proxy:
    """Listens on loopback and passes on to `target`, a port there, until `close`."""

    def __init__(
        self,
        target: int,
        *,
        seed: int = 0,
        faults: int = 0,
        delay: float = 0.0,
        stall: float = 0.5,
        within: int = 12_000,
    ) -> None:
        """`faults`: how many in all. `delay`: seconds at most that a piece is late. `stall`: seconds. `within`: bytes
        before a connection's fault."""
        self._target, self._rng, self._faults, self._delay, self._stall = (
            target,
            random.Random(seed),
            faults,
            delay,
            stall,
        )
        self._within = within
        self.happened: Counter[str] = Counter()
        self.connections = 0
        self._cut = False
        self._pairs: dict[socket.socket, _Pair] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def partition(self) -> None:
        """Nothing passes from now on; new connections are taken and hear nothing."""
        self._cut = True

    def heal(self) -> None:
        """Everything passes again; the connections of the time of the partition are reset."""
        with self._lock:
            self._cut = False
            for pair in {id(p): p for p in self._pairs.values()}.values():
                self._end(pair, abrupt=True)

    def close(self) -> None:
        """End all of it."""
        self._over.set()
        self._thread.join(10)
        for pair in {id(p): p for p in self._pairs.values()}.values():
            self._end(pair, abrupt=False)
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._over.is_set():
            ready = self._selector.select(0.02)
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif not self._cut and key.fileobj in self._pairs:
                        self._pass(key.fileobj)  # type: ignore[arg-type]
            if self._cut or any(p.until > time.monotonic() for p in list(self._pairs.values())):
                time.sleep(0.005)  # what may not pass stays readable

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self.connections += 1
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            self._reset(client)
            return
        for one in (client, server):
            one.setblocking(True)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(5)
        pair = _Pair(client, server, *self._draw())
        for one in (client, server):
            self._pairs[one] = pair
            self._selector.register(one, selectors.EVENT_READ)

    def _draw(self) -> tuple[str, int]:
        """A fate, and after how many bytes it comes; one that is well for so long draws again."""
        left = self._faults - sum(n for fate, n in self.happened.items() if fate != "well")
        return (self._rng.choice(FATES) if left > 0 else "well"), int(self._rng.uniform(200, self._within))

    def _pass(self, source: socket.socket) -> None:
        pair = self._pairs[source]
        if pair.until > time.monotonic():
            return
        target = pair.server if source is pair.client else pair.client
        try:
            data = source.recv(_PIECE)
        except OSError:
            data = b""
        if not data:
            self._end(pair, abrupt=False)
            return
        if pair.silent:
            return
        if self._delay:
            time.sleep(self._rng.uniform(0, self._delay))
        pair.passed += len(data)
        if pair.passed > pair.after:
            data = self._happen(pair, data, target)
        with contextlib.suppress(OSError):
            if data:
                target.sendall(data)

    def _happen(self, pair: _Pair, data: bytes, target: socket.socket) -> bytes:
        """The fate of a connection, now; what of `data` still passes."""
        fate = pair.fate
        self.happened[fate] += 1
        pair.passed = 0
        pair.fate, pair.after = self._draw()
        if fate == "well":
            return data
        cut = data[: len(data) // 2]
        if fate in ("reset", "close"):
            with contextlib.suppress(OSError):
                target.sendall(cut if fate == "close" else b"")
            self._end(pair, abrupt=fate == "reset")
            return b""
        if fate == "stall":
            pair.until = time.monotonic() + self._stall
            return data
        if fate == "garble":
            return cut[:-1] + bytes([cut[-1] ^ 1]) + data[len(cut) :] if cut else bytes([data[0] ^ 1])
        pair.silent = True  # as a cable that was pulled; ended soon, so that a test need not wait for a timeout
        threading.Timer(self._stall, self._late_end, (pair,)).start()
        return b""

    def _late_end(self, pair: _Pair) -> None:
        with self._lock:
            self._end(pair, abrupt=True)

    def _end(self, pair: _Pair, *, abrupt: bool) -> None:
        for one in (pair.client, pair.server):
            if self._pairs.pop(one, None) is None:
                continue
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            if abrupt:
                self._reset(one)
            else:
                one.close()

    def _reset(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
