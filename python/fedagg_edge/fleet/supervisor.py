"""Starts a server's processes, watches them, starts them again, passes signals on, and speaks to the service manager.

Each child is told (in NOTIFY_SOCKET, as systemd would) where to say that it is ready and alive, so that a child runs
the same under the supervisor, under systemd or alone. The supervisor is ready when all its children are, and alive
while all of them are: while it starts, it hands on what a child says of needing more time.
"""

from __future__ import annotations

import ctypes
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fedagg_edge.fleet.backoff import Backoff
from fedagg_edge.fleet.exits import PERMANENT, Exit
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.notify import is_extension, notify, watchdog_seconds
from fedagg_edge.lock import StateLock

__all__ = ["ChildSpec", "Supervisor", "supervise"]

PR_SET_PDEATHSIG = 1
TICK = 0.25


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep running. `silence`: seconds without a sign of life after which it is killed; None: not watched.
    `start_seconds`: the same until it says that it is ready; one that is not watched then only counts as not alive.
    Exit code 0 of a child that `ends` ends the whole."""

    name: str
    argv: Sequence[str]
    silence: float | None = None
    start_seconds: float = 120.0
    ends: bool = False


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    bell: socket.socket
    address: str
    backoff: Backoff
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    heard: float = 0.0
    start_at: float = 0.0
    ready: bool = False


@dataclass(slots=True)
class _State:
    stopping: bool = False
    code: int = int(Exit.DONE)
    announced: bool = False
    kill_at: float = field(default=float("inf"))


class Supervisor:
    """Runs children until one ends for good or a signal comes. Single-threaded; `run` blocks."""

    def __init__(
        self,
        folder: Path,
        specs: Sequence[ChildSpec],
        log: Log,
        *,
        rng: Random,
        grace: float = 20.0,
        base: float = 0.5,
        cap: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[..., bool] = notify,
    ) -> None:
        """`grace`: seconds between SIGTERM and SIGKILL. `base` and `cap`: seconds of the restarts' backoff."""
        self._log, self._grace, self._clock, self._tell = log, grace, clock, tell
        self._lock = StateLock(folder)
        self._specs = specs
        self._base, self._cap, self._rng = base, cap, rng
        self._children: list[_Child] = []
        self._state = _State()
        self._asked: list[int] = []

    def run(self) -> int:
        """Start everything and watch over it; returns the exit code. Raises StateInUse when another process owns the
        folder (children of a supervisor that was killed have a few seconds to notice)."""
        self._lock.acquire(patience=5.0)
        waker, wakee = socket.socketpair()
        waker.setblocking(False)
        before: dict[int, Any] = {n: signal.signal(n, self._ask) for n in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        old_waker = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._bells = tempfile.mkdtemp(prefix="fedagg-")  # not in the folder: a socket's path has 107 bytes at most
        try:
            self._children = [self._prepare(spec) for spec in self._specs]
            while self._alive():
                self._turn(wakee)
            return self._state.code
        finally:
            self._kill_all()
            signal.set_wakeup_fd(old_waker)
            for number, handler in before.items():
                signal.signal(number, handler)
            for child in self._children:
                child.bell.close()
            shutil.rmtree(self._bells, ignore_errors=True)
            waker.close()
            wakee.close()
            self._lock.release()

    def _ask(self, number: int, frame: object) -> None:
        self._asked.append(number)

    def _alive(self) -> bool:
        return not self._state.stopping or any(c.process is not None for c in self._children)

    def _turn(self, wakee: socket.socket) -> None:
        now = self._clock()
        if self._asked:
            self._asked.clear()
            self._stop(int(Exit.DONE))
        for child in self._children:
            if child.process is None and not self._state.stopping and now >= child.start_at:
                self._start(child)
        bells = [c.bell for c in self._children]
        readable, _, _ = select.select([wakee, *bells], [], [], TICK)
        if wakee in readable:
            wakee.recv(4096)
        for child in self._children:
            if child.bell in readable:
                self._hear(child)
            self._check(child)
        self._report()
        if self._state.stopping and self._clock() > self._state.kill_at:
            self._kill_all()

    def _prepare(self, spec: ChildSpec) -> _Child:
        address = f"{self._bells}/{spec.name}"
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        bell.bind(address)
        return _Child(spec, bell, address, Backoff(base=self._base, cap=self._cap, rng=self._rng))

    def _start(self, child: _Child) -> None:
        spec = child.spec
        environment = {k: v for k, v in os.environ.items() if k not in ("WATCHDOG_USEC", "WATCHDOG_PID")}
        environment["NOTIFY_SOCKET"] = child.address
        if spec.silence is not None:
            environment["WATCHDOG_USEC"] = str(int(spec.silence * 1e6))
        child.process = subprocess.Popen(
            list(spec.argv),
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(self._lock.fileno(),),  # so that the folder stays locked while any child lives
            start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone, which passes it on
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  # this process has one thread
        )
        child.started = child.heard = self._clock()
        child.ready = False
        self._log.info("child_started", child=spec.name, pid=child.process.pid)

    def _hear(self, child: _Child) -> None:
        while True:
            try:
                lines = child.bell.recv(4096).split(b"\n")
            except BlockingIOError:
                return
            child.heard = self._clock()
            child.ready = child.ready or b"READY=1" in lines
            if not self._state.announced:
                for line in filter(is_extension, lines):
                    self._tell(line.decode())

    def _check(self, child: _Child) -> None:
        process, spec = child.process, child.spec
        if process is None:
            return
        code = process.poll()
        if code is not None:
            child.process = None
            self._ended(child, code)
        elif self._is_silent(child) and not self._state.stopping:
            self._log.warning("child_silent", child=spec.name, pid=process.pid)
            process.kill()

    def _is_silent(self, child: _Child) -> bool:
        return child.spec.silence is not None and self._clock() - child.heard > self._allowed(child)

    def _allowed(self, child: _Child) -> float:
        """Seconds without a sign of life that a child may take."""
        if not child.ready:
            return child.spec.start_seconds
        return math.inf if child.spec.silence is None else child.spec.silence

    def _lives(self, child: _Child) -> bool:
        """Whether it runs: ready, or in a start that does not take too long. One that is started again in vain, as on a
        full disk, is seen to here and need not take the others with it."""
        return child.process is not None and self._clock() - child.heard <= self._allowed(child)

    def _ended(self, child: _Child, code: int) -> None:
        self._log.info("child_ended", child=child.spec.name, exit=code)
        if self._state.stopping:
            if self._state.code not in PERMANENT:  # what a person must mend is what the whole says
                self._state.code = code if code in PERMANENT else max(self._state.code, code, 0)
            return
        if code in PERMANENT or (code == 0 and child.spec.ends):
            self._stop(code)
            return
        child.backoff.lasted(self._clock() - child.started)
        wait = child.backoff.next()
        child.start_at = self._clock() + wait
        self._log.warning("child_restarts", child=child.spec.name, seconds=wait)

    def _stop(self, code: int) -> None:
        if self._state.stopping:
            return
        self._state.stopping, self._state.code = True, code
        self._state.kill_at = self._clock() + self._grace
        self._tell("STOPPING=1")
        for child in self._children:
            if child.process is not None:
                child.process.terminate()

    def _report(self) -> None:
        if self._state.stopping or not all(self._lives(c) for c in self._children):
            return
        if not self._state.announced and all(c.ready for c in self._children):
            self._state.announced = True
            self._tell("READY=1")
            self._log.info("ready")
        if self._state.announced and watchdog_seconds() is not None:
            self._tell("WATCHDOG=1")

    def _kill_all(self) -> None:
        for child in self._children:
            if child.process is not None and child.process.poll() is None:
                if self._state.code not in PERMANENT:
                    self._state.code = max(self._state.code, int(Exit.TEMPORARY))
                child.process.kill()
                child.process.wait()


def _die_with(parent: int) -> Callable[[], object]:
    """Run between fork and exec: the kernel sends SIGTERM when the supervisor is killed, so no child is orphaned."""
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: after it nothing may be loaded

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(int(Exit.TEMPORARY))

    return arrange


def supervise(folder: Path, specs: Sequence[ChildSpec], log: Log) -> int:
    """Run these children with the usual settings; the exit code for the whole."""
    return Supervisor(folder, specs, log, rng=Random()).run()
