"""A coroutine with an event loop of its own in a thread, up before the test goes on and down after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_thread(start: Callable[[], Awaitable[T]], stop: Callable[[T], Awaitable[object]]) -> Iterator[T]:
    """What `start` gives, until the block ends and `stop` has taken it down. Raises what either raised."""
    ready, found, failed = threading.Event(), [], []

    async def main() -> None:
        made, over = await start(), asyncio.Event()
        found.append((made, over, asyncio.get_running_loop()))
        ready.set()
        await over.wait()
        await stop(made)

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    assert ready.wait(30), "it did not come up"
    if failed:
        raise failed[0]
    made, over, loop = found[0]
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        assert not thread.is_alive()
        if failed:
            raise failed[0]
