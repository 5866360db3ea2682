"""Translations of operators that move, join, cut or reduce axes, and of constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedagg_edge.export import ops
from fedagg_edge.export.elementwise import number
from fedagg_edge.export.lower import Lowering, translates
from fedagg_edge.export.trace import Node, Rows, refuse
from fedagg_edge.export.values import Value, arrange, natural, plain
from fedagg_edge.export.writer import GraphWriter, Tensor

__all__ = ["reduced"]


@translates("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints")
def _view(ctx: Lowering, node: Node) -> Value:
    return plain(ops.reshape(ctx.g, arrange(ctx.g, ctx.get(node.args[0])), node.shape))


@translates("permute.default")
def _permute(ctx: Lowering, node: Node) -> Value:
    rank = len(node.shape)
    return ctx.get(node.args[0]).permuted([a % rank for a in node.args[1]])


@translates("transpose.int", "t.default")
def _transpose(ctx: Lowering, node: Node) -> Value:
    rank = len(node.shape)
    if rank < 2:
        return ctx.get(node.args[0])
    a, b = (i % rank for i in (node.args[1:] or (0, 1)))
    axes = list(range(rank))
    axes[a], axes[b] = b, a
    return ctx.get(node.args[0]).permuted(axes)


@translates("unsqueeze.default")
def _unsqueeze(ctx: Lowering, node: Node) -> Value:
    x, axis = ctx.get(node.args[0]), node.args[1] % len(node.shape)
    order = [a + (a >= axis) for a in x.order]
    # before the axis that follows in torch's order, so that (N, L, C) becomes (N, 1, L, C)
    place = order.index(axis + 1) if axis + 1 in order else len(order)
    order.insert(place, axis)
    shape = list(x.tensor.shape)
    shape.insert(place, 1)
    return Value(ops.reshape(ctx.g, x.tensor, shape), node.shape, tuple(order))


@translates("squeeze.dim", "squeeze.dims")
def _squeeze(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    wanted = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    gone = {a % len(x.shape) for a in wanted if x.shape[a] == 1}
    order = tuple(a for a in x.order if a not in gone)
    shape = [size for size, a in zip(x.tensor.shape, x.order, strict=True) if a not in gone]
    return Value(ops.reshape(ctx.g, x.tensor, shape), node.shape, _renumbered(order))


def _renumbered(order: Sequence[int]) -> tuple[int, ...]:
    """Axis numbers without the gaps that removed axes left."""
    rank_of = {axis: i for i, axis in enumerate(sorted(order))}
    return tuple(rank_of[axis] for axis in order)


@translates("expand.default")
def _expand(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    missing = len(node.shape) - len(x.shape)
    tensor = ops.reshape(ctx.g, x.tensor, (1,) * missing + x.tensor.shape)
    return Value(tensor, node.shape, (*range(missing), *(a + missing for a in x.order)))


@translates("full.default", "full_like.default", "scalar_tensor.default")
@translates("zeros.default", "zeros_like.default", "ones.default", "ones_like.default", "new_zeros.default")
def _constant(ctx: Lowering, node: Node) -> Value:
    name = node.op.split(".")[1]
    number = (
        0.0 if "zeros" in name else 1.0 if "ones" in name else float(node.args[0 if name == "scalar_tensor" else 1])
    )
    rank = len(node.shape)
    return Value(ctx.g.constant(np.full((1,) * rank, number, np.float32)), node.shape, natural(rank))


@translates("arange.default", "arange.start", "arange.start_step")
def _arange(ctx: Lowering, node: Node) -> Value:
    if any(isinstance(a, Rows) for a in node.args):
        raise refuse(node, "a range as long as the batch is not possible: its size is not known")
    kind = np.float32 if node.dtypes[0] is None or node.dtypes[0].is_floating_point else np.int32
    return plain(ctx.g.constant(np.arange(*node.args, dtype=kind)))


@translates("cat.default")
def _cat(ctx: Lowering, node: Node) -> Value:
    parts = [ctx.get(p) for p in node.args[0]]
    axis = (node.args[1] if len(node.args) > 1 else 0) % len(node.shape)
    order = parts[0].order
    joined = ops.concatenate(ctx.g, [arrange(ctx.g, p, order) for p in parts], order.index(axis))
    return Value(joined, node.shape, order)


@translates("slice.Tensor")
def _slice(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    defaults: tuple[Any, ...] = (0, None, None, 1)
    axis, begin, end, step = (*node.args[1:], *defaults[len(node.args) - 1 :])
    axis %= len(x.shape)
    size = x.shape[axis]
    if node.shape == x.shape:
        return x
    if size < 0:
        raise refuse(node, "a slice over the batch is not possible: its size is not known")
    low, high, _ = slice(begin, None if end is None else min(end, size)).indices(size)
    order = x.order
    return Value(_cut(ctx.g, x, order.index(axis), (low, high, step or 1)), node.shape, order)


def _cut(g: GraphWriter, x: Value, place: int, taken: tuple[int, int, int]) -> Tensor:
    return ops.slices(g, arrange(g, x, x.order), place, taken)


@translates("slice_backward.default")
def _slice_backward(ctx: Lowering, node: Node) -> Value:
    """Zeros where nothing was taken, the gradient elsewhere."""
    x, axis, begin, end, step = ctx.get(node.args[0]), *node.args[2:6]
    axis %= len(node.shape)
    size = node.shape[axis]
    if x.shape == node.shape:
        return x
    if size < 0:
        raise refuse(node, "a slice over the batch is not possible: its size is not known")
    low, high, _ = slice(begin, min(end, size)).indices(size)
    place = x.order.index(axis)
    tensor = _opened(ctx.g, arrange(ctx.g, x, x.order), place, step)
    tensor = ops.slices(ctx.g, tensor, place, (0, min(tensor.shape[place], high - low), 1))
    return Value(_between(ctx.g, tensor, place, (low, size - low - tensor.shape[place])), node.shape, x.order)


def _opened(g: GraphWriter, tensor: Tensor, place: int, step: int) -> Tensor:
    """step - 1 zeros after each entry of one axis."""
    lead = rest = 1
    for size in tensor.shape[: place + 1]:
        lead *= size
    for size in tensor.shape[place + 1 :]:
        rest *= size
    wide = ops.pad(g, ops.reshape(g, tensor, (lead, 1, rest)), (0, 0, 0), (0, step - 1, 0))
    return ops.reshape(g, wide, (*tensor.shape[:place], tensor.shape[place] * step, *tensor.shape[place + 1 :]))


def _between(g: GraphWriter, tensor: Tensor, place: int, zeros: tuple[int, int]) -> Tensor:
    """Zeros before and after along one axis."""
    before, after = [0] * len(tensor.shape), [0] * len(tensor.shape)
    before[place], after[place] = zeros
    return ops.pad(g, tensor, before, after)


@translates("select_backward.default")
def _select_backward(ctx: Lowering, node: Node) -> Value:
    x, axis, index = ctx.get(node.args[0]), node.args[2] % len(node.shape), node.args[3]
    size = node.shape[axis]
    if size < 0:
        raise refuse(node, "one row of the batch cannot be taken: its size is not known")
    shape = [*node.shape[:axis], 1, *node.shape[axis + 1 :]]
    tensor = ops.reshape(ctx.g, arrange(ctx.g, x), shape)
    return plain(_between(ctx.g, tensor, axis, (index % size, size - index % size - 1)))


@translates("select.int")
def _select(ctx: Lowering, node: Node) -> Value:
    x, axis, index = ctx.get(node.args[0]), node.args[1], node.args[2]
    axis %= len(x.shape)
    if x.shape[axis] < 0:
        raise refuse(node, "one row of the batch cannot be taken: its size is not known")
    place, index = x.order.index(axis), index % x.shape[axis]
    tensor = _cut(ctx.g, x, place, (index, index + 1, 1))
    shape = [*tensor.shape[:place], *tensor.shape[place + 1 :]]
    return Value(ops.reshape(ctx.g, tensor, shape), node.shape, _renumbered([a for a in x.order if a != axis]))


@translates("split.Tensor", "split_with_sizes.default")
def _split(ctx: Lowering, node: Node) -> tuple[Value, ...]:
    x, axis = ctx.get(node.args[0]), (node.args[2] if len(node.args) > 2 else 0)
    shapes = [s for s in node.shapes if s is not None]
    axis %= len(x.shape)
    if x.shape[axis] < 0:
        raise refuse(node, "the batch cannot be split: its size is not known")
    parts = ops.split(ctx.g, arrange(ctx.g, x, x.order), x.order.index(axis), [s[axis] for s in shapes])
    return tuple(Value(p, s, x.order) for p, s in zip(parts, shapes, strict=True))


@translates("constant_pad_nd.default")
def _pad(ctx: Lowering, node: Node) -> Value:
    x, amounts = ctx.get(node.args[0]), node.args[1]
    if len(node.args) > 2 and node.args[2] != 0:
        raise refuse(node, f"got padding with {node.args[2]}, expected 0")
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for i in range(len(amounts) // 2):  # torch counts axes from the last
        before[-1 - i], after[-1 - i] = amounts[2 * i : 2 * i + 2]
    low, high = ([p[a] for a in x.order] for p in (before, after))
    tensor = arrange(ctx.g, x, x.order)
    begin = [max(0, -p) for p in low]
    end = [size - max(0, -p) for size, p in zip(tensor.shape, high, strict=True)]
    tensor = ops.strided_slice(ctx.g, tensor, begin, end, [1] * len(low))  # a negative amount cuts
    return Value(ops.pad(ctx.g, tensor, [max(0, p) for p in low], [max(0, p) for p in high]), node.shape, x.order)


def reduced(g: GraphWriter, name: str, x: Value, axes: Sequence[int], *, keep: bool) -> Value:
    """``sum``, ``mean`` or ``max`` of a value over torch's `axes`.

    The batch comes last: two short sums err less than one long one.
    """
    axes = [a % len(x.shape) for a in axes]
    if any(x.stored[a] != x.shape[a] for a in axes):
        x = Value(arrange(g, x, x.order), x.shape, x.order)
    places = [x.order.index(a) for a in axes]
    inner = [p for p in places if x.tensor.shape[p] > 0]
    outer = [p for p in places if x.tensor.shape[p] < 0]
    tensor = x.tensor
    if name == "sum" and inner and outer:  # by way of the mean, which a batch norm's gradient needs too
        count = float(np.prod([x.tensor.shape[p] for p in inner]))
        sums = ops.reduce(g, "sum", ops.reduce(g, "mean", tensor, inner, keep=True), outer, keep=True)
        tensor, inner, outer = ops.binary(g, "mul", sums, g.constant(count)), [], []
    left = [a for a in x.order if a not in axes]
    if not keep and (inner or outer):
        if inner and outer:
            tensor = ops.reduce(g, name, tensor, inner, keep=True)
        tensor = ops.reduce(g, name, tensor, places, keep=False)
        return Value(tensor, tuple(size for a, size in enumerate(x.shape) if a not in axes), _renumbered(left))
    for group in (inner, outer):
        if group:
            tensor = ops.reduce(g, name, tensor, group, keep=True)
    shape = tuple(1 if a in axes else size for a, size in enumerate(x.shape))
    if keep:
        return Value(tensor, shape, x.order)
    tensor = ops.reshape(g, tensor, [tensor.shape[x.order.index(a)] for a in left])
    return Value(tensor, tuple(size for a, size in enumerate(x.shape) if a not in axes), _renumbered(left))


@translates("sum.dim_IntList", "mean.dim", "amax.default", "sum.default", "mean.default")
def _reduce(ctx: Lowering, node: Node) -> Value:
    x = number(ctx.g, ctx.get(node.args[0]))
    axes = (node.args[1] if len(node.args) > 1 else None) or range(len(x.shape))
    name = {"sum": "sum", "mean": "mean", "amax": "max"}[node.op.split(".")[1]]
    axes = [axes] if isinstance(axes, int) else list(axes)
    return reduced(ctx.g, name, x, axes, keep=len(node.args) > 2 and bool(node.args[2]))


@translates("var_mean.correction")
def _var_mean(ctx: Lowering, node: Node) -> tuple[Value, Value]:
    x, axes, keep = ctx.get(node.args[0]), node.args[1], bool(node.kwargs.get("keepdim"))
    if node.kwargs.get("correction", 1) != 0:
        raise refuse(node, f"got correction {node.kwargs.get('correction', 1)}, expected 0, as in normalisation layers")
    mean = reduced(ctx.g, "mean", x, axes, keep=True)
    full = arrange(ctx.g, x, x.order)
    squares = ops.binary(ctx.g, "squared_difference", full, mean.tensor)
    variance = reduced(ctx.g, "mean", Value(squares, x.shape, x.order), axes, keep=keep)
    return variance, mean if keep else reduced(ctx.g, "mean", x, axes, keep=False)
