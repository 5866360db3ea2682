"""Convolutions and their gradients for ExecuTorch, as matrix products: its own walks through single values.

Symbols: N batch, C channels, O output channels, K places of a window.
"""
# ruff: noqa: PLR0917  # the signatures are torch's

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fedagg_edge.errors import ExportError
from fedagg_edge.export.executorch_normalisation import channel_sum
from fedagg_edge.export.executorch_windows import Windows, cut, lay_windows, pad_around, unpad, weave

__all__ = ["convolution", "convolution_backward"]

_aten = torch.ops.aten


def _columns(padded: Tensor, windows: Windows) -> Tensor:
    """x (N, C, ...) as a matrix (K * C, N * places): what each window sees."""
    turned = padded.transpose(0, 1)
    whole = _joined(windows.take(turned), 0)
    return whole.reshape(whole.shape[0], -1)


def _matrix(w: Tensor) -> Tensor:
    """w (O, C, ...) as (O, K * C)."""
    return w.permute(0, *range(2, w.dim()), 1).reshape(w.shape[0], -1)


def _shape(x: Tensor, windows: Windows, channels: int) -> list[Any]:
    return [channels, x.shape[0], *windows.out]


def _dense(x: Tensor, w: Tensor, windows: Windows) -> Tensor:
    out = torch.mm(_matrix(w), _columns(x, windows))
    return out.reshape(_shape(x, windows, int(w.shape[0]))).transpose(0, 1)


def _dense_backward(gradient: Tensor, x: Tensor, w: Tensor, windows: Windows, need_x: bool) -> list[Tensor | None]:
    """Gradients of the padded input, if wanted, and of the weights."""
    channels, places = int(w.shape[1]), list(windows.offsets())
    axes = range(2, w.dim())
    rows_O = gradient.permute(0, *axes, 1).reshape(-1, w.shape[0])
    grad_w = torch.mm(_columns(x, windows), rows_O).reshape(*windows.size, channels, w.shape[0])
    turned = grad_w.permute(w.dim() - 1, w.dim() - 2, *range(w.dim() - 2))
    if not need_x:
        return [None, turned]
    grad_O = gradient.transpose(0, 1).reshape(w.shape[0], -1)
    columns = torch.mm(_matrix(w).t(), grad_O).reshape(len(places), *_shape(x, windows, channels))
    parts = [_aten.select.int(columns, 0, i) for i in range(len(places))]
    return [windows.spread(parts).transpose(0, 1), turned]


def _taps(w: Tensor, windows: Windows) -> list[Tensor]:
    """Filters w (O, 1, ...) place by place, each as it is multiplied with (N, O, ...)."""
    flat = w.reshape(w.shape[0], -1).t()
    return [_aten.select.int(flat, 0, i).reshape(1, -1, *[1] * len(windows.size)) for i in range(flat.shape[0])]


def _repeated(x: Tensor, times: int) -> Tensor:
    """Each channel `times` over, next to each other."""
    return x if times == 1 else weave([x] * times, 1)


def _depthwise(x: Tensor, w: Tensor, windows: Windows) -> Tensor:
    """One filter or several per channel: w (C * m, 1, ...)."""
    x = _repeated(x, int(w.shape[0]) // int(x.shape[1]))
    total: Any = sum(part * tap for part, tap in zip(windows.take(x), _taps(w, windows), strict=True))
    return total  # type: ignore[no-any-return]


def _depthwise_backward(gradient: Tensor, x: Tensor, w: Tensor, windows: Windows, need_x: bool) -> list[Tensor | None]:
    channels, times = int(x.shape[1]), int(w.shape[0]) // int(x.shape[1])
    wide = _repeated(x, times)
    grad_w = torch.stack([channel_sum(gradient * part) for part in windows.take(wide)], 1).reshape(w.shape)
    if not need_x:
        return [None, grad_w]
    grad_x = windows.spread([gradient * tap for tap in _taps(w, windows)])
    if times > 1:
        grad_x = grad_x.reshape(x.shape[0], channels, times, *windows.padded).sum(2)
    return [grad_x, grad_w]


def _parts(x: Tensor, axis: int, count: int) -> list[Tensor]:
    """`x` in equal parts along an axis."""
    size = int(x.shape[axis]) // count
    return [cut(x, axis, i * size, (i + 1) * size) for i in range(count)]


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    return torch.cat(list(parts), axis) if len(parts) > 1 else parts[0]


def _grouped(x: Tensor, w: Tensor, groups: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(_parts(x, 1, groups), _parts(w, 0, groups), strict=True)


def _is_depthwise(x: Tensor, groups: int) -> bool:
    return groups > 1 and groups == x.shape[1]


def convolution(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """aten.convolution as a matrix product over windows; channel by channel where every channel has its own filters."""
    if transposed:
        raise ExportError("operator aten.convolution: a transposed one has no gradient in ExecuTorch")
    windows = lay_windows(x, [int(k) for k in w.shape[2:]], stride, padding, dilation, ceil=False)
    padded = pad_around(x, windows, padding)
    if _is_depthwise(x, groups):
        out = _depthwise(padded, w, windows)
    else:
        out = _joined([_dense(a, b, windows) for a, b in _grouped(padded, w, groups)], 1)
    return out if bias is None else out + bias.reshape(-1, *[1] * len(windows.size))


def convolution_backward(
    gradient: Tensor,
    x: Tensor,
    w: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """aten.convolution_backward, likewise."""
    if transposed:
        raise ExportError("operator aten.convolution: a transposed one has no gradient in ExecuTorch")
    windows = lay_windows(x, [int(k) for k in w.shape[2:]], stride, padding, dilation, ceil=False)
    padded = pad_around(x, windows, padding)
    if _is_depthwise(x, groups):
        grad_x, grad_w = _depthwise_backward(gradient, padded, w, windows, output_mask[0])
    else:
        pairs = zip(_parts(gradient, 1, groups), _grouped(padded, w, groups), strict=True)
        parts = [_dense_backward(g, a, b, windows, output_mask[0]) for g, (a, b) in pairs]
        grad_w = _joined([p[1] for p in parts if p[1] is not None], 0)
        grad_x = _joined([p[0] for p in parts if p[0] is not None], 1) if output_mask[0] else None
    bias = gradient.sum([0, *range(2, gradient.dim())]) if output_mask[2] else None
    return None if grad_x is None else unpad(grad_x, x.shape[2:], padding), grad_w, bias
