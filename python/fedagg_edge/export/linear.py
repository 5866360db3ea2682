"""Translations of matrix products and table lookup."""

from __future__ import annotations

import numpy as np

from fedagg_edge.export import ops
from fedagg_edge.export.lower import Lowering, translates
from fedagg_edge.export.trace import Node, refuse
from fedagg_edge.export.values import Value, arrange, natural, plain
from fedagg_edge.export.writer import GraphWriter, Tensor

__all__: list[str] = []


def _operand(g: GraphWriter, x: Value) -> tuple[Tensor, bool]:
    """A matrix in memory, and whether it lies there transposed."""
    rank = len(x.shape)
    swapped = (*natural(rank)[:-2], rank - 1, rank - 2)
    transposed = x.order == swapped
    return arrange(g, x, swapped if transposed else natural(rank)), transposed


@translates("mm.default", "bmm.default")
def _mm(ctx: Lowering, node: Node) -> Value:
    a, adjoint_a = _operand(ctx.g, ctx.get(node.args[0]))
    b, adjoint_b = _operand(ctx.g, ctx.get(node.args[1]))
    return plain(ops.matmul(ctx.g, a, b, adjoint_a=adjoint_a, adjoint_b=adjoint_b))


@translates("addmm.default")
def _addmm(ctx: Lowering, node: Node) -> Value:
    """A linear layer; torch's weight lies as the runtime's fully connected operator wants it."""
    bias, x = ctx.get(node.args[0]), arrange(ctx.g, ctx.get(node.args[1]))
    w, transposed = _operand(ctx.g, ctx.get(node.args[2]))
    if node.kwargs.get("alpha", 1) != 1 or node.kwargs.get("beta", 1) != 1:
        raise refuse(node, "got a scaled sum, expected a plain one")
    if transposed and bias.shape == (w.shape[0],):
        return plain(ops.fully_connected(ctx.g, x, w, bias.tensor))
    product = ops.matmul(ctx.g, x, w, adjoint_b=transposed)
    return plain(ops.binary(ctx.g, "add", product, arrange(ctx.g, bias, full=False)))


@translates("embedding.default")
def _embedding(ctx: Lowering, node: Node) -> Value:
    table, rows = ctx.get(node.args[0]), ctx.get(node.args[1])
    return plain(ops.gather(ctx.g, arrange(ctx.g, table), arrange(ctx.g, rows)))


@translates("embedding_dense_backward.default")
def _embedding_backward(ctx: Lowering, node: Node) -> Value:
    """Row v of the table collects the gradients of the places that looked it up: a product with a one-hot matrix."""
    gradient, rows = arrange(ctx.g, ctx.get(node.args[0])), arrange(ctx.g, ctx.get(node.args[1]))
    count, padding, scaled = node.args[2:5]
    if scaled:
        raise refuse(node, "got scale_grad_by_freq, which has no translation")
    places = -1
    for size in rows.shape:
        places *= abs(size)
    column = ops.reshape(ctx.g, rows, (places, 1))
    known = np.arange(count, dtype=np.int32)
    if 0 <= padding < count:
        known[padding] = -1  # never equal: the padding row learns nothing
    hits = ops.cast(ctx.g, ops.compare(ctx.g, "equal", column, ctx.g.constant(known)), np.float32)
    flat = ops.reshape(ctx.g, gradient, (places, gradient.shape[-1]))
    return plain(ops.matmul(ctx.g, hits, flat, adjoint_a=True))
