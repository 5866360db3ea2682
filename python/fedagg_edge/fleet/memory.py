"""Memory that the C library keeps for later: a device has little, and lives on what is left.

Only for a process that is a node's alone: in an application the heap is the application's.
"""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["give_back", "one_arena"]

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
