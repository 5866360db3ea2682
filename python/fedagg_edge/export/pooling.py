"""Translations of pooling and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedagg_edge.errors import ExportError
from fedagg_edge.export import ops
from fedagg_edge.export.convolution import Geometry, as_image, depthwise_input_gradient, spread
from fedagg_edge.export.elementwise import result, together
from fedagg_edge.export.lower import Lowering, canonical, translates
from fedagg_edge.export.trace import Node
from fedagg_edge.export.values import CHANNELS_LAST, Value
from fedagg_edge.export.writer import GraphWriter, Tensor, schema

__all__: list[str] = []

_MAX_POOL_BACKWARD = "aten.max_pool2d_with_indices_backward.default"
_LOWEST = float(np.finfo(np.float32).min)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    values = (value, value) if isinstance(value, int) else tuple(value)
    return (values[0], values[-1])


def _window(args: Sequence[object]) -> Geometry:
    """torch's (kernel, stride, padding, dilation, ceil_mode, ...) with its defaults."""
    kernel, stride, padding, dilation, ceil = (*args, *((), 0, 1, False)[len(args) - 1 :])[:5]
    if ceil or _pair(dilation) != (1, 1):  # type: ignore[arg-type]
        raise ExportError(f"got ceil_mode {bool(ceil)} and dilation {dilation}, expected plain windows")
    size = _pair(kernel)  # type: ignore[arg-type]
    return Geometry(size, _pair(stride) if stride else size, _pair(padding), (1, 1), 1)  # type: ignore[arg-type]


def _image(tensor: Tensor, shape: tuple[int, ...]) -> Value:
    return Value(tensor, shape, CHANNELS_LAST[4])


def _lowest_around(g: GraphWriter, x: Tensor, padding: tuple[int, int]) -> Tensor:
    """Images with the lowest number around them, which no maximum is."""
    if padding == (0, 0):
        return x
    n, h, w, c = x.shape
    amounts = np.array([[0, 0], [padding[0]] * 2, [padding[1]] * 2, [0, 0]], np.int32)
    shape = (n, h + 2 * padding[0], w + 2 * padding[1], c)
    inputs = [x, g.constant(amounts), g.constant(_LOWEST)]
    return g.op(schema.BuiltinOperator.PADV2, inputs, shape, schema.PadV2OptionsT())


@translates("max_pool2d_with_indices.default")
def _max_pool(ctx: Lowering, node: Node) -> tuple[Value, None]:
    """The indices are left out: the gradient finds the maxima again."""
    window = _window(node.args[1:])
    shape = node.shapes[0] or ()
    x = _lowest_around(ctx.g, as_image(ctx.g, ctx.get(node.args[0])), window.padding)
    return _image(ops.max_pool(ctx.g, x, window.kernel, window.stride), shape), None


@translates("max_pool2d_with_indices_backward.default")
def _max_pool_backward(ctx: Lowering, node: Node) -> Value:
    return _max_pool_gradient(ctx, node, rectified=False)


@translates("threshold_backward.default")
def _threshold_backward(ctx: Lowering, node: Node) -> Value:
    """ReLU's gradient. Below a pooling it is taken on the pooled pixels, a quarter of them or fewer."""
    gradient, out, threshold = node.args
    if threshold != 0:
        raise ExportError(f"got threshold {threshold}, expected 0, which is ReLU's")
    source = canonical(gradient)[0]
    if source.op == _MAX_POOL_BACKWARD and canonical(source.args[1]) == canonical(out):
        return _max_pool_gradient(ctx, source, rectified=True)
    tensors, order = together(ctx, node, [ctx.get(gradient), ctx.get(out)])
    return result(node, ops.binary(ctx.g, "mul", tensors[0], ops.positive(ctx.g, tensors[1])), ctx.g, order)


def _max_pool_gradient(ctx: Lowering, node: Node, *, rectified: bool) -> Value:
    """dLoss/dx; if `rectified`, 0 where x is not positive, which a window's maximum shows as well as x itself."""
    g, window = ctx.g, _window(node.args[2:7])
    dy, x = as_image(g, ctx.get(node.args[0])), as_image(g, ctx.get(node.args[1]))
    padded, y = _lowest_around(g, x, window.padding), as_image(g, ctx.value((_pooling(node), 0)))
    if rectified:
        dy = ops.binary(g, "mul", dy, ops.positive(g, y))
    apart = window.kernel == window.stride
    found = _tiled(g, dy, padded, y, window) if apart else _overlapping(g, dy, padded, y, window)
    inside = [(p, p + size) for p, size in zip(window.padding, x.shape[1:3], strict=True)]
    begin, end = (0, inside[0][0], inside[1][0], 0), (x.shape[0], inside[0][1], inside[1][1], x.shape[3])
    return _image(ops.strided_slice(g, found, begin, end, (1, 1, 1, 1)), node.shape)


def _pooling(gradient: Node) -> Node:
    """The pooling that a gradient belongs to: the maker of its indices."""
    return canonical(gradient.args[7])[0]


def _shares(g: GraphWriter, parts: Sequence[Tensor], y: Tensor, dy: Tensor) -> list[Tensor]:
    """dy for the first of `parts` that is the maximum y, 0 for the others, as torch has it where several are."""
    shares = []
    for part in parts[:-1]:
        below = ops.positive(g, ops.binary(g, "sub", y, part))
        left = ops.binary(g, "mul", dy, below)
        shares.append(ops.binary(g, "sub", dy, left))
        dy = left
    return [*shares, dy]


