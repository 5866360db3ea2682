"""What a training graph's loss needs to know of a batch: the objective's weights and targets, row by row. No torch.

The counterpart, for graphs with the loss inside, of `objective`, which has the kernel's dLoss/dlogits; the two say the
same, which the tests hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch

__all__ = ["Targets", "bridge_targets", "joined", "private_targets"]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Targets:
    """The inputs of a graph's loss, float32; see `fedagg_edge.export.loss.write_upstream`."""

    labels_NC: Array
    teacher_NC: Array
    ce_N1: Array
    kl_N1: Array
    settings: Array

    def inputs(self) -> dict[str, Array]:
        """By their names in the graph."""
        return {
            "labels": self.labels_NC,
            "teacher": self.teacher_NC,
            "ce": self.ce_N1,
            "kl": self.kl_N1,
            "settings": self.settings,
        }


def private_targets(batch: Batch, classes: int) -> Targets:
    """The first term of eq. 4: mean cross-entropy on the private samples."""
    y_N = batch.private_y_N
    count = 0 if y_N is None else len(y_N)
    return Targets(
        _one_hot(np.empty(0, np.int64) if y_N is None else y_N, classes),
        np.zeros((count, classes), np.float32),
        np.full((count, 1), 1 / max(count, 1), np.float32),
        np.zeros((count, 1), np.float32),
        np.array([1, 1, 0], np.float32),
    )


def bridge_targets(batch: Batch, hyperparameters: Hyperparameters, classes: int) -> Targets:
    """L_nl (eq. 2), weighted by gamma where the batch has private samples; rows as in `objective.bridge_loss`."""
    y_N, teacher_NC = batch.bridge_y_N, batch.teacher_NC
    share = (1.0 if batch.private_x_N is None else hyperparameters.gamma) / max(len(y_N), 1)
    student_temperature = hyperparameters.student_temperature
    ce_N1 = np.full((len(y_N), 1), share, np.float32)
    if y_N.min(initial=0) < 0:
        ce_N1[y_N < 0] = 0.0
    kl_N1 = np.zeros((len(y_N), 1), np.float32)
    if teacher_NC is not None and hyperparameters.beta > 0:
        kl_N1[:] = share * hyperparameters.kl_weight / student_temperature
        if batch.teacher_weight_N is not None:
            kl_N1 *= batch.teacher_weight_N[:, None]
    reverse = hyperparameters.kl == "student||teacher"
    return Targets(
        _one_hot(y_N, classes),
        np.zeros((len(y_N), classes), np.float32) if teacher_NC is None else teacher_NC,
        ce_N1,
        kl_N1,
        np.array([1 / student_temperature, 1 / hyperparameters.temperature, reverse], np.float32),
    )


def joined(private: Targets, bridge: Targets) -> Targets:
    """Both batches' rows as one batch."""
    return Targets(
        np.concatenate([private.labels_NC, bridge.labels_NC]),
        np.concatenate([private.teacher_NC, bridge.teacher_NC]),
        np.concatenate([private.ce_N1, bridge.ce_N1]),
        np.concatenate([private.kl_N1, bridge.kl_N1]),
        bridge.settings,
    )


def _one_hot(y_N: NDArray[np.int64], classes: int) -> Array:
    """Ones at the labels; a row whose label was held back (below 0) is all zero."""
    out = np.zeros((len(y_N), classes), np.float32)
    rows = np.arange(len(y_N))
    if y_N.min(initial=0) < 0:
        rows = rows[y_N >= 0]
    out[rows, y_N[rows]] = 1.0
    return out
