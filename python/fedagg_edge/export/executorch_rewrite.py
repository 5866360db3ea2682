"""Operators that ExecuTorch lacks, runs slowly or gets wrong, written in ones that it gets right. Exact equivalents.

Its `max_pool2d_with_indices_backward` gives wrong gradients without a word, its batch norm does not train, its
`convolution_backward` walks through single values: pooling becomes maxima and sums of slices, a convolution becomes a
matrix product. Torch's own decompositions do the rest. Symbols: N batch, C channels, O output channels, K places of a
window.
"""
# ruff: noqa: PLR0917  # the signatures are torch's

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

from fedagg_edge.errors import ExportError

__all__ = ["decompositions"]

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class _Windows:
    """How windows lie over the last axes of a padded tensor: one entry per axis in every tuple."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padded: tuple[int, ...]
    out: tuple[int, ...]

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """Places in a window, row by row."""
        return product(*(range(k) for k in self.size))

    def take(self, x: Tensor) -> list[Tensor]:
        """The values at each place of all windows, in the order of `offsets`."""
        first, parts = x.dim() - len(self.size), [x]
        for axis, (k, s, d, n) in enumerate(zip(self.size, self.stride, self.dilation, self.out, strict=True)):
            starts = [o * d for o in range(k)]
            parts = [_part(part, first + axis, o, o + (n - 1) * s + 1, s) for part in parts for o in starts]
        return parts

    def spread(self, parts: Sequence[Tensor]) -> Tensor:
        """The sum of what `take` would have taken: one part per place, each value put back where it came from."""
        if self.stride == self.size and set(self.dilation) == {1}:
            return self._tile(list(parts))
        total: Tensor | None = None
        for offset, part in zip(self.offsets(), parts, strict=True):
            placed = self._place(part, offset)
            total = placed if total is None else total + placed
        assert total is not None
        return total

    def _tile(self, parts: list[Tensor]) -> Tensor:
        """`spread` where windows touch and do not overlap."""
        first = parts[0].dim() - len(self.size)
        for axis, k in reversed(list(enumerate(self.size))):
            groups = [parts[i : i + k] for i in range(0, len(parts), k)]
            parts = [_woven(group, first + axis) for group in groups]
        return _pad(parts[0], self._rest())

    def _rest(self) -> list[int]:
        pads: list[int] = []
        for k, n, whole in zip(self.size, self.out, self.padded, strict=True):
            pads = [0, whole - n * k, *pads]
        return pads

    def _place(self, part: Tensor, offset: Sequence[int]) -> Tensor:
        first = part.dim() - len(self.size)
        for axis, s in enumerate(self.stride):
            part = _zeros_between(part, first + axis, s)
        pads: list[int] = []
        for o, d, s, n, whole in zip(offset, self.dilation, self.stride, self.out, self.padded, strict=True):
            before = o * d
            pads = [before, whole - before - (n - 1) * s - 1, *pads]
        return _pad(part, pads)


def _windows(
    x: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    ceil: bool,
) -> _Windows:
    lengths = x.shape[x.dim() - len(size) :]
    out, padded = [], []
    for n, k, s, p, d in zip(lengths, size, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        count = -(-(n + 2 * p - reach) // s) + 1 if ceil else (n + 2 * p - reach) // s + 1
        if ceil and (count - 1) * s >= n + p:  # a window must begin inside the input or its left padding
            count -= 1
        out.append(int(count))
        padded.append(max(int(n) + 2 * p, (out[-1] - 1) * s + reach))
    return _Windows(tuple(size), tuple(stride), tuple(dilation), tuple(padded), tuple(out))


def _around(x: Tensor, windows: _Windows, padding: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` padded to the windows' length."""
    pads: list[int] = []
    for n, p, whole in zip(x.shape[x.dim() - len(padding) :], padding, windows.padded, strict=True):
        pads = [p, whole - p - int(n), *pads]
    return _pad(x, pads, value)


