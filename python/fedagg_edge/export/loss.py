"""dLoss/dlogits inside a training graph: eq. 2 and eq. 4 with everything that a step may choose as an input.

The same formulas as the C++ kernel's (`fedagg_edge.reference.distill_loss`), with weights that are already divided by
the number of rows. The losses themselves are the kernel's, from the logits that the graph gives out.
"""

from __future__ import annotations

from fedagg_edge.export import ops
from fedagg_edge.export.writer import GraphWriter, Tensor, schema

__all__ = ["write_upstream"]


def write_upstream(g: GraphWriter, logits_NC: Tensor) -> Tensor:
    """dLoss/dlogits (N, C); adds the inputs that it depends on.

    `labels` (N, C) one-hot, `teacher` (N, C) logits; `ce` (N, 1) and `kl` (N, 1) weigh the rows, 0 leaves a term out;
    `settings` (3,): 1 / the student's temperature, 1 / the teacher's, and 1 for KL(student || teacher) or 0 for
    KL(teacher || student). In `kl` belongs the 1 / temperature that the gradient of softmax(z / temperature) has.
    """
    shape = logits_NC.shape
    labels_NC, teacher_NC = g.input("labels", shape), g.input("teacher", shape)
    ce_N, kl_N = g.input("ce", (shape[0], 1)), g.input("kl", (shape[0], 1))
    student, teacher, reverse = ops.split(g, g.input("settings", (3,)), 0, [1, 1, 1])
    surplus = ops.binary(g, "sub", _softmax(g, logits_NC), labels_NC)
    divergence = _divergence(
        g,
        _log_softmax(g, ops.binary(g, "mul", logits_NC, student)),
        _log_softmax(g, ops.binary(g, "mul", teacher_NC, teacher)),
        reverse,
    )
    return ops.binary(g, "add", ops.binary(g, "mul", surplus, ce_N), ops.binary(g, "mul", divergence, kl_N))


def _divergence(g: GraphWriter, log_s: Tensor, log_t: Tensor, reverse: Tensor) -> Tensor:
    """s - t, or s (log s - log t - KL(s || t)) where `reverse` is 1."""
    s, t = ops.unary(g, "exp", log_s), ops.unary(g, "exp", log_t)
    ahead = ops.binary(g, "sub", s, t)
    ratio = ops.binary(g, "sub", log_s, log_t)
    kl = ops.reduce(g, "sum", ops.binary(g, "mul", s, ratio), [1], keep=True)
    back = ops.binary(g, "mul", s, ops.binary(g, "sub", ratio, kl))
    return ops.binary(g, "add", ahead, ops.binary(g, "mul", ops.binary(g, "sub", back, ahead), reverse))


def _softmax(g: GraphWriter, x: Tensor) -> Tensor:
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return g.op(schema.BuiltinOperator.SOFTMAX, [x], x.shape, options)


def _log_softmax(g: GraphWriter, x: Tensor) -> Tensor:
    return g.op(schema.BuiltinOperator.LOG_SOFTMAX, [x], x.shape, schema.LogSoftmaxOptionsT())
