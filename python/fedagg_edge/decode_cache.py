"""A bridge that keeps what it decoded: in one process many nodes decode the same embeddings, several times a round."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.bridge import Bridge

__all__ = ["DecodeCache"]

# Rows that are decoded at a time, always so many: then a row's bits do not depend on who asks first, and with whom.
# TorchCodec takes no fewer of such samples at once.
_ROWS, _VALUES = 32, 1 << 17


class DecodeCache:
    """`bridge`, with the bridge samples of the first embeddings that fit into `megabytes` (2^20 bytes) kept.

    For several threads. Memory is taken as it is filled. Samples are the bridge's, up to rounding (convolutions of
    batches of another size may differ in the last bit).
    """

    def __init__(self, bridge: Bridge, megabytes: int) -> None:
        self._bridge = bridge
        values = math.prod(bridge.sample_shape)
        self._rows = max(1, min(_ROWS, _VALUES // values))
        self._kept_N = np.empty(((megabytes << 20) // (4 * values), *bridge.sample_shape), np.float32)
        self._place: dict[bytes, int] = {}
        self._lock = threading.Lock()

    @property
    def digest(self) -> str:
        """See `Bridge.digest`."""
        return self._bridge.digest

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """See `Bridge.sample_shape`."""
        return self._bridge.sample_shape

    @property
    def embedding_bytes(self) -> int:
        """See `Bridge.embedding_bytes`."""
        return self._bridge.embedding_bytes

    def scale(self, raw_N: NDArray[Any]) -> NDArray[np.float32]:
        """See `Bridge.scale`."""
        return self._bridge.scale(raw_N)

    def encode(self, x_N: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See `Bridge.encode`."""
        return self._bridge.encode(x_N)

    def decode(self, code_NB: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Bridge.decode`; a copy, which the caller may change."""
        self._bridge.decode(code_NB[:0])  # refuses codes of another type or width
        keys = [row.tobytes() for row in code_NB]
        new = [key for key in dict.fromkeys(keys) if key not in self._place]
        rest: dict[bytes, NDArray[np.float32]] = {}
        for start in range(0, len(new), self._rows):
            part = new[start : start + self._rows]
            rest |= zip(part, self._decoded(part), strict=True)
        if not rest:
            return self._kept_N[[self._place[key] for key in keys]]
        out_N = np.empty((len(keys), *self.sample_shape), np.float32)
        for out, key in zip(out_N, keys, strict=True):
            out[...] = rest[key] if key in rest else self._kept_N[self._place[key]]
        return out_N

    def _decoded(self, part: list[bytes]) -> NDArray[np.float32]:
        """Decode at most `_rows` embeddings, and keep those for which there is room."""
        padded = part + part[:1] * (self._rows - len(part))
        code_NB = np.frombuffer(b"".join(padded), np.uint8).reshape(len(padded), -1)
        x_N = self._bridge.decode(code_NB)[: len(part)]
        with self._lock:
            for key, x in zip(part, x_N, strict=True):
                at = len(self._place)
                if key not in self._place and at < len(self._kept_N):
                    self._kept_N[at] = x
                    self._place[key] = at  # last: who finds it finds the sample
        return x_N
