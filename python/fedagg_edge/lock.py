"""One owner for a folder: two processes on one ledger's outbox would send everything twice, two simulations in one
run's folder would replace each other's checkpoints."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from fedagg_edge.errors import StateInUse

__all__ = ["StateLock"]


class StateLock:
    """An exclusive lock on ``<folder>/lock``, freed by the kernel when the last process that holds it ends.

    Held by the open file (flock), so that a child process that inherits `fileno` goes on holding it: while children
    outlive a killed supervisor, no second supervisor can start. The file holds the owner's pid, for people.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._file: int | None = None

    def acquire(self, patience: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the lock, trying again for `patience` seconds; raise StateInUse with the owner's pid."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            left = patience
            while not _try_lock(file):
                if left <= 0:
                    owner = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
                    raise StateInUse(f"folder {self.path.parent}: process {owner} owns it, stop that one first")
                sleep(0.1)
                left -= 0.1
        except BaseException:
            os.close(file)
            raise
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file

    def fileno(self) -> int:
        """The open file, to be passed on to children; raises ValueError when the lock is not held."""
        if self._file is None:
            raise ValueError("state lock: it is not held")
        return self._file

    def release(self, *, everywhere: bool = False) -> None:
        """Let go; children that inherited the lock still hold it, but `everywhere`: what an application forks has the
        open file too, and does nothing with the folder."""
        if self._file is not None:
            if everywhere:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> StateLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
