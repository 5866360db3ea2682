"""Named random streams: every use of randomness is derived from the run's seed and a path of names.

Nothing keeps generator state, so a run can be resumed at any round, and one node's draws never depend on another's.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["derive", "stream"]


def derive(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed for `path` (say ``derive(0, "init", "edge-1")``), the same on every machine."""
    text = "\x1f".join(f"{type(p).__name__}:{p}" for p in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """Return a fresh NumPy generator for `path`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *path)))
