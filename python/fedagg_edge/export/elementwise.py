"""Translations of operators that work element by element."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from fedagg_edge.errors import ExportError
from fedagg_edge.export import ops
from fedagg_edge.export.lower import Lowering, translates
from fedagg_edge.export.trace import Node, refuse
from fedagg_edge.export.values import Value, align, elementwise_order
from fedagg_edge.export.writer import GraphWriter, Tensor, schema

__all__ = ["number", "result", "together"]

_TINY = 1e-20  # below every float whose erf differs from 2 / sqrt(pi) times it, above what squares to zero

_UNARY = {
    "abs.default": "abs",
    "exp.default": "exp",
    "log.default": "log",
    "neg.default": "neg",
    "rsqrt.default": "rsqrt",
    "sigmoid.default": "sigmoid",
    "sgn.default": "sign",
    "sign.default": "sign",
    "sqrt.default": "sqrt",
    "tanh.default": "tanh",
}
_BINARY = {
    "add.Tensor": "add",
    "add.Scalar": "add",
    "add_.Tensor": "add",
    "sub.Tensor": "sub",
    "sub.Scalar": "sub",
    "mul.Tensor": "mul",
    "mul.Scalar": "mul",
    "mul_.Tensor": "mul",
    "div.Tensor": "div",
    "div.Scalar": "div",
    "div_.Scalar": "div",
    "div_.Tensor": "div",
    "maximum.default": "maximum",
    "minimum.default": "minimum",
}
_COMPARE = {"eq": "equal", "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal"}
_POWERS = {2.0: ("square",), 0.5: ("sqrt",), -0.5: ("rsqrt",), 4.0: ("square", "square")}


def _like(value: Value, tensor: Tensor) -> Value:
    return Value(tensor, value.shape, value.order)


@translates(*_UNARY)
def _unary(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    return _like(x, ops.unary(ctx.g, _UNARY[node.op.removeprefix("aten.")], x.tensor))


@translates("relu.default", "relu_.default")
def _relu(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    return _like(x, ops.relu(ctx.g, x.tensor))


def together(ctx: Lowering, node: Node, values: Sequence[Value]) -> tuple[list[Tensor], tuple[int, ...]]:
    """The operands in one order of axes, ready to broadcast, and that order."""
    order = elementwise_order(values, len(node.shape))
    return [align(ctx.g, v, order) for v in values], order


def result(node: Node, tensor: Tensor, g: GraphWriter, order: tuple[int, ...]) -> Value:
    """The value of a node whose tensor lies in `order`, perhaps without leading axes of length 1."""
    if len(tensor.shape) < len(order):
        tensor = ops.reshape(g, tensor, (1,) * (len(order) - len(tensor.shape)) + tensor.shape)
    return Value(tensor, node.shape, order)


@translates(*_BINARY)
def _binary(ctx: Lowering, node: Node) -> Value:
    name = _BINARY[node.op.removeprefix("aten.")]
    alpha = node.kwargs.get("alpha", 1)
    a, b = ctx.operand(node.args[0]), ctx.operand(node.args[1])
    if alpha != 1:
        b = _like(b, ops.binary(ctx.g, "mul", b.tensor, ctx.operand(alpha).tensor))
    if name == "div" and isinstance(node.args[1], int | float):
        name, b = "mul", ctx.operand(1.0 / node.args[1])
    tensors, order = together(ctx, node, [number(ctx.g, a), number(ctx.g, b)])
    return result(node, ops.binary(ctx.g, name, *tensors), ctx.g, order)


def number(g: GraphWriter, value: Value) -> Value:
    """A truth value as 0 or 1."""
    return _like(value, ops.cast(g, value.tensor, np.float32)) if value.tensor.dtype == np.bool_ else value


@translates("reciprocal.default", "rsub.Scalar", "pow.Tensor_Scalar", "square.default")
def _with_number(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    if "reciprocal" in node.op:
        return _like(x, ops.binary(ctx.g, "div", ctx.operand(1.0).tensor, x.tensor))
    if "rsub" in node.op:
        return _like(x, ops.binary(ctx.g, "sub", ctx.operand(node.args[1]).tensor, x.tensor))
    exponent = 2.0 if "square" in node.op else float(node.args[1])
    return _like(x, _power(ctx.g, x.tensor, exponent))


def _power(g: GraphWriter, x: Tensor, exponent: float) -> Tensor:
    if exponent == 1:
        return x
    if exponent == 3:
        return ops.binary(g, "mul", ops.unary(g, "square", x), x)
    if exponent < 0 and exponent not in _POWERS:
        return ops.binary(g, "div", g.constant(1.0), _power(g, x, -exponent))
    if exponent not in _POWERS:
        raise ExportError(f"got exponent {exponent}, expected a whole number up to 4, or a half")
    for name in _POWERS[exponent]:
        x = ops.unary(g, name, x)
    return x


@translates("hardtanh.default", "clamp.default", "clamp_min.default", "clamp_max.default", "hardtanh_.default")
def _clamp(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    low, high = _limits(node)
    if (low, high) == (0, 6):
        return _like(x, ops.unary(ctx.g, "relu6", x.tensor))
    tensor = x.tensor
    if low is not None:
        tensor = ops.binary(ctx.g, "maximum", tensor, ctx.g.constant(float(low)))
    if high is not None:
        tensor = ops.binary(ctx.g, "minimum", tensor, ctx.g.constant(float(high)))
    return _like(x, tensor)


def _limits(node: Node) -> tuple[float | None, float | None]:
    given = (*node.args[1:], None, None)
    if "clamp_max" in node.op:
        return None, given[0]
    if "hardtanh" in node.op:
        given = (*node.args[1:], *(-1.0, 1.0)[len(node.args) - 1 :])
    low, high = node.kwargs.get("min", given[0]), node.kwargs.get("max", given[1])
    return low, high


@translates("gelu.default")
def _gelu(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    return _like(x, _gelu_of(ctx.g, x.tensor, approximate=node.kwargs.get("approximate") == "tanh"))


def _gelu_of(g: GraphWriter, x: Tensor, *, approximate: bool) -> Tensor:
    options = schema.GeluOptionsT()
    options.approximate = approximate
    return g.op(schema.BuiltinOperator.GELU, [x], x.shape, options)


@translates("erf.default")
def _erf(ctx: Lowering, node: Node) -> Value:
    """The runtime has no erf, but GELU: gelu(z) = z / 2 (1 + erf(z / sqrt 2)), solved for erf away from zero."""
    x, g = ctx.get(node.args[0]), ctx.g
    z = ops.binary(g, "mul", x.tensor, g.constant(math.sqrt(2.0)))
    z = ops.select(g, ops.compare(g, "equal", z, g.constant(0.0)), g.constant(_TINY), z)
    ratio = ops.binary(g, "div", _gelu_of(g, z, approximate=False), z)
    return _like(x, ops.binary(g, "sub", ops.binary(g, "mul", ratio, g.constant(2.0)), g.constant(1.0)))


@translates(*(f"{name}.{kind}" for name in _COMPARE for kind in ("Scalar", "Tensor")))
def _compare(ctx: Lowering, node: Node) -> Value:
    name = _COMPARE[node.op.split(".")[1]]
    tensors, order = together(ctx, node, [ctx.operand(a) for a in node.args[:2]])
    return result(node, ops.compare(ctx.g, name, *tensors), ctx.g, order)


@translates("logical_and.default", "logical_and_.default", "bitwise_and.Tensor", "__and__.Tensor")
@translates("logical_or.default", "logical_or_.default", "bitwise_or.Tensor", "__or__.Tensor")
def _logical(ctx: Lowering, node: Node) -> Value:
    tensors, order = together(ctx, node, [ctx.get(a) for a in node.args[:2]])
    both = "and" in node.op
    operator = schema.BuiltinOperator.LOGICAL_AND if both else schema.BuiltinOperator.LOGICAL_OR
    options = schema.LogicalAndOptionsT() if both else schema.LogicalOrOptionsT()
    shape = ops.broadcast_shapes(tensors[0].shape, tensors[1].shape)
    return result(node, ctx.g.op(operator, tensors, shape, options, dtype=np.bool_), ctx.g, order)


@translates("where.self", "where.ScalarOther", "where.ScalarSelf")
def _where(ctx: Lowering, node: Node) -> Value:
    condition, a, b = (ctx.operand(arg) for arg in node.args)
    tensors, order = together(ctx, node, [condition, a, b])
    return result(node, ops.select(ctx.g, *tensors), ctx.g, order)


@translates("masked_fill.Scalar", "masked_fill_.Scalar")
def _masked_fill(ctx: Lowering, node: Node) -> Value:
    x, mask, number = (ctx.operand(arg) for arg in node.args)
    tensors, order = together(ctx, node, [mask, number, x])
    return result(node, ops.select(ctx.g, *tensors), ctx.g, order)


@translates("_to_copy.default")
def _to_copy(ctx: Lowering, node: Node) -> Value:
    x, wanted = ctx.get(node.args[0]), node.dtypes[0]
    kinds = {torch.float32: np.float32, torch.int64: np.int32, torch.int32: np.int32, torch.bool: np.bool_}
    if wanted not in kinds:
        raise refuse(node, f"got {wanted}, expected float32, int64, int32 or bool")
    if x.tensor.dtype == kinds[wanted]:
        return x
    return _like(x, ops.cast(ctx.g, x.tensor, kinds[wanted]))
