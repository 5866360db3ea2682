"""A step of an exported file beside torch's: the batch that both take, and how far apart they may be."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.exported import ExportedFile

__all__ = ["difference", "noise_batch"]

Array = NDArray[np.float32]


def noise_batch(file: ExportedFile, seed: int, rows: int) -> Batch:
    """A private and a bridge batch of noise, with labels and teacher."""
    rng = np.random.default_rng(seed)
    shape = (rows, *file.sample_shape)
    x_N, bridge_x_N = rng.random(shape, np.float32), rng.random(shape, np.float32)
    y_N = rng.integers(0, file.classes, rows)
    teacher_NC = rng.standard_normal((rows, file.classes), np.float32)
    return Batch(bridge_x_N, y_N, teacher_NC, x_N, y_N)


def difference(a: Array, b: Array) -> float:
    """The largest difference, relative to the largest value where that is above 1; infinite where one is NaN."""
    scale = max(1.0, float(np.abs(b).max(initial=0.0)))
    found = float(np.abs(a - b).max(initial=0.0)) / scale
    return math.inf if math.isnan(found) else found
