"""The one input scale: raw sensor or pixel values to [0, 1], per channel. numpy only.

Private, bridge and test samples all pass here. The authors' demo gives its models two scales, normalised private images
beside decoded ones in [0, 1], and loses twenty points of accuracy by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError

__all__ = ["measure_range", "range_arrays", "to_model_scale"]

Range = tuple[NDArray[np.float32], NDArray[np.float32]]


def to_model_scale(
    raw_N: NDArray[Any], low_C: NDArray[np.float32], high_C: NDArray[np.float32], sample_shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return (raw - low) / (high - low) clipped to [0, 1], float32 [N, *sample_shape].

    `raw_N` is any integer or float array [N, *sample_shape]. uint8 images in 0..255 map exactly: nothing is clipped.
    Values outside the range are clipped, because a range measured on open data cannot hold every spike of a device
    that was never seen, and a bridge sample cannot lie outside it. Raises DataError for a wrong shape or dtype, NaN or
    infinity.
    """
    raw_N = np.asarray(raw_N)
    if raw_N.dtype.kind not in "uif" or raw_N.shape[1:] != sample_shape or raw_N.ndim != len(sample_shape) + 1:
        raise DataError(
            f"samples: got {raw_N.dtype} {raw_N.shape}, expected numbers of shape "
            f"(N, {', '.join(map(str, sample_shape))})"
        )
    _check_finite(raw_N)
    axes = (-1,) + (1,) * (len(sample_shape) - 1)
    low, span = low_C.reshape(axes), (high_C - low_C).reshape(axes)
    # float64 in between, chunk by chunk: a large float64 or int64 value must reach the clip, not overflow on the way
    out = np.empty(raw_N.shape, np.float32)
    for start in range(0, len(raw_N), 1024):
        rows = slice(start, start + 1024)
        out[rows] = np.clip((raw_N[rows].astype(np.float64) - low) / span, 0.0, 1.0)
    return out


def _check_finite(raw_N: NDArray[Any]) -> None:
    if raw_N.dtype.kind == "f" and not np.isfinite(raw_N).all():
        row = int(np.flatnonzero(~np.isfinite(raw_N.reshape(len(raw_N), -1)).all(axis=1))[0])
        raise DataError(f"samples: row {row} holds NaN or infinity, expected finite values; drop or repair it")


def range_arrays(low: Any, high: Any, channels: int) -> Range:
    """Return (low_C, high_C) float32 from numbers or sequences; raise DataError unless finite and low below high."""
    low_C, high_C = (_per_channel(value, channels) for value in (low, high))
    if not (np.isfinite(low_C).all() and np.isfinite(high_C).all() and (low_C < high_C).all()):
        raise DataError(
            f"input range: got low {low_C.tolist()} and high {high_C.tolist()}, expected finite numbers, low below high"
        )
    return low_C, high_C


def _per_channel(value: Any, channels: int) -> NDArray[np.float32]:
    array = np.asarray(value, np.float32)
    if array.shape not in ((), (channels,)):
        raise DataError(f"input range: got shape {array.shape}, expected one number or {channels}, one per channel")
    return np.ascontiguousarray(np.broadcast_to(array, (channels,)))


def measure_range(open_x: NDArray[Any]) -> Range:
    """Return a range (low_C, high_C) that suits `open_x` [N, C, ...]: 0..255 for uint8, else measured.

    Measured: the 0.1st to the 99.9th percentile of each channel, widened by a tenth on either side, so that one spike
    does not squeeze all other samples into a corner of [0, 1]. A constant channel gets a range around its value. Raises
    DataError for NaN or infinity.
    """
    channels = open_x.shape[1]
    if open_x.dtype == np.uint8:
        return range_arrays(0, 255, channels)
    _check_finite(open_x)
    values_CN = np.moveaxis(open_x, 1, 0).reshape(channels, -1).astype(np.float64)
    low_C, high_C = np.percentile(values_CN, (0.1, 99.9), axis=1)
    margin_C = np.where(high_C > low_C, 0.1 * (high_C - low_C), 0.5 * np.maximum(1.0, np.abs(low_C)))
    return range_arrays(low_C - margin_C, high_C + margin_C, channels)
