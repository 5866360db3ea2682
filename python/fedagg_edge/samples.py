"""A device's private samples: the privacy wall starts here.

Only the device that owns them holds a `PrivateSamples`; what leaves it are embeddings and labels, made by the bridge.
The repr shows counts, never content, so that a sample cannot slip into a log.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError
from fedagg_edge.records import NodeId, SampleSet, counters

__all__ = ["PrivateSamples"]


class PrivateSamples:
    """Samples of one device, each with a counter that is given once and never used again.

    `x_N` float32 [N, *sample_shape] on the model's input scale; `y_N` int64 [N] below `classes`; `counter_N` uint64 [N]
    ascending, 0 to N - 1 if not given.
    """

    __slots__ = ("_counter_N", "classes", "origin", "x_N", "y_N")

    def __init__(
        self,
        origin: NodeId,
        classes: int,
        x_N: NDArray[np.float32],
        y_N: NDArray[np.int64],
        counter_N: NDArray[np.uint64] | None = None,
    ) -> None:
        self.origin = origin
        self.classes = classes
        self.x_N = x_N
        self.y_N = y_N
        self._counter_N = counters(0, len(x_N)) if counter_N is None else counter_N
        self._check()

    def _check(self) -> None:
        if self.x_N.dtype != np.float32 or self.x_N.ndim < 2:
            raise DataError(f"{self.origin}: got {self.x_N.dtype} {self.x_N.shape} samples, expected float32 (N, ...)")
        if self.y_N.dtype != np.int64 or self.y_N.shape != (len(self.x_N),):
            raise DataError(
                f"{self.origin}: got {self.y_N.dtype} {self.y_N.shape} labels, expected int64 ({len(self)},)"
            )
        if len(self.y_N) and not (self.y_N.min() >= 0 and self.y_N.max() < self.classes):
            raise DataError(
                f"{self.origin}: got labels {self.y_N.min()} to {self.y_N.max()}, expected 0 to {self.classes - 1}"
            )
        if self._counter_N.shape != (len(self),):
            raise DataError(f"{self.origin}: got {len(self._counter_N)} counters, expected one for each of {len(self)}")

    def __len__(self) -> int:
        return len(self.x_N)

    def __repr__(self) -> str:
        return f"PrivateSamples(origin={self.origin!r}, count={len(self)})"

    @property
    def samples(self) -> SampleSet:
        """The ids of all samples."""
        return SampleSet.of(self.origin, self._counter_N)

    def take(self, samples: SampleSet) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (x, y) of `samples` in its order: this is how a private sample finds its bridge sample, by id.

        Raises DataError if a sample is not this device's.
        """
        if not len(samples):  # as of a set of which everything was let go since
            return self.x_N[:0], self.y_N[:0]
        if samples.origins != (self.origin,):
            raise DataError(f"{self.origin}: asked for samples of {', '.join(samples.origins)}")
        wanted_N = samples.counters[0]
        row_N = np.searchsorted(self._counter_N, wanted_N)
        if np.any(row_N >= len(self._counter_N)) or np.any(self._counter_N[row_N] != wanted_N):
            raise DataError(f"{self.origin}: asked for samples that this device does not have")
        if len(row_N) == len(self):  # all of them, the usual case: no copy
            return self.x_N, self.y_N
        return self.x_N[row_N], self.y_N[row_N]
