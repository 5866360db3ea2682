"""torch's tensors as the runtime's: a logical shape, and the order in which the axes lie in memory.

Convolutions want channels last, torch's sizes name channels first; a permutation costs nothing until an operator needs
its input in a certain order. An expanded axis keeps length 1 until an operator needs it in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedagg_edge.errors import ExportError
from fedagg_edge.export import ops
from fedagg_edge.export.writer import GraphWriter, Tensor

__all__ = ["CHANNELS_LAST", "Value", "align", "arrange", "elementwise_order", "natural", "plain"]

CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}
"""Axis order of the runtime's images, by number of axes."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph as torch sees it.

    `shape` is torch's. Axis `order[i]` of it lies at position i in memory, where it has its full length or, if it is
    expanded, length 1.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def stored(self) -> tuple[int, ...]:
        """The lengths that are really there, in torch's order of axes."""
        return tuple(self.tensor.shape[self.order.index(axis)] for axis in range(len(self.shape)))

    def permuted(self, axes: Sequence[int]) -> Value:
        """torch's permute: axis i of the result is axis ``axes[i]``."""
        shape = tuple(self.shape[a] for a in axes)
        return Value(self.tensor, shape, tuple(list(axes).index(a) for a in self.order))


def natural(rank: int) -> tuple[int, ...]:
    """torch's own order."""
    return tuple(range(rank))


def plain(tensor: Tensor) -> Value:
    """A value that lies as torch would have it."""
    return Value(tensor, tensor.shape, natural(len(tensor.shape)))


def arrange(g: GraphWriter, value: Value, order: Sequence[int] | None = None, *, full: bool = True) -> Tensor:
    """The value in memory in the given order of axes, by default torch's; expanded axes in full unless told."""
    order = natural(len(value.shape)) if order is None else tuple(order)
    tensor = ops.transpose(g, value.tensor, [value.order.index(axis) for axis in order])
    if not full:
        return tensor
    times = []
    for axis, size in zip(order, tensor.shape, strict=True):
        wanted = value.shape[axis]
        if size != wanted and wanted < 0:
            raise ExportError(f"got {value.stored}, which would have to be repeated for every row of a batch")
        times.append(1 if size == wanted else wanted)
    return ops.tile(g, tensor, times)


def elementwise_order(values: Sequence[Value], rank: int) -> tuple[int, ...]:
    """The order for an operation on all of `values`: that of the largest."""
    known = [v for v in values if len(v.shape) == rank]
    if not known:
        return natural(rank)
    return max(known, key=lambda v: (_weight(v), v.order != natural(rank))).order


def _weight(value: Value) -> int:
    """How much lies in memory, a batch counted as many."""
    total = 1
    for size in value.tensor.shape:
        total *= -size * 1000 if size < 0 else size
    return total


def align(g: GraphWriter, value: Value, order: Sequence[int]) -> Tensor:
    """The value for an operation that broadcasts, with as many axes as `order` has and in that order."""
    missing = len(order) - len(value.shape)
    if missing:
        lead = (1,) * missing
        tensor = ops.reshape(g, value.tensor, lead + value.tensor.shape)
        shifted = (*range(missing), *(axis + missing for axis in value.order))
        value = Value(tensor, lead + value.shape, shifted)
    return _without_leading_ones(g, arrange(g, value, order, full=False))


def _without_leading_ones(g: GraphWriter, tensor: Tensor) -> Tensor:
    """One vector of the last axis broadcasts fastest."""
    if len(tensor.shape) > 1 and all(size == 1 for size in tensor.shape[:-1]):
        return ops.reshape(g, tensor, tensor.shape[-1:])
    return tensor