def _without(x: Tensor, lengths: Sequence[int], padding: Sequence[int]) -> Tensor:
    """`x` without its padding."""
    first = x.dim() - len(padding)
    for axis, (n, p) in enumerate(zip(lengths, padding, strict=True)):
        if x.shape[first + axis] != n:
            x = _part(x, first + axis, p, p + int(n))
    return x


def _pad(x: Tensor, pads: list[int], value: float = 0.0) -> Tensor:
    return _aten.constant_pad_nd.default(x, pads, value) if any(pads) else x


def _woven(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors laid out in turn along an axis: a0 b0 a1 b1 ..."""
    if len(parts) == 1:
        return parts[0]
    shape = [*parts[0].shape]
    shape[axis] = int(shape[axis]) * len(parts)
    return torch.stack(list(parts), axis + 1).reshape(shape)


def _zeros_between(x: Tensor, axis: int, stride: int) -> Tensor:
    """``stride - 1`` zeros between neighbours along `axis`."""
    if stride == 1:
        return x
    count = int(x.shape[axis])
    wide = _pad(x.unsqueeze(axis + 1), [0] * 2 * (x.dim() - axis - 1) + [0, stride - 1])
    shape = [*x.shape]
    shape[axis] = count * stride
    return _part(wide.reshape(shape), axis, 0, (count - 1) * stride + 1)


def _part(x: Tensor, axis: int, start: int, end: int, step: int = 1) -> Tensor:
    """``x[start:end:step]`` along an axis; `x` itself where that is all of it."""
    whole = start == 0 and step == 1 and not isinstance(x.shape[axis], torch.SymInt) and end == x.shape[axis]
    return x if whole else _aten.slice.Tensor(x, axis, start, end, step)


def _per_axis(value: Sequence[int], axes: int) -> list[int]:
    return list(value) * axes if len(value) == 1 else list(value)


# ---- embedding


def embedding_backward(gradient: Tensor, indices: Tensor, rows: int, padding_idx: int, by_frequency: bool) -> Tensor:
    """aten.embedding_dense_backward as a product with ones where a row was looked up."""
    if by_frequency:
        return NotImplemented  # type: ignore[no-any-return]  # the operator stays, and is refused
    places = torch.arange(rows, dtype=indices.dtype, device=indices.device).reshape(-1, 1)
    looked_up = places == indices.reshape(1, -1)
    if padding_idx >= 0:
        looked_up = torch.logical_and(looked_up, places != padding_idx)
    return torch.mm(looked_up.to(gradient.dtype), gradient.reshape(-1, gradient.shape[-1]))


# ---- pooling


def _pool_windows(
    x: Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil: bool
) -> tuple[_Windows, list[int]]:
    size, padding, dilation = _per_axis(size, 2), _per_axis(padding, 2), _per_axis(dilation, 2)
    stride = _per_axis(stride, 2) if stride else size
    return _windows(x, size, stride, padding, dilation, ceil=ceil), padding


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
    padded = _around(x, windows, padding, float("-inf"))
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
    return _without(windows.spread(parts), x.shape[-2:], padding)


def _divisor(
    x: Tensor, windows: _Windows, padding: Sequence[int], include_pad: bool, override: int | None
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
    padded = _around(x, windows, padding)
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
    return _without(windows.spread([share] * len(list(windows.offsets()))), x.shape[-2:], padding)


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


# ---- batch norm


def _sum(x: Tensor) -> Tensor:
    """Over all axes but the channels': first along each sample, which keeps float32 sums short."""
    return (x if x.dim() == 2 else x.sum(list(range(2, x.dim())))).sum(0)


def _along(x: Tensor, value_C: Tensor) -> Tensor:
    return value_C.reshape(1, -1, *[1] * (x.dim() - 2))


def _count(x: Tensor) -> Tensor:
    """How many values a channel has; as a tensor, because the runtime's own sizes cannot be divided by."""
    return torch.ones_like(_part(x, 1, 0, 1)).sum()


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """aten.native_batch_norm: output, mean, 1 / deviation; in training the running statistics move in place."""
    if training or running_mean is None or running_var is None:
        count = _count(x)
        mean = _sum(x) / count
        centred = x - _along(x, mean)
        squares = _sum(centred * centred)
        inverse = torch.rsqrt(squares / count + eps)
        if running_mean is not None and running_var is not None:
            running_mean.mul_(1 - momentum).add_(mean * momentum)
            running_var.mul_(1 - momentum).add_(squares / (count - 1) * momentum)
    else:
        mean, inverse = running_mean, torch.rsqrt(running_var + eps)
    scale = inverse if weight is None else inverse * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return x * _along(x, scale) + _along(x, shift), mean, inverse


def batch_norm_no_stats(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """aten._native_batch_norm_legit.no_stats."""
    return batch_norm(x, weight, bias, None, None, True, momentum, eps)


def batch_norm_no_training(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """aten._native_batch_norm_legit_no_training."""
    return batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps)


def batch_norm_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
    training: bool,
    eps: float,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """aten.native_batch_norm_backward."""
    if not training and running_mean is not None and running_var is not None:
        mean, inverse = running_mean, torch.rsqrt(running_var + eps)
    assert mean is not None
    assert inverse is not None
    centred = x - _along(x, mean)
    bias_C, dot_C = _sum(gradient), _sum(centred * gradient)
    scale = inverse if weight is None else inverse * weight
    if training:
        count = _count(x)
        along = centred * _along(x, dot_C * inverse * inverse / count)
        grad_x = (gradient - _along(x, bias_C / count) - along) * _along(x, scale)
    else:
        grad_x = gradient * _along(x, scale)
    return grad_x, dot_C * inverse if output_mask[1] else None, bias_C if output_mask[2] else None


# ---- convolution


def _columns(padded: Tensor, windows: _Windows) -> Tensor:
    """x (N, C, ...) as a matrix (K * C, N * places): what each window sees."""
    turned = padded.transpose(0, 1)
    whole = _joined(windows.take(turned), 0)
    return whole.reshape(whole.shape[0], -1)


def _matrix(w: Tensor) -> Tensor:
    """w (O, C, ...) as (O, K * C)."""
    return w.permute(0, *range(2, w.dim()), 1).reshape(w.shape[0], -1)


def _shape(x: Tensor, windows: _Windows, channels: int) -> list[Any]:
    return [channels, x.shape[0], *windows.out]


def _dense(x: Tensor, w: Tensor, windows: _Windows) -> Tensor:
    out = torch.mm(_matrix(w), _columns(x, windows))
    return out.reshape(_shape(x, windows, int(w.shape[0]))).transpose(0, 1)


def _dense_backward(gradient: Tensor, x: Tensor, w: Tensor, windows: _Windows, need_x: bool) -> list[Tensor | None]:
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


def _taps(w: Tensor, windows: _Windows) -> list[Tensor]:
    """Filters w (O, 1, ...) place by place, each as it is multiplied with (N, O, ...)."""
    flat = w.reshape(w.shape[0], -1).t()
    return [_aten.select.int(flat, 0, i).reshape(1, -1, *[1] * len(windows.size)) for i in range(flat.shape[0])]


def _repeated(x: Tensor, times: int) -> Tensor:
    """Each channel `times` over, next to each other."""
    return x if times == 1 else _woven([x] * times, 1)


def _depthwise(x: Tensor, w: Tensor, windows: _Windows) -> Tensor:
    """One filter or several per channel: w (C * m, 1, ...)."""
    x = _repeated(x, int(w.shape[0]) // int(x.shape[1]))
    total: Any = sum(part * tap for part, tap in zip(windows.take(x), _taps(w, windows), strict=True))
    return total  # type: ignore[no-any-return]


def _depthwise_backward(gradient: Tensor, x: Tensor, w: Tensor, windows: _Windows, need_x: bool) -> list[Tensor | None]:
    channels, times = int(x.shape[1]), int(w.shape[0]) // int(x.shape[1])
    wide = _repeated(x, times)
    grad_w = torch.stack([_sum(gradient * part) for part in windows.take(wide)], 1).reshape(w.shape)
    if not need_x:
        return [None, grad_w]
    grad_x = windows.spread([gradient * tap for tap in _taps(w, windows)])
    if times > 1:
        grad_x = grad_x.reshape(x.shape[0], channels, times, *windows.padded).sum(2)
    return [grad_x, grad_w]


def _parts(x: Tensor, axis: int, count: int) -> list[Tensor]:
    """`x` in equal parts along an axis."""
    size = int(x.shape[axis]) // count
    return [_part(x, axis, i * size, (i + 1) * size) for i in range(count)]


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
    windows = _windows(x, [int(k) for k in w.shape[2:]], stride, padding, dilation, ceil=False)
    padded = _around(x, windows, padding)
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
    windows = _windows(x, [int(k) for k in w.shape[2:]], stride, padding, dilation, ceil=False)
    padded = _around(x, windows, padding)
    if _is_depthwise(x, groups):
        grad_x, grad_w = _depthwise_backward(gradient, padded, w, windows, output_mask[0])
    else:
        pairs = zip(_parts(gradient, 1, groups), _grouped(padded, w, groups), strict=True)
        parts = [_dense_backward(g, a, b, windows, output_mask[0]) for g, (a, b) in pairs]
        grad_w = _joined([p[1] for p in parts if p[1] is not None], 0)
        grad_x = _joined([p[0] for p in parts if p[0] is not None], 1) if output_mask[0] else None
    bias = gradient.sum([0, *range(2, gradient.dim())]) if output_mask[2] else None
    return None if grad_x is None else _without(grad_x, x.shape[2:], padding), grad_w, bias


_OWN: dict[Any, Callable[..., Any]] = {
    _aten.embedding_dense_backward.default: embedding_backward,
    _aten.native_batch_norm.default: batch_norm,
    _aten._native_batch_norm_legit.default: batch_norm,
    _aten._native_batch_norm_legit.no_stats: batch_norm_no_stats,
    _aten._native_batch_norm_legit_no_training.default: batch_norm_no_training,
    _aten.native_batch_norm_backward.default: batch_norm_backward,
    _aten.max_pool2d_with_indices.default: max_pool2d,
    _aten.max_pool2d_with_indices_backward.default: max_pool2d_backward,
    _aten.avg_pool2d.default: avg_pool2d,
    _aten.avg_pool2d_backward.default: avg_pool2d_backward,
    _aten._adaptive_avg_pool2d.default: adaptive_avg_pool2d,
    _aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool2d_backward,
    _aten.convolution.default: convolution,
    _aten.convolution_backward.default: convolution_backward,
}

_TORCHS = (
    _aten.hardswish,
    _aten.hardswish_backward,
    _aten.hardsigmoid,
    _aten.hardsigmoid_backward,
    _aten.hardtanh_backward,
    _aten.silu,
    _aten.silu_backward,
    _aten.native_layer_norm_backward,
    _aten.native_group_norm,
    _aten.native_group_norm_backward,
    _aten.slice_backward,
    _aten.select_backward,
    _aten.gelu_backward,
    _aten.leaky_relu_backward,
    _aten.elu_backward,
    _aten.threshold_backward,
    _aten._softmax_backward_data,
    _aten._log_softmax_backward_data,
)


def decompositions() -> dict[Any, Callable[..., Any]]:
    """What to pass to `make_fx`: torch's core decompositions, those of backward operators, and the ones above."""
    table: dict[Any, Callable[..., Any]] = dict(core_aten_decompositions())
    table.update(get_decompositions(_TORCHS))
    return {**table, **_OWN}
