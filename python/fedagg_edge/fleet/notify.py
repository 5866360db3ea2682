"""The service manager's notification protocol (sd_notify), without a library: lines in a datagram to a Unix socket.

The supervisor speaks it in both directions: to systemd, and with its own children, which call the same functions.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["extension", "is_extension", "more_time", "notify", "signs_of_life", "watchdog_seconds"]

_SIGN_EVERY = 10.0
_EXTEND = "EXTEND_TIMEOUT_USEC="


def notify(*lines: str, environment: Mapping[str, str] | None = None) -> bool:
    """Send lines such as ``READY=1`` to the service manager, if there is one; return whether they were sent.

    Never raises and never waits: a service manager that does not listen must not stop the service.
    """
    address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.send("\n".join(lines).encode())
    except OSError:
        return False
    return True


def watchdog_seconds(environment: Mapping[str, str] | None = None) -> float | None:
    """How often to send ``WATCHDOG=1``: half of what the service manager allows; None if it does not watch us."""
    known = os.environ if environment is None else environment
    try:
        allowed = int(known.get("WATCHDOG_USEC", "")) / 1e6
        watched = int(known.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return allowed / 2 if allowed > 0 and watched == os.getpid() else None


def extension(seconds: float) -> str:
    """The line that asks for `seconds` more from now on; a service manager never shortens what it allows by it."""
    return f"{_EXTEND}{int(seconds * 1e6)}"


def is_extension(line: bytes) -> bool:
    """Whether a line that came in is one of those."""
    return line.startswith(_EXTEND.encode())


@contextmanager
def more_time(*, every: float = 10.0, seconds: float = 60.0, tell: Callable[..., bool] = notify) -> Iterator[None]:
    """While the block runs and gets on, ask every `every` seconds for `seconds` more.

    It gets on when the calling thread's CPU clock moves: a check of a file computes for each page, also where SQLite
    calls no progress handler (before 3.42, inside a table), and a thread that waits for a disk that hangs does not.
    """
    with _while_it_gets_on(every, lambda: tell("WATCHDOG=1", extension(seconds))):
        yield


@contextmanager
def signs_of_life(
    *, tell: Callable[..., bool] = notify, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """While the block runs and gets on, in the sense of `more_time`, say so to whoever watches this process, if anybody
    does. A training pass of any length computes all the time, and a loop that waits for news looks for them."""
    seconds = watchdog_seconds(environment)
    if seconds is None:
        yield
        return
    with _while_it_gets_on(min(seconds / 2, _SIGN_EVERY), lambda: tell("WATCHDOG=1")):
        yield


@contextmanager
def _while_it_gets_on(every: float, say: Callable[[], object]) -> Iterator[None]:
    clock = time.pthread_getcpuclockid(threading.get_ident())
    over = threading.Event()

    def watch() -> None:
        before = time.clock_gettime(clock)
        while not over.wait(every):
            now = time.clock_gettime(clock)
            if now > before:
                say()
            before = now

    watcher = threading.Thread(target=watch, name="gets-on", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
