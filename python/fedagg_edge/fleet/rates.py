"""Requests and bytes per minute and node: token buckets that are told the time."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Meters", "TokenBucket"]


class TokenBucket:
    """`burst` tokens at most, refilled at `rate` tokens a second.

    A clock that jumps back refills nothing; one that jumps forward fills the bucket once.
    """

    __slots__ = ("_at", "burst", "level", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        if rate <= 0 or burst <= 0:
            raise ValueError(f"token bucket: got rate {rate} and burst {burst}, expected positive numbers")
        self.rate, self.burst, self.level, self._at = rate, burst, burst, now

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until `tokens` are there, 0 if they are; more than a full bucket are there when it is full."""
        self.level = min(self.burst, self.level + max(0.0, now - self._at) * self.rate)
        self._at = now
        return max(0.0, (min(tokens, self.burst) - self.level) / self.rate)

    def take(self, tokens: float) -> None:
        """Take tokens; the level may become negative, which delays what comes next."""
        self.level -= tokens


class Meters:
    """Two buckets a name (a node, or the address of one that has no certificate yet), the longest unused forgotten."""

    def __init__(self, requests_per_minute: float, bytes_per_minute: float, *, names: int = 65_536) -> None:
        self._requests, self._bytes, self._names = requests_per_minute, bytes_per_minute, names
        self._buckets: OrderedDict[str, tuple[TokenBucket, TokenBucket]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, name: str, size: int, now: float) -> float:
        """Charge one request of `size` bytes and return 0, or charge nothing and return the seconds to wait."""
        pair = self._buckets.get(name)
        if pair is None:
            pair = (
                TokenBucket(self._requests / 60, self._requests, now),
                TokenBucket(self._bytes / 60, self._bytes, now),
            )
            self._buckets[name] = pair
            if len(self._buckets) > self._names:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        requests, sizes = pair
        seconds = max(requests.wait(1, now), sizes.wait(size, now))
        if seconds == 0:
            requests.take(1)
            sizes.take(size)
        return seconds

    def charge(self, name: str, size: int) -> None:
        """Charge `size` bytes of an answer."""
        if (pair := self._buckets.get(name)) is not None:
            pair[1].take(size)
