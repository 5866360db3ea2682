"""How long to wait before trying again: exponential, capped, with full jitter, so that a thousand come back apart."""

from __future__ import annotations

from random import Random

__all__ = ["Backoff"]


class Backoff:
    """Seconds to wait after each failure in a row: uniform in [0, min(cap, base * 2^failures)].

    A run that lasted `healthy` seconds forgets the failures before it.
    """

    def __init__(self, *, base: float, cap: float, rng: Random, healthy: float = 60.0) -> None:
        self._base, self._cap, self._rng, self._healthy = base, cap, rng, healthy
        self.failures = 0

    def next(self) -> float:
        """Count one more failure and return the seconds to wait."""
        most = min(self._cap, self._base * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return self._rng.uniform(0, most)

    def lasted(self, seconds: float) -> None:
        """Tell how long the last run lasted."""
        if seconds >= self._healthy:
            self.failures = 0
