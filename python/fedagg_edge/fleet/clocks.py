"""What time it is by two clocks: this machine's own, and its parent's, which is told at each hello.

Either may be wrong: a board's battery is empty and it starts years ahead, an edge was set wrongly, or lies. What is let
go for its age is gone for good, here and at every ancestor, so an age is one only if both say so: something came at the
later of the two times, and it is the earlier one now. A clock that is wrong by itself keeps things longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = ["SET", "Clocks", "Span"]

SET: Final = 1.7e9
"""Unix seconds, late in 2023: a clock that shows less was never set."""


class Span(NamedTuple):
    """The time by either clock, Unix seconds; once the same where only one of them is set."""

    earliest: float
    latest: float


class Clocks:
    """This machine's clock, and what the parent told last with what has passed since.

    In this process: how long the machine was off nobody knows but the parent. One thread hears, others may ask.
    """

    def __init__(self, own: Callable[[], float] = time.time, running: Callable[[], float] = time.monotonic) -> None:
        """`own`: Unix seconds, right or wrong; `running`: seconds that never jump."""
        self._own, self._running = own, running
        self._heard: tuple[float, float] | None = None  # what was told, and when by `running`

    def heard(self, told: float) -> None:
        """The parent has just said what time it is; one whose clock was never set has said nothing."""
        if told >= SET:
            self._heard = (told, self._running())

    def now(self) -> Span | None:
        """The time by both clocks; None before the parent has told one: the own clock alone lets nothing go."""
        if self._heard is None:
            return None
        told, since = self._heard
        theirs, own = told + self._running() - since, self._own()
        return Span(min(own, theirs), max(own, theirs)) if own >= SET else Span(theirs, theirs)
