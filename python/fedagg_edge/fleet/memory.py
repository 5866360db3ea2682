"""Memory that a process has and does not use: a device has little, and lives on what is left.

Only for a process that is a node's alone: in an application the heap is the application's.
"""

from __future__ import annotations

import contextlib
import ctypes

from fedagg_edge import _core

__all__ = ["Settling", "give_back", "one_arena"]

_M_ARENA_MAX = -8  # of glibc's malloc.h


def one_arena() -> None:
    """Have all threads share one heap, from the next one that starts: each would otherwise keep pages of its own. The
    few threads of a device hardly meet there. Nothing happens where the C library is not glibc."""
    with contextlib.suppress(AttributeError):  # musl has neither
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give the system what the heap has free, in the middle, too. Costs about a millisecond."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Settling:
    """To be called where a device has nothing to do, and before it begins something long: gives back what the heap has
    free and, once each time that libraries were loaded, the pages of files that only loading them has touched.

    A device that is connected has 22 MB of pages of files and uses 6 to 8 of them again
    (docs/decisions/device-memory.md). Those come back when they are used, without a read while the page cache holds
    them. Not done time and again: what training uses stays, and counts.
    """

    def __init__(self) -> None:
        self._loads = 0

    def __call__(self) -> None:
        give_back()
        self._loads = _core.unmap_loaded_pages(self._loads)
