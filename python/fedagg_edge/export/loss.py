"""dLoss/dlogits inside a training graph: eq. 2 and eq. 4 with everything that a step may choose as an input.

The same formulas as the C++ kernel's (`fedagg_edge.reference.distill_loss`), with weights that are already divided by
the number of rows. The losses themselves are the kernel's, from the logits that the graph gives out.
"""

from __future__ import annotations

from fedagg_edge.export import ops
from fedagg_edge.export.writer import GraphWriter, Tensor, schema

__all__ = ["write_upstream"]


def write_upstream(g: GraphWriter, logits_NC: Tensor) -> Tensor:
    """dLoss/dlogits (N, C); adds the inputs `targets` (N, 2 C + 2) and `settings` (2,), see `learners.targets`."""
    rows, classes = logits_NC.shape
    targets = g.input("targets", (rows, 2 * classes + 2))
    labels_NC, teacher_NC, ce_N, kl_N = ops.split(g, targets, 1, [classes, classes, 1, 1])
    student, reverse = ops.split(g, g.input("settings", (2,)), 0, [1, 1])
    surplus = ops.binary(g, "sub", _softmax(g, logits_NC), labels_NC)
    divergence = _divergence(g, ops.binary(g, "mul", logits_NC, student), teacher_NC, reverse)
    return ops.binary(g, "add", ops.binary(g, "mul", surplus, ce_N), ops.binary(g, "mul", divergence, kl_N))


def _divergence(g: GraphWriter, student_NC: Tensor, teacher_NC: Tensor, reverse: Tensor) -> Tensor:
    """s - t, or s (log s - log t - KL(s || t)) where `reverse` is 1.

    In the latter what is the same in a whole row cancels, so logits stand for log s and log t.
    """
    s, t = _softmax(g, student_NC), _softmax(g, teacher_NC)
    ahead = ops.binary(g, "sub", s, t)
    ratio = ops.binary(g, "sub", student_NC, teacher_NC)
    mean = ops.reduce(g, "sum", ops.binary(g, "mul", s, ratio), [1], keep=True)
    back = ops.binary(g, "mul", s, ops.binary(g, "sub", ratio, mean))
    return ops.binary(g, "add", ahead, ops.binary(g, "mul", ops.binary(g, "sub", back, ahead), reverse))


def _softmax(g: GraphWriter, x: Tensor) -> Tensor:
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return g.op(schema.BuiltinOperator.SOFTMAX, [x], x.shape, options)
