"""How good a reconstruction is: peak signal-to-noise ratio, numpy only, sums in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedagg_edge.errors import DataError

__all__ = ["pooled_psnr", "psnr", "sample_mse"]

_LEAST_MSE = 1e-10  # a perfect sample counts 100 dB, so that the mean stays finite


def sample_mse(reference: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Return the mean squared error of each sample, float64 (N,).

    Both arrays have shape (N, ...) and one scale; DataError if the shapes differ or there is no sample.
    """
    a, b = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape or a.ndim < 2 or a.size == 0:
        raise DataError(f"quality: got shapes {a.shape} and {b.shape}, expected two equal (samples, ...) shapes")
    return np.asarray(np.square(a - b).reshape(len(a), -1).mean(axis=1), dtype=np.float64)


def psnr(reference: ArrayLike, other: ArrayLike, *, peak: float = 1.0) -> float:
    """Return the mean over samples of each sample's PSNR in dB, the figure that papers print.

    `peak` is the largest possible value: 1 in model scale. A sample without any error counts 100 dB.
    """
    error_N = np.maximum(sample_mse(reference, other) / peak**2, _LEAST_MSE)
    return float(np.mean(-10.0 * np.log10(error_N)))


def pooled_psnr(reference: ArrayLike, other: ArrayLike, *, peak: float = 1.0) -> float:
    """Return the PSNR in dB of the mean squared error over all samples; never above `psnr`."""
    return float(-10.0 * np.log10(max(float(sample_mse(reference, other).mean()) / peak**2, _LEAST_MSE)))
