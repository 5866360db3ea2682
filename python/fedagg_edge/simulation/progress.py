"""What a run says while it goes: bars on a terminal, plain lines elsewhere, nothing when quiet.

Everything goes to standard error, so that ``--json`` leaves standard output to the results.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

__all__ = ["Bars", "Lines", "Progress", "Silent", "make_progress"]


class Progress(Protocol):
    """Hears of a run's stages, training passes and rounds."""

    def stage(self, text: str) -> None:
        """Something other than a round begins."""

    def part(self, done: int, total: int, text: str) -> None:
        """The stage has come to `done` of `total`."""

    def start(self, first: int, rounds: int, passes: int) -> None:
        """Rounds `first` to `rounds` - 1 begin, each of `passes` training passes."""

    def trained(self, node: str) -> None:
        """A node finished a training pass."""

    def finished(self, number: int, text: str) -> None:
        """Round `number` is done and `text` sums it up."""

    def close(self) -> None:
        """The run is over, or was stopped."""


class Silent:
    """Says nothing."""

    def stage(self, text: str) -> None:
        """See `Progress.stage`."""

    def part(self, done: int, total: int, text: str) -> None:
        """See `Progress.part`."""

    def start(self, first: int, rounds: int, passes: int) -> None:
        """See `Progress.start`."""

    def trained(self, node: str) -> None:
        """See `Progress.trained`."""

    def finished(self, number: int, text: str) -> None:
        """See `Progress.finished`."""

    def close(self) -> None:
        """See `Progress.close`."""


_PATIENCE = 10.0  # seconds without a line, after which a stage says how far it is


class Lines(Silent):
    """One line a round, and now and then one within a long stage."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._first, self._rounds, self._began = 0, 0, 0.0
        self._last, self._passes, self._done = time.monotonic(), 0, 0

    def stage(self, text: str) -> None:
        """See `Progress.stage`."""
        self._out.write(text + "\n")
        self._out.flush()
        self._last = time.monotonic()

    def part(self, done: int, total: int, text: str) -> None:
        """See `Progress.part`."""
        if time.monotonic() - self._last > _PATIENCE:
            self.stage(f"  {text} {done}/{total}")

    def start(self, first: int, rounds: int, passes: int) -> None:
        """See `Progress.start`."""
        self._first, self._rounds, self._began = first, rounds, time.monotonic()
        self._passes, self._done = passes, 0

    def trained(self, node: str) -> None:
        """See `Progress.trained`."""
        self._done += 1
        self.part(self._done, self._passes, "passes of this round")

    def finished(self, number: int, text: str) -> None:
        """See `Progress.finished`."""
        self._done = 0
        each = (time.monotonic() - self._began) / (number + 1 - self._first)
        left = each * (self._rounds - number - 1)
        self.stage(f"round {number + 1}/{self._rounds}  {text}  {each:.1f} s/round, {left:.0f} s left")


class Bars(Silent):
    """Two bars on a terminal, by rich: rounds of the run, passes of the round."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  # only where a terminal wants it
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        self._bars = RichProgress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self._rounds = self._bars.add_task("rounds", total=None, text="", visible=False)
        self._passes = self._bars.add_task("this round", total=None, text="", visible=False)
        self._bars.start()

    def stage(self, text: str) -> None:
        """See `Progress.stage`."""
        self._bars.console.print(text, highlight=False, markup=False)
        self._bars.update(self._passes, visible=False)

    def part(self, done: int, total: int, text: str) -> None:
        """See `Progress.part`."""
        self._bars.update(self._passes, description=text, total=total, completed=done, visible=True)

    def start(self, first: int, rounds: int, passes: int) -> None:
        """See `Progress.start`."""
        self._bars.reset(self._rounds, total=rounds, completed=first, visible=True)
        self._bars.reset(self._passes, description="this round", total=passes, visible=True)

    def trained(self, node: str) -> None:
        """See `Progress.trained`."""
        self._bars.update(self._passes, advance=1, text=node)

    def finished(self, number: int, text: str) -> None:
        """See `Progress.finished`."""
        self._bars.update(self._rounds, completed=number + 1, text=text)
        self._bars.reset(self._passes, text="")

    def close(self) -> None:
        """See `Progress.close`."""
        self._bars.update(self._passes, visible=False)
        self._bars.stop()


def make_progress(*, quiet: bool) -> Progress:
    """Bars where standard error is a terminal and rich is installed, else lines; nothing if `quiet`."""
    if quiet:
        return Silent()
    if sys.stderr.isatty():
        try:
            return Bars()
        except ImportError:
            pass
    return Lines()
