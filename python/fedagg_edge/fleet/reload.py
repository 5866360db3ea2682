"""A value made from files, made again when they have changed: TLS contexts, revocation lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from fedagg_edge.errors import FedaggError
from fedagg_edge.fleet.logs import Log

__all__ = ["Reloaded"]

T = TypeVar("T")
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Reloaded(Generic[T]):
    """`get` costs a stat of each of `paths`. Files that are damaged, or in the middle of a change, leave the value
    that was made before in use, and a line in the log; before there is one, `get` raises what `make` raised."""

    def __init__(self, paths: Sequence[Path], make: Callable[[], T], log: Log) -> None:
        self._paths, self._make, self._log = tuple(map(os.fspath, paths)), make, log
        self._stamp: _Stamp | None = None
        self._value: T | None = None

    def get(self) -> T:
        """The value for the files as they are now."""
        stamp = tuple(map(_stamp, self._paths))
        if stamp == self._stamp and self._value is not None:
            return self._value
        try:
            self._value = self._make()
        except (FedaggError, OSError) as error:
            if self._value is None:
                raise
            self._log.failure("reload_failed", error)
        self._stamp = stamp
        return self._value


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # of each request: a third of what Path.stat costs
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
