"""Long polls without threads: who waits for a topic, and who wakes them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

__all__ = ["Waiters"]

MOST_TOPICS = 65_536


class Waiters:
    """Futures by topic. Everything happens in the event loop's thread.

    A wake-up between a caller's look at the ledger and its wait would be lost; so take `mark` before looking and give
    it to `wait`, which returns at once if the topic was woken since.
    """

    def __init__(self) -> None:
        self._mark = 0
        self._woken: OrderedDict[str, int] = OrderedDict()  # topic -> mark of its last wake-up
        self._forgotten = 0  # wake-ups up to this mark may have been dropped from `_woken`
        self._everybody = 0
        self._waiting: dict[str, set[asyncio.Future[bool]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def mark(self) -> int:
        """Now, in wake-ups."""
        return self._mark

    @property
    def topics(self) -> frozenset[str]:
        """What somebody waits for."""
        return frozenset(self._waiting)

    def wake(self, topics: Iterable[str]) -> None:
        """Wake those who wait for any of these topics."""
        for topic in topics:
            self._mark += 1
            self._woken[topic] = self._mark
            self._woken.move_to_end(topic)
            self._release(topic)
        while len(self._woken) > MOST_TOPICS:
            self._forgotten = self._woken.popitem(last=False)[1]

    def wake_all(self) -> None:
        """Wake everybody."""
        self._mark += 1
        self._everybody = self._mark
        for topic in tuple(self._waiting):
            self._release(topic)

    async def wait(self, topic: str, since: int, seconds: float) -> bool:
        """Wait until the topic is woken, or `seconds`; return whether it was woken."""
        if max(self._woken.get(topic, self._forgotten), self._everybody) > since:
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        timer = future.get_loop().call_later(max(0.0, seconds), _settle, future, False)
        waiting = self._waiting.setdefault(topic, set())
        waiting.add(future)
        try:
            return await future
        finally:
            timer.cancel()
            waiting.discard(future)
            if not waiting and self._waiting.get(topic) is waiting:
                del self._waiting[topic]

    def _release(self, topic: str) -> None:
        for future in self._waiting.get(topic, ()):
            _settle(future, True)


def _settle(future: asyncio.Future[bool], woken: bool) -> None:
    if not future.done():
        future.set_result(woken)
