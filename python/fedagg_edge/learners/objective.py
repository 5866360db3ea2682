"""The objective of a step, from logits to gradients: eq. 2 and eq. 4 through the C++ kernel, for every engine.

An engine computes logits, asks here for dLoss/dlogits, and runs its own backward pass from them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import kernels
from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch, StepReport

__all__ = ["bridge_loss", "private_loss", "report"]


def bridge_loss(student_NC: NDArray[np.float32], batch: Batch, hyperparameters: Hyperparameters) -> kernels.DistillLoss:
    """L_nl (eq. 2), weighted by gamma where the batch has private samples (the last term of eq. 4).

    `student_NC` are the student's logits on ``batch.bridge_x_N``. The gradient is that of the weighted term.
    """
    weight = 1.0 if batch.private_x_N is None else hyperparameters.gamma
    distils = batch.teacher_NC is not None and hyperparameters.beta > 0
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