def _tiled(g: GraphWriter, dy: Tensor, x: Tensor, y: Tensor, window: Geometry) -> Tensor:
    """Windows that lie side by side: each is a block of the image."""
    n, oh, ow, c = dy.shape
    kh, kw = window.kernel
    whole = ops.strided_slice(g, x, (0, 0, 0, 0), (n, oh * kh, ow * kw, c), (1, 1, 1, 1))
    blocks = ops.reshape(g, whole, (n * oh, kh, ow, kw * c))
    places = [(i, j) for i in range(kh) for j in range(kw)]
    parts = [
        ops.strided_slice(g, blocks, (0, i, 0, j * c), (n * oh, i + 1, ow, (j + 1) * c), (1, 1, 1, 1))
        for i, j in places
    ]
    flat = (n * oh, 1, ow, c)
    shares = _shares(g, parts, ops.reshape(g, y, flat), ops.reshape(g, dy, flat))
    lines = [ops.concatenate(g, shares[i * kw : (i + 1) * kw], 3) for i in range(kh)]
    out = ops.reshape(g, ops.concatenate(g, lines, 1), whole.shape)
    return ops.pad(g, out, (0, 0, 0, 0), (0, x.shape[1] - oh * kh, x.shape[2] - ow * kw, 0))


def _overlapping(g: GraphWriter, dy: Tensor, x: Tensor, y: Tensor, window: Geometry) -> Tensor:
    """Windows that share pixels: a pixel collects what each gives it."""
    n, oh, ow, c = dy.shape
    places = [(i, j) for i in range(window.kernel[0]) for j in range(window.kernel[1])]
    span = (oh - 1) * window.stride[0] + 1, (ow - 1) * window.stride[1] + 1
    parts = [
        ops.strided_slice(g, x, (0, i, j, 0), (n, i + span[0], j + span[1], c), (1, *window.stride, 1))
        for i, j in places
    ]
    total = None
    for (i, j), share in zip(places, _shares(g, parts, y, dy), strict=True):
        opened = spread(g, share, window.stride)
        opened = ops.strided_slice(g, opened, (0, 0, 0, 0), (n, *span, c), (1, 1, 1, 1))
        rest = (0, x.shape[1] - i - span[0], x.shape[2] - j - span[1], 0)
        opened = ops.pad(g, opened, (0, i, j, 0), rest)
        total = opened if total is None else ops.binary(g, "add", total, opened)
    if total is None:
        raise ExportError("got a window of no pixels")
    return total


def _average_window(args: Sequence[object]) -> Geometry:
    """As `_window`, of (kernel, stride, padding, ceil_mode, count_include_pad, divisor)."""
    defaults: tuple[Any, ...] = ((), 0, False, True, None)
    given: tuple[Any, ...] = (*args, *defaults[len(args) - 1 :])
    kernel, stride, padding, ceil, includes, divisor = given
    window = _window((kernel, stride, padding, 1, ceil))
    if divisor is not None or (window.padding != (0, 0) and not includes):
        raise ExportError("got an average that does not count padding, or another divisor, expected a plain one")
    return window


@translates("avg_pool2d.default")
def _average_pool(ctx: Lowering, node: Node) -> Value:
    window = _average_window(node.args[1:])
    (ph, pw), x = window.padding, as_image(ctx.g, ctx.get(node.args[0]))
    x = ops.pad(ctx.g, x, (0, ph, pw, 0), (0, ph, pw, 0))
    return _image(ops.average_pool(ctx.g, x, window.kernel, window.stride), node.shape)


@translates("avg_pool2d_backward.default")
def _average_pool_backward(ctx: Lowering, node: Node) -> Value:
    return _average_gradient(ctx, node, _average_window(node.args[2:]))


def _average_gradient(ctx: Lowering, node: Node, window: Geometry) -> Value:
    """An average is a channel-by-channel convolution with equal weights."""
    dy = as_image(ctx.g, ctx.get(node.args[0]))
    kh, kw = window.kernel
    weights = ctx.g.constant(np.full((1, kh, kw, dy.shape[3]), 1 / (kh * kw), np.float32))
    size = node.shape[2], node.shape[3]
    return _image(depthwise_input_gradient(ctx.g, dy, weights, size, window), node.shape)


def _even_window(size: Sequence[int], out: Sequence[int]) -> Geometry:
    if any(a % b for a, b in zip(size, out, strict=True)):
        raise ExportError(f"got images of {tuple(size)} averaged to {tuple(out)}, expected a divisor of each side")
    kernel = size[0] // out[0], size[1] // out[1]
    return Geometry(kernel, kernel, (0, 0), (1, 1), 1)


@translates("_adaptive_avg_pool2d.default")
def _adaptive_average_pool(ctx: Lowering, node: Node) -> Value:
    x = ctx.get(node.args[0])
    window = _even_window(x.shape[2:], node.shape[2:])
    return _image(ops.average_pool(ctx.g, as_image(ctx.g, x), window.kernel, window.stride), node.shape)


@translates("_adaptive_avg_pool2d_backward.default")
def _adaptive_average_pool_backward(ctx: Lowering, node: Node) -> Value:
    gradient = ctx.get(node.args[0])
    return _average_gradient(ctx, node, _even_window(node.shape[2:], gradient.shape[2:]))
