"""How good a reconstruction is: peak signal-to-noise ratio and structural similarity, numpy only, sums in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedagg_edge.errors import DataError

__all__ = ["pooled_psnr", "psnr", "sample_mse", "ssim"]

_LEAST_MSE = 1e-10  # a perfect sample counts 100 dB, so that the mean stays finite
_TAPS, _SIGMA = 11, 1.5  # SSIM's window, as in the paper


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


def ssim(reference: ArrayLike, other: ArrayLike, *, peak: float = 1.0) -> float:
    """Return the mean structural similarity of (N, C, H, W) images or (N, C, L) windows; 1 when they are equal.

    Wang et al., IEEE Transactions on Image Processing 13(4), 2004, eq. 13: Gaussian windows of 11 with sigma 1.5, a
    smaller odd number along axes shorter than that, wholly inside the sample; each channel on its own, K1 = 0.01, K2 =
    0.03. `peak` is the largest possible value. Raises DataError for other shapes.
    """
    a, b = np.asarray(reference), np.asarray(other)
    if a.shape != b.shape or a.ndim not in (3, 4) or a.size == 0:
        raise DataError(f"quality: got shapes {a.shape} and {b.shape}, expected two equal (N, C, H, W) or (N, C, L)")
    total = sum(_ssim_sum(a[i : i + 256], b[i : i + 256], peak) for i in range(0, len(a), 256))
    return total / len(a)


def _ssim_sum(a_N: NDArray[Any], b_N: NDArray[Any], peak: float) -> float:
    a, b = a_N.astype(np.float64) / peak, b_N.astype(np.float64) / peak
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    map_N = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    map_N /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(map_N.reshape(len(a), -1).mean(axis=1).sum())


def _windowed(x_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gaussian mean around every position whose window lies inside."""
    for axis in range(2, x_N.ndim):
        size = x_N.shape[axis]
        taps = min(_TAPS, size - (size + 1) % 2)
        weight = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * _SIGMA**2))
        weight /= weight.sum()
        x_N = sum(w * np.take(x_N, range(i, size - taps + 1 + i), axis) for i, w in enumerate(weight))
    return x_N
