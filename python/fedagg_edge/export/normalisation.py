"""Translations of batch norm: with the batch's statistics, or with the running ones.

Layer norm and group norm need none: torch writes them in simpler operators.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedagg_edge.export import ops
from fedagg_edge.export.lower import Lowering, canonical, translates
from fedagg_edge.export.shapes import reduced
from fedagg_edge.export.trace import Node
from fedagg_edge.export.values import Value, align, arrange, plain
from fedagg_edge.export.writer import GraphWriter, Tensor

__all__ = ["moved_together"]


def _per_channel(g: GraphWriter, vector: Value, like: Value) -> Tensor:
    """A vector of channels to broadcast with a value (N, C, ...)."""
    rank = len(like.shape)
    shape = (1, vector.shape[0], *(1,) * (rank - 2))
    return align(g, plain(ops.reshape(g, vector.tensor, shape)), like.order)


def _axes(x: Value) -> list[int]:
    return [a for a in range(len(x.shape)) if a != 1]


def _mul(g: GraphWriter, a: Tensor, b: Tensor) -> Tensor:
    return ops.binary(g, "mul", a, b)


def _add(g: GraphWriter, a: Tensor, b: Tensor) -> Tensor:
    return ops.binary(g, "add", a, b)


def _inverse_deviation(g: GraphWriter, variance: Tensor, epsilon: float) -> Tensor:
    return ops.unary(g, "rsqrt", _add(g, variance, g.constant(float(epsilon))))


def _scale(ctx: Lowering, weight: Node | None, inverse: Tensor) -> Tensor:
    return inverse if weight is None else _mul(ctx.g, ctx.get(weight).tensor, inverse)


@translates("native_batch_norm.default")
def _batch_norm(ctx: Lowering, node: Node) -> tuple[Value, Value, Value]:
    """out = (x - mean) * scale + bias, mean and inverse deviation."""
    source, weight, bias, running_mean, running_var, training, _, epsilon = node.args
    g, x = ctx.g, ctx.get(source)
    if training:
        mean, variance = _moments(g, x)
        inverse = _inverse_deviation(g, variance, epsilon)
        out = _mul(g, _centred(g, x, mean), _per_channel(g, plain(_scale(ctx, weight, inverse)), x))
        shift = None if bias is None else ctx.get(bias).tensor
    else:  # as few passes over the image as there can be
        mean = ctx.get(running_mean).tensor
        inverse = _inverse_deviation(g, ctx.get(running_var).tensor, epsilon)
        scale = _scale(ctx, weight, inverse)
        out = _mul(g, arrange(g, x, x.order), _per_channel(g, plain(scale), x))
        moved = _mul(g, mean, scale)
        shift = ops.unary(g, "neg", moved) if bias is None else ops.binary(g, "sub", ctx.get(bias).tensor, moved)
    if shift is not None:
        out = _add(g, out, _per_channel(g, plain(shift), x))
    return Value(out, x.shape, x.order), plain(mean), plain(inverse)


def _centred(g: GraphWriter, x: Value, mean: Tensor) -> Tensor:
    """x - mean; the forward and the backward pass share it."""
    return ops.binary(g, "sub", arrange(g, x, x.order), _per_channel(g, plain(mean), x))


def _moments(g: GraphWriter, x: Value) -> tuple[Tensor, Tensor]:
    """Mean and variance (as the mean of squares) of each channel over the batch and all places."""
    mean = reduced(g, "mean", x, _axes(x), keep=False).tensor
    centred = _centred(g, x, mean)
    squares = Value(_mul(g, centred, centred), x.shape, x.order)
    return mean, reduced(g, "mean", squares, _axes(x), keep=False).tensor


@translates("native_batch_norm_backward.default")
def _batch_norm_backward(ctx: Lowering, node: Node) -> tuple[Value | None, Value | None, Value | None]:
    gradient, source, weight, running_mean, running_var, saved_mean, saved_inverse, training, epsilon, _ = node.args
    g, dy = ctx.g, ctx.get(gradient)
    x = ctx.get(source)
    dy = Value(arrange(g, dy, x.order), x.shape, x.order)
    if training:
        mean, inverse = ctx.get(saved_mean).tensor, ctx.get(saved_inverse).tensor
    else:
        mean = ctx.get(running_mean).tensor
        inverse = _inverse_deviation(g, ctx.get(running_var).tensor, epsilon)
    centred = _centred(g, x, mean)
    products = Value(_mul(g, dy.tensor, centred), x.shape, x.order)
    scale = _scale(ctx, weight, inverse)
    mean_dy, mean_products = (reduced(g, "mean", v, _axes(x), keep=False).tensor for v in (dy, products))
    count = _count(ctx, x)
    mean_products = _mul(g, mean_products, inverse)
    out = dy.tensor
    if training:  # what dLoss/dx owes to the statistics
        slope = _per_channel(g, plain(_mul(g, mean_products, inverse)), x)
        out = ops.binary(g, "sub", out, _mul(g, centred, slope))
        out = ops.binary(g, "sub", out, _per_channel(g, plain(mean_dy), x))
    dweight, dbias = _mul(g, mean_products, count), _mul(g, mean_dy, count)
    out = _mul(g, out, _per_channel(g, plain(scale), x))
    return Value(out, x.shape, x.order), plain(dweight), plain(dbias)


def _count(ctx: Lowering, x: Value) -> Tensor:
    """How many values of a channel there are."""
    places = float(np.prod([size for size in (x.shape[a] for a in _axes(x)) if size > 0]))
    return _mul(ctx.g, ctx.rows(), ctx.g.constant(places))


@translates("running_mean")
def _running_mean(ctx: Lowering, node: Node) -> Value:
    return _moved(ctx, node)


@translates("running_var")
def _running_var(ctx: Lowering, node: Node) -> Value:
    return _moved(ctx, node)


def _moved(ctx: Lowering, node: Node) -> Value:
    """before + momentum * (now - before)."""
    norm, before = node.args
    return plain(_towards(ctx.g, ctx.get(before).tensor, _now(ctx, node), float(norm.args[6])))


def _towards(g: GraphWriter, before: Tensor, now: Tensor, momentum: float) -> Tensor:
    return _add(g, before, _mul(g, ops.binary(g, "sub", now, before), g.constant(momentum)))


def _now(ctx: Lowering, node: Node) -> Tensor:
    """What a running figure moves to: the batch's mean, or its variance, of n values n / (n - 1) times the mean of
    squares. The same operators as in the forward pass, so written once."""
    g, x = ctx.g, ctx.get(node.args[0].args[0])
    mean, variance = _moments(g, x)
    if node.op == "running_mean":
        return mean
    count = _count(ctx, x)
    return _mul(g, variance, ops.binary(g, "div", count, ops.binary(g, "sub", count, g.constant(1.0))))


def moved_together(ctx: Lowering, nodes: Sequence[Node], before: Tensor) -> Tensor | None:
    """All of `nodes` in one vector, as `before` has their old values; None where they are not all running figures
    that move once, by one momentum."""
    own = [canonical(n)[0] for n in nodes]
    if not all(n.op in ("running_mean", "running_var") and canonical(n.args[1])[0].op == "placeholder" for n in own):
        return None
    if len({n.args[0].args[6] for n in own}) != 1:
        return None
    now = ops.concatenate(ctx.g, [_now(ctx, n) for n in own], 0)
    return _towards(ctx.g, before, now, float(own[0].args[0].args[6]))
