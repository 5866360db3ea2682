"""Windows over the last axes of a tensor as slices of it: what the rewrites of pooling and convolution are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

__all__ = ["Windows", "cut", "lay_windows", "pad_around", "per_axis", "unpad", "weave"]

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Windows:
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
            parts = [cut(part, first + axis, o, o + (n - 1) * s + 1, s) for part in parts for o in starts]
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
            parts = [weave(group, first + axis) for group in groups]
        return pad_by(parts[0], self._rest())

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
        return pad_by(part, pads)


def lay_windows(
    x: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    ceil: bool,
) -> Windows:
    lengths = x.shape[x.dim() - len(size) :]
    out, padded = [], []
    for n, k, s, p, d in zip(lengths, size, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        count = -(-(n + 2 * p - reach) // s) + 1 if ceil else (n + 2 * p - reach) // s + 1
        if ceil and (count - 1) * s >= n + p:  # a window must begin inside the input or its left padding
            count -= 1
        out.append(int(count))
        padded.append(max(int(n) + 2 * p, (out[-1] - 1) * s + reach))
    return Windows(tuple(size), tuple(stride), tuple(dilation), tuple(padded), tuple(out))


def pad_around(x: Tensor, windows: Windows, padding: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` padded to the windows' length."""
    pads: list[int] = []
    for n, p, whole in zip(x.shape[x.dim() - len(padding) :], padding, windows.padded, strict=True):
        pads = [p, whole - p - int(n), *pads]
    return pad_by(x, pads, value)


def unpad(x: Tensor, lengths: Sequence[int], padding: Sequence[int]) -> Tensor:
    """`x` without its padding."""
    first = x.dim() - len(padding)
    for axis, (n, p) in enumerate(zip(lengths, padding, strict=True)):
        if x.shape[first + axis] != n:
            x = cut(x, first + axis, p, p + int(n))
    return x


def pad_by(x: Tensor, pads: list[int], value: float = 0.0) -> Tensor:
    return _aten.constant_pad_nd.default(x, pads, value) if any(pads) else x


def weave(parts: Sequence[Tensor], axis: int) -> Tensor:
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
    wide = pad_by(x.unsqueeze(axis + 1), [0] * 2 * (x.dim() - axis - 1) + [0, stride - 1])
    shape = [*x.shape]
    shape[axis] = count * stride
    return cut(wide.reshape(shape), axis, 0, (count - 1) * stride + 1)


def cut(x: Tensor, axis: int, start: int, end: int, step: int = 1) -> Tensor:
    """``x[start:end:step]`` along an axis; `x` itself where that is all of it."""
    whole = start == 0 and step == 1 and not isinstance(x.shape[axis], torch.SymInt) and end == x.shape[axis]
    return x if whole else _aten.slice.Tensor(x, axis, start, end, step)


def per_axis(value: Sequence[int], axes: int) -> list[int]:
    return list(value) * axes if len(value) == 1 else list(value)
