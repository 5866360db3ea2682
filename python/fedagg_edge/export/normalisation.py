"""Translations of batch norm: with the batch's statistics, or with the running ones.

Layer norm and group norm need none: torch writes them in simpler operators.
"""

from __future__ import annotations

import numpy as np

from fedagg_edge.export import ops
from fedagg_edge.export.lower import Lowering, translates
from fedagg_edge.export.shapes import reduced
from fedagg_edge.export.trace import Node
from fedagg_edge.export.values import Value, align, arrange, plain
from fedagg_edge.export.writer import GraphWriter, Tensor

__all__: list[str] = []


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
    """out = (x - mean) * scale + bias, and, in training, the batch's mean and inverse deviation."""
    source, weight, bias, running_mean, running_var, training, _, epsilon = node.args
    g, x = ctx.g, ctx.get(source)
    if training:
        mean, variance = _moments(g, x)
    else:
        mean, variance = ctx.get(running_mean).tensor, ctx.get(running_var).tensor
    inverse = _inverse_deviation(g, variance, epsilon)
    scale = _scale(ctx, weight, inverse)
    shift = ops.unary(g, "neg", _mul(g, mean, scale))
    if bias is not None:
        shift = ops.binary(g, "sub", ctx.get(bias).tensor, _mul(g, mean, scale))
    full = arrange(g, x, x.order)
    out = _mul(g, full, _per_channel(g, plain(scale), x))
    out = _add(g, out, _per_channel(g, plain(shift), x))
    return Value(out, x.shape, x.order), plain(mean), plain(inverse)


def _moments(g: GraphWriter, x: Value) -> tuple[Tensor, Tensor]:
    """Mean and variance (as the mean of squares) of each channel over the batch and all places."""
    mean = reduced(g, "mean", x, _axes(x), keep=False)
    centred = _per_channel(g, mean, x)
    squares = ops.binary(g, "squared_difference", arrange(g, x, x.order), centred)
    variance = reduced(g, "mean", Value(squares, x.shape, x.order), _axes(x), keep=False)
    return mean.tensor, variance.tensor


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
    centred = ops.binary(g, "sub", arrange(g, x, x.order), _per_channel(g, plain(mean), x))
    products = Value(_mul(g, dy.tensor, centred), x.shape, x.order)
    scale = _scale(ctx, weight, inverse)
    out = _mul(g, dy.tensor, _per_channel(g, plain(scale), x))
    if training:
        out = _add(g, out, _statistics_gradient(g, x, dy, products, (centred, scale, inverse)))
    dweight = _mul(g, reduced(g, "sum", products, _axes(x), keep=False).tensor, inverse)
    dbias = reduced(g, "sum", dy, _axes(x), keep=False)
    return Value(out, x.shape, x.order), plain(dweight), dbias


def _statistics_gradient(
    g: GraphWriter, x: Value, dy: Value, products: Value, known: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """What dLoss/dx owes to the statistics: -scale * (mean dy + centred * inverse^2 * mean products)."""
    centred, scale, inverse = known
    mean_dy = reduced(g, "mean", dy, _axes(x), keep=False).tensor
    mean_products = reduced(g, "mean", products, _axes(x), keep=False).tensor
    owed = ops.unary(g, "neg", scale)
    slope = _mul(g, owed, _mul(g, _mul(g, inverse, inverse), mean_products))
    spread = _mul(g, centred, _per_channel(g, plain(slope), x))
    return _add(g, spread, _per_channel(g, plain(_mul(g, owed, mean_dy)), x))


@translates("running_mean")
def _running_mean(ctx: Lowering, node: Node) -> Value:
    norm, before = node.args
    return _moved(ctx, before, _statistic(ctx, norm, 0), norm.args[6])


@translates("running_var")
def _running_var(ctx: Lowering, node: Node) -> Value:
    """The running variance follows the unbiased one: of n values, n / (n - 1) times the mean of squares."""
    norm, before = node.args
    g, x = ctx.g, ctx.get(norm.args[0])
    places = float(np.prod([size for size in (x.shape[a] for a in _axes(x)) if size > 0]))
    count = _mul(g, ctx.rows(), g.constant(places))
    unbiased = ops.binary(g, "div", count, ops.binary(g, "sub", count, g.constant(1.0)))
    return _moved(ctx, before, _mul(g, _statistic(ctx, norm, 1), unbiased), norm.args[6])


def _statistic(ctx: Lowering, norm: Node, which: int) -> Tensor:
    """The batch's mean (0) or variance (1); the same operators as in the forward pass, so written once."""
    return _moments(ctx.g, ctx.get(norm.args[0]))[which]


def _moved(ctx: Lowering, before: Node, now: Tensor, momentum: float) -> Value:
    """before + momentum * (now - before)."""
    old = ctx.get(before).tensor
    step = _mul(ctx.g, ops.binary(ctx.g, "sub", now, old), ctx.g.constant(float(momentum)))
    return plain(_add(ctx.g, old, step))
