"""A proxy that misbehaves above TLS, between one child and its parent: it sees requests, and can repeat or keep them.

It shows the child the parent's own certificate, and the parent the child's, if the child showed one: both ends check
each other as ever, and the gateway knows whose request it is. A request draws its fate from the seed: it is sent twice
at once, sent again after newer ones, held back until after newer ones, lost, left without its answer, late, or cut in
its middle, as an answer may be. After `faults` of these it behaves.
"""

from __future__ import annotations

import contextlib
import queue
import random
import select
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from fedagg_edge.identity import tls

__all__ = ["FATES", "Meddler"]

FATES = ("twice", "again", "held", "lost", "unanswered", "delayed", "request cut", "answer cut")
_NEWER = 3  # at most so many newer requests pass before one that was kept goes
_KEPT_SECONDS = 2.0  # for the answer to one that nobody waits for: of a long poll it may not come for long
_LOOK = 0.2


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as it came, byte for byte, and whether the child showed a certificate."""

    method: str
    path: str
    wire: bytes
    shown: bool


class _Gone(Exception):
    """Raised when one of the two ends is no longer there."""


class Meddler:
    """Listens on loopback and passes on to `target`, a port there, until `close`. `parent` and `child` are the identity
    folders of the two; the child's may fill later."""

    def __init__(
        self, target: int, *, parent: Path, child: Path, seed: int, faults: int, only: tuple[str, ...] = FATES
    ) -> None:
        """`only`: the fates that it has."""
        self._target, self._parent, self._child, self._left = target, parent, child, faults
        self._rng, self._only = random.Random(seed), only
        self._deck: list[str] = []
        self._kept: list[tuple[int, _Asked]] = []  # how many newer ones go before it
        self._due: queue.Queue[_Asked] = queue.Queue()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.happened: Counter[str] = Counter()
        self.late: list[str] = []  # paths of those that came after newer ones
        self.problems: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._accept, self._deliver)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End all of it."""
        self._over.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def deliver_rest(self) -> None:
        """Have what is still held back arrive now; returns when it has."""
        with self._lock:
            rest, self._kept = [asked for _, asked in self._kept], []
        for asked in rest:
            self._due.put(asked)
        self._due.join()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                plain, _ = self._listener.accept()
                plain.settimeout(10)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._serve, args=(plain,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, plain: socket.socket) -> None:
        """One connection of the child's, with one to the parent; either ends both."""
        parent: ssl.SSLSocket | None = None
        try:
            with tls.server_context(self._parent).wrap_socket(plain, server_side=True) as child:
                while (asked := self._read(child)) is not None:
                    parent = parent or self._connect(asked)
                    if not self._pass(asked, child, parent):
                        return
        except (OSError, HTTPException, _Gone):
            pass
        except Exception as error:  # of ours: it must not look like a fault of the line
            self.problems.append(repr(error))
        finally:
            plain.close()
            if parent is not None:
                parent.close()

    def _read(self, child: ssl.SSLSocket) -> _Asked | None:
        """The next request; None when the child is through."""
        self._until_readable(child)
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := child.recv(65_536)):
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(fields.get("content-length", 0)):
            if not (more := child.recv(65_536)):
                return None
            body += more
        method, path, _ = first.split()
        return _Asked(method, path, head + b"\r\n\r\n" + body, bool(child.getpeercert()))

    def _connect(self, asked: _Asked) -> ssl.SSLSocket:
        """To the parent, in the name of the child: with its certificate of now if it showed one."""
        folder = self._child if asked.shown else self._parent
        context = tls.client_context(folder, with_certificate=asked.shown)
        plain = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(plain, server_hostname="127.0.0.1")
        except BaseException:
            plain.close()
            raise

    def _pass(self, asked: _Asked, child: ssl.SSLSocket, parent: ssl.SSLSocket) -> bool:
        """Do with a request what its fate is; whether the connection goes on."""
        fate = self._draw()
        if fate == "lost":
            return False
        if fate == "held":
            self._keep(asked)
            return False
        if fate == "request cut":
            parent.sendall(asked.wire[: len(asked.wire) // 2])
            return False
        if fate == "delayed":
            time.sleep(self._random(0.3))
        answer = self._ask_twice(asked, child, parent) if fate == "twice" else self._ask(asked, parent, child)
        if fate == "again":
            self._keep(asked)
        self._passed()
        if fate == "delayed":
            time.sleep(self._random(0.3))
        if fate == "unanswered":
            return False
        child.sendall(answer[: len(answer) // 2] if fate == "answer cut" else answer)
        return fate not in ("answer cut", "twice")  # the other answer may still be on its way

    def _draw(self) -> str:
        with self._lock:
            if self._left <= 0 or self._rng.random() < 0.5:
                return "well"
            if not self._deck:
                self._deck = self._rng.sample(self._only, len(self._only))
            self._left -= 1
            self.happened[self._deck[-1]] += 1
            return self._deck.pop()

    def _random(self, most: float) -> float:
        with self._lock:
            return self._rng.uniform(0, most)

    def _keep(self, asked: _Asked) -> None:
        with self._lock:
            self._kept.append((self._rng.randint(1, _NEWER), asked))

    def _passed(self) -> None:
        """A newer request has been answered: those that were kept come nearer to their time."""
        with self._lock:
            self._kept = [(left - 1, asked) for left, asked in self._kept]
            due = [asked for left, asked in self._kept if left <= 0]
            self._kept = [(left, asked) for left, asked in self._kept if left > 0]
        for asked in due:
            self._due.put(asked)

    def _deliver(self) -> None:
        """What comes late, one after the other, each over a connection of its own."""
        while not self._over.is_set():
            try:
                asked = self._due.get(timeout=_LOOK)
            except queue.Empty:
                continue
            try:
                with self._connect(asked) as parent:
                    self._ask(asked, parent, None)
                self.late.append(asked.path)
            except (OSError, HTTPException, _Gone):
                pass
            except Exception as error:
                self.problems.append(repr(error))
            finally:
                self._due.task_done()

    def _ask_twice(self, asked: _Asked, child: ssl.SSLSocket, parent: ssl.SSLSocket) -> bytes:
        """Send it over two connections at once; either answer."""
        with self._connect(asked) as other:
            both = [parent, other] if self._random(1) < 0.5 else [other, parent]
            for one in both:
                one.sendall(asked.wire)
            answer = self._answer(asked, both[0], child)
            with contextlib.suppress(OSError, HTTPException, _Gone):
                self._answer(asked, both[1], None)
            return answer

    def _ask(self, asked: _Asked, parent: ssl.SSLSocket, child: ssl.SSLSocket | None) -> bytes:
        parent.sendall(asked.wire)
        return self._answer(asked, parent, child)

    def _answer(self, asked: _Asked, parent: ssl.SSLSocket, child: ssl.SSLSocket | None) -> bytes:
        """The parent's answer as it goes on, with what a child looks at. Without a child it is not waited for long."""
        self._until_readable(parent, child, _KEPT_SECONDS if child is None else None)
        response = HTTPResponse(parent, method=asked.method)
        try:
            response.begin()
            body = response.read()
        finally:
            response.close()
        fields = {name: response.headers.get(name) for name in ("Content-Type", "Retry-After")}
        if response.status != 204:
            fields["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        return f"HTTP/1.1 {response.status} {response.reason}\r\n{lines}\r\n".encode("latin-1") + body

    def _until_readable(
        self, wanted: ssl.SSLSocket, other: ssl.SSLSocket | None = None, seconds: float | None = None
    ) -> None:
        """Wait for `wanted`. That `other` says something first, while it should wait, means that it has gone."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not wanted.pending():
            ready, _, _ = select.select([one for one in (wanted, other) if one is not None], [], [], _LOOK)
            if wanted in ready:
                return
            if ready or self._over.is_set() or (deadline is not None and time.monotonic() > deadline):
                raise _Gone
