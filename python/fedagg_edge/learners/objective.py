"""The objective of a step, from logits to gradients: eq. 2 and eq. 4 through the C++ kernel, for every engine.

An engine computes logits, asks here for dLoss/dlogits, and runs its own backward pass from them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import kernels
from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch, StepReport
from fedagg_edge.learners.decoupled import decoupled_loss

__all__ = ["bridge_loss", "private_loss", "report"]


def bridge_loss(student_NC: NDArray[np.float32], batch: Batch, hyperparameters: Hyperparameters) -> kernels.DistillLoss:
    """L_nl (eq. 2), weighted by gamma where the batch has private samples (the last term of eq. 4).

    `student_NC` are the student's logits on ``batch.bridge_x_N``. The gradient is that of the weighted term.
    """
    weight = 1.0 if batch.private_x_N is None else hyperparameters.gamma
    distils = batch.teacher_NC is not None and hyperparameters.beta > 0
    if distils and hyperparameters.distillation == "decoupled":
        return _decoupled_bridge_loss(student_NC, batch, hyperparameters, weight)
    if batch.teacher_weight_N is not None or batch.bridge_y_N.min(initial=0) < 0:
        return _uneven_bridge_loss(student_NC, batch, hyperparameters, weight=weight, distils=distils)
    return kernels.distill_loss(
        student_NC,
        batch.teacher_NC if distils else None,
        batch.bridge_y_N,
        ce_weight=weight,
        kl_weight=weight * hyperparameters.kl_weight if distils else 0.0,
        temperature=hyperparameters.student_temperature,
        teacher_temperature=hyperparameters.temperature,
        direction=hyperparameters.kl,
    )


def _uneven_bridge_loss(
    student_NC: NDArray[np.float32], batch: Batch, hyperparameters: Hyperparameters, *, weight: float, distils: bool
) -> kernels.DistillLoss:
    """L_nl where rows differ: old knowledge counts less, a label that was held back gives no cross-entropy.

    The terms are sums over their rows divided by all rows of the batch, so a batch of old knowledge alone is a small
    step, not a full one: the kernel's weighted mean is scaled back by the mean weight.
    """
    ce = _cross_entropy(student_NC, batch, weight)
    if not distils:
        return ce
    weight_N = batch.teacher_weight_N
    trust = 1.0 if weight_N is None else float(weight_N.mean(dtype=np.float64))
    kl = kernels.distill_loss(
        student_NC,
        batch.teacher_NC,
        None,
        ce_weight=0.0,
        kl_weight=weight * hyperparameters.kl_weight * trust,
        temperature=hyperparameters.student_temperature,
        teacher_temperature=hyperparameters.temperature,
        direction=hyperparameters.kl,
        row_weights_N=weight_N,
    )
    gradient_NC = np.add(ce.gradient_NC, kl.gradient_NC, out=ce.gradient_NC)
    return kernels.DistillLoss((ce.loss + kl.loss, ce.ce, kl.kl * trust, gradient_NC))


def _cross_entropy(student_NC: NDArray[np.float32], batch: Batch, weight: float) -> kernels.DistillLoss:
    """The cross-entropy of rows whose label is known, as a sum divided by all rows."""
    labelled_N = batch.bridge_y_N >= 0
    share = float(labelled_N.mean())
    ce = kernels.distill_loss(
        student_NC,
        None,
        np.where(labelled_N, batch.bridge_y_N, 0),
        ce_weight=weight * share,
        kl_weight=0.0,
        mask_N=labelled_N,
    )
    return kernels.DistillLoss((ce.loss, ce.ce * share, 0.0, ce.gradient_NC))


def _decoupled_bridge_loss(
    student_NC: NDArray[np.float32], batch: Batch, hyperparameters: Hyperparameters, weight: float
) -> kernels.DistillLoss:
    """L_nl with decoupled distillation in the KL term's place; rows differ as in `_uneven_bridge_loss`."""
    ce = _cross_entropy(student_NC, batch, weight)
    assert batch.teacher_NC is not None
    term_N, gradient_NC = decoupled_loss(
        student_NC / hyperparameters.student_temperature,
        batch.teacher_NC / hyperparameters.temperature,
        batch.bridge_y_N,
        target_weight=hyperparameters.target_weight,
        non_target_weight=hyperparameters.non_target_weight,
    )
    if batch.teacher_weight_N is not None:
        term_N *= batch.teacher_weight_N
        gradient_NC *= batch.teacher_weight_N[:, None]
    kl_weight = weight * hyperparameters.kl_weight
    gradient_NC *= kl_weight / (hyperparameters.student_temperature * len(term_N))
    term = float(term_N.mean())
    total_NC = (ce.gradient_NC + gradient_NC).astype(np.float32)
    return kernels.DistillLoss((ce.loss + kl_weight * term, ce.ce, term, total_NC))


def private_loss(student_NC: NDArray[np.float32], batch: Batch) -> kernels.DistillLoss:
    """The first term of eq. 4: mean cross-entropy on the private samples."""
    return kernels.distill_loss(student_NC, None, batch.private_y_N, ce_weight=1.0, kl_weight=0.0)


def report(private: kernels.DistillLoss | None, bridge: kernels.DistillLoss | None) -> StepReport:
    """The step's losses from its parts."""
    return StepReport(
        loss=(private.loss if private else 0.0) + (bridge.loss if bridge else 0.0),
        private_ce=private.ce if private else 0.0,
        bridge_ce=bridge.ce if bridge else 0.0,
        kl=bridge.kl if bridge else 0.0,
    )
