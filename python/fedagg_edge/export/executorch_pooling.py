"""Pooling and its gradients for ExecuTorch, as maxima and sums of slices: its own max pooling has a wrong gradient."""
# ruff: noqa: PLR0917  # the signatures are torch's

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fedagg_edge.export.executorch_windows import Windows, lay_windows, pad_around, per_axis, unpad

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]


def _pool_windows(
    x: Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil: bool
) -> tuple[Windows, list[int]]:
    size, padding, dilation = per_axis(size, 2), per_axis(padding, 2), per_axis(dilation, 2)
    stride = per_axis(stride, 2) if stride else size
    return lay_windows(x, size, stride, padding, dilation, ceil=ceil), padding


def max_pool2d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """aten.max_pool2d_with_indices, but the second output holds places in the window: the first of equal maxima.

    A NaN wins over everything, as in torch: there the last one does.
    """
    windows, padding = _pool_windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    padded = pad_around(x, windows, padding, float("-inf"))
    best = place = None
    for i, value in enumerate(windows.take(padded)):
        if best is None or place is None:
            best, place = value, torch.full_like(value, 0.0)
            continue
        wins = torch.logical_or(value > best, torch.ne(value, value))
        best, place = torch.where(wins, value, best), torch.where(wins, float(i), place)
    assert best is not None
    assert place is not None
    return best, place


def max_pool2d_backward(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    place: Tensor,
) -> Tensor:
    """aten.max_pool2d_with_indices_backward, with `place` as `max_pool2d` gave it."""
    windows, padding = _pool_windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    zero = torch.zeros_like(gradient)
    parts = [torch.where(place == float(i), gradient, zero) for i, _ in enumerate(windows.offsets())]
    return unpad(windows.spread(parts), x.shape[-2:], padding)


def _divisor(
    x: Tensor, windows: Windows, padding: Sequence[int], include_pad: bool, override: int | None
) -> float | list[list[float]]:
    """How many places each window's sum is divided by: one number, or one per output place."""
    if override:
        return float(override)
    counts = []
    for n, k, s, p, out in zip(x.shape[-2:], windows.size, windows.stride, padding, windows.out, strict=True):
        low, high = (-p, int(n) + p) if include_pad else (0, int(n))
        counts.append([min(i * s - p + k, high) - max(i * s - p, low) for i in range(out)])
    if all(len(set(c)) == 1 for c in counts):
        return float(counts[0][0] * counts[1][0])
    return [[float(a * b) for b in counts[1]] for a in counts[0]]


def _divided(x: Tensor, divisor: float | list[list[float]]) -> Tensor:
    return x / (divisor if isinstance(divisor, float) else torch.tensor(divisor, dtype=x.dtype))


def avg_pool2d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """aten.avg_pool2d as a sum of slices."""
    windows, padding = _pool_windows(x, kernel_size, stride, padding, (1,), ceil_mode)
    padded = pad_around(x, windows, padding)
    total: Any = sum(windows.take(padded))
    return _divided(total, _divisor(x, windows, padding, count_include_pad, divisor_override))


def avg_pool2d_backward(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """aten.avg_pool2d_backward."""
    windows, padding = _pool_windows(x, kernel_size, stride, padding, (1,), ceil_mode)
    share = _divided(gradient, _divisor(x, windows, padding, count_include_pad, divisor_override))
    return unpad(windows.spread([share] * len(list(windows.offsets()))), x.shape[-2:], padding)


def _adaptive(x: Tensor, size: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """Window and stride of the fixed pooling that an adaptive one amounts to, if it does."""
    lengths = [int(n) for n in x.shape[-2:]]
    if any(n % s for n, s in zip(lengths, size, strict=True)):
        return None
    window = [n // s for n, s in zip(lengths, size, strict=True)]
    return window, window


def adaptive_avg_pool2d(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """aten._adaptive_avg_pool2d where the output's size divides the input's; any other stays as it is."""
    fixed = _adaptive(x, output_size)
    return avg_pool2d(x, *fixed) if fixed else NotImplemented


def adaptive_avg_pool2d_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """aten._adaptive_avg_pool2d_backward, likewise."""
    fixed = _adaptive(x, [int(n) for n in gradient.shape[-2:]])
    return avg_pool2d_backward(gradient, x, *fixed, [0, 0], False, True, None) if fixed else NotImplemented
