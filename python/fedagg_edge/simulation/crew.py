"""Runs jobs side by side in threads of this process, or one after the other in the caller's.

Training spends its time in operators that let other Python threads run, so nodes that do not wait for one another can
train at the same time and share all that they read.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Crew"]

Result = TypeVar("Result")


class Crew(Generic[Result]):
    """At most `size` jobs at a time; with one, `next` itself does the job that was given first.

    A context manager: leaving it by an error stops the jobs that still run at their next line of Python, so Ctrl-C does
    not wait for the end of a training pass.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads: list[threading.Thread] = []
        self._waiting: deque[Callable[[], Result]] = deque()
        self._given: SimpleQueue[Callable[[], Result] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()
        self._busy = 0

    def __enter__(self) -> Crew[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()
        for _ in self._threads:
            self._given.put(None)
        for thread in self._threads:
            if error is None:
                thread.join()
            else:
                _end(thread)

    @property
    def busy(self) -> bool:
        """Whether a job was given whose result was not fetched."""
        return self._busy > 0

    def give(self, job: Callable[[], Result]) -> None:
        """Have a job done."""
        self._busy += 1
        if self._size == 1:
            self._waiting.append(job)
            return
        if len(self._threads) < min(self._size, self._busy):
            self._threads.append(threading.Thread(target=self._work, name=f"crew-{len(self._threads)}", daemon=True))
            self._threads[-1].start()
        self._given.put(job)

    def next(self) -> Result:
        """The result of a job that is done, when one is; raise what the job raised."""
        self._busy -= 1
        if self._size == 1:
            return self._waiting.popleft()()
        result, error = self._done.get()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # a job without an error has a result

    def _work(self) -> None:
        with suppress(SystemExit):  # that of `_interrupt`, which may come a moment after the job has ended
            while (job := self._given.get()) is not None:
                try:
                    result = job()
                except BaseException as e:  # it is raised where the result is fetched
                    self._done.put((None, e))
                else:
                    self._done.put((result, None))


def _end(thread: threading.Thread) -> None:
    """Wait for a thread's end, which one that is at a job is made to come to. A second Ctrl-C, which a caller from
    Python may get, does not go before it: an interpreter that shuts down around a running operator aborts."""
    while thread.is_alive():
        with suppress(KeyboardInterrupt):
            thread.join(0.05)  # one without a job ends by itself
            if thread.is_alive():
                _interrupt(thread)


def _interrupt(thread: threading.Thread) -> None:
    """Raise SystemExit in another thread, at its next bytecode."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
