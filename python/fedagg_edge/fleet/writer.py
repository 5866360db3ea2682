"""One thread that owns a ledger: operations that arrive together share one transaction, so one synced commit.

A synced commit costs milliseconds of waiting and 150 us of CPU; a savepoint costs a few us. An operation that fails is
undone alone. Nobody is answered before the commit; if the commit fails, all in the group are told. On a full disk the
group is run again one by one, so that reading goes on and what still fits is kept.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from fedagg_edge.errors import StorageFull

__all__ = ["BUSY", "COMPANY", "Group", "Store", "Writer", "WriterBusy", "WriterStopped"]

T = TypeVar("T")

BUSY = 5
"""Why: docs/decisions/gateway-cpu.md."""

COMPANY = 32
"""Operations that waited already when their turn came, on a slow disk: more is not worth more waiting."""


class Store(Protocol):
    """What the writer needs of a ledger."""

    def transaction(self) -> AbstractContextManager[object]: ...
    def savepoint(self) -> AbstractContextManager[object]: ...
    def close(self) -> None: ...


L = TypeVar("L", bound=Store)


class WriterBusy(Exception):
    """Raised when too many operations wait already."""


class WriterStopped(Exception):
    """Raised when an operation comes after `stop`."""


class Group(Protocol):
    """Called after each transaction, in the writer's thread."""

    def __call__(self, size: int, seconds: float, error: BaseException | None) -> None: ...


class _Pending:
    __slots__ = ("error", "operation", "then", "value")

    def __init__(self, operation: Callable[[Any], Any], then: Callable[[Any, BaseException | None], object]) -> None:
        self.operation, self.then = operation, then
        self.value: Any = None
        self.error: BaseException | None = None


def _resolve(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return  # who asked has gone
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


class Writer(Generic[L]):
    """Runs operations on a ledger that only its thread ever touches.

    `open_ledger` is called in the thread. A group is what arrives within `linger` seconds of its first operation
    (`BUSY` times that after a group of several: a commit spared is CPU spared; at once if there is `COMPANY`) and
    while the group before it was committed, at most `group` operations. Operations must not wait for anything.
    """

    def __init__(
        self,
        open_ledger: Callable[[], L],
        *,
        group: int = 64,
        linger: float = 0.002,
        most_waiting: int = 8192,
        on_group: Group | None = None,
    ) -> None:
        self._open, self._group, self._linger, self._most = open_ledger, group, linger, most_waiting
        self._on_group = on_group
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._busy = False  # the last group had several operations
        self.groups = 0  # that were run so far

    @property
    def waiting(self) -> int:
        """How many operations wait, roughly."""
        return self._queue.qsize()

    async def start(self) -> None:
        """Open the ledger in a new thread; raises what opening it raised."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="writer", daemon=True)
        self._thread.start()
        await opened

    async def run(self, operation: Callable[[L], T]) -> T:
        """Run ``operation(ledger)`` in the next group and return its value once that is committed.

        Raises what the operation raised (it alone is then undone), StorageFull if there is no room for it, the
        database's error if the group could not be committed, WriterBusy, WriterStopped.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(operation, partial(_resolve, future))
        return await future

    def submit(self, operation: Callable[[L], T], then: Callable[[T, BaseException | None], object]) -> None:
        """`run` for who does not wait: ``then(value, error)`` is called in the event loop once that is known. Raises
        WriterBusy, WriterStopped."""
        if self._stopping or self._loop is None:
            raise WriterStopped("writer: it has stopped")
        if self._queue.qsize() >= self._most:
            raise WriterBusy(f"writer: {self._most} operations wait already")
        self._queue.put(_Pending(operation, then))

    async def stop(self) -> None:
        """Finish what waits, close the ledger, end the thread."""
        if self._thread is not None and not self._stopping:
            self._stopping = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _run(self, opened: asyncio.Future[None]) -> None:
        assert self._loop is not None
        try:
            ledger = self._open()
        except BaseException as error:
            self._loop.call_soon_threadsafe(opened.set_exception, error)
            return
        self._loop.call_soon_threadsafe(opened.set_result, None)
        try:
            more = True
            while more:
                group, more = self._gather()
                if group:
                    self._commit(ledger, group)
                    self.groups += 1
                    self._loop.call_soon_threadsafe(_settle, group)
        finally:
            ledger.close()

    def _gather(self) -> tuple[list[_Pending], bool]:
        """The next group, and whether more may come."""
        first = self._queue.get()
        if first is None:
            return [], False
        if self._linger and self._queue.qsize() < COMPANY:
            # not a timed get for each: every wake-up takes the GIL from the event loop
            time.sleep(self._linger * (BUSY if self._busy else 1))
        group = [first]
        while len(group) < self._group:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return group, False
            group.append(item)
        self._busy = len(group) > 1
        return group, True

    def _commit(self, ledger: L, group: list[_Pending]) -> None:
        started = time.perf_counter()
        error: BaseException | None = None
        try:
            with ledger.transaction():
                for pending in group:
                    _attempt(ledger, pending)
        except StorageFull as full:
            error = full
            for pending in group:
                self._alone(ledger, pending)
        except Exception as raised:
            error = raised
            for pending in group:
                pending.error = raised
        if self._on_group is not None:
            self._on_group(len(group), time.perf_counter() - started, error)

    def _alone(self, ledger: L, pending: _Pending) -> None:
        """Once more in a transaction of its own: on a full disk who only reads is served, who writes is told."""
        pending.error = None
        try:
            with ledger.transaction():
                pending.value = pending.operation(ledger)
        except Exception as error:
            pending.error = error


def _attempt(ledger: Store, pending: _Pending) -> None:
    try:
        with ledger.savepoint():
            pending.value = pending.operation(ledger)
    except StorageFull:
        raise  # the database may have undone the whole transaction: nobody's work counts
    except Exception as error:
        pending.error = error


def _settle(group: list[_Pending]) -> None:
    for pending in group:
        try:
            pending.then(pending.value, pending.error)
        except Exception as error:  # of one; the others were committed, too
            context = {"message": "a result could not be handed over", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
