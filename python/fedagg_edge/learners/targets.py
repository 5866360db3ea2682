"""What a training graph's loss needs to know of a batch: the objective's weights and targets, row by row. No torch.

The counterpart, for graphs with the loss inside, of `objective`, which has the kernel's dLoss/dlogits; the two say the
same, which the tests hold.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch

__all__ = ["Targets", "bridge_targets", "joint_targets", "private_targets"]

Array = NDArray[np.float32]


class Targets(NamedTuple):
    """The inputs of a graph's loss, float32.

    A row of `rows_NT`, T = 2 C + 2: the label one-hot (all 0 where it was held back), the teacher's logits divided by
    its temperature, the weight of the cross-entropy, and of the divergence, with the 1 / temperature that its gradient
    has. `settings`: 1 / the student's temperature, and 1 for KL(student || teacher) or 0 for KL(teacher || student).
    """

    rows_NT: Array
    settings: Array


_PLAIN = np.array([1, 0], np.float32)


def private_targets(batch: Batch, classes: int) -> Targets:
    """The first term of eq. 4: mean cross-entropy on the private samples."""
    rows_NT = _zeros(0 if batch.private_y_N is None else len(batch.private_y_N), classes)
    _fill_private(rows_NT, batch)
    return Targets(rows_NT, _PLAIN)


def bridge_targets(batch: Batch, hyperparameters: Hyperparameters, classes: int) -> Targets:
    """L_nl (eq. 2), weighted by gamma where the batch has private samples; rows as in `objective.bridge_loss`."""
    rows_NT = _zeros(len(batch.bridge_y_N), classes)
    return Targets(rows_NT, _fill_bridge(rows_NT, batch, hyperparameters))


def joint_targets(batch: Batch, hyperparameters: Hyperparameters, classes: int) -> Targets:
    """Both: the private rows, then the bridge rows."""
    count = 0 if batch.private_y_N is None else len(batch.private_y_N)
    rows_NT = _zeros(count + len(batch.bridge_y_N), classes)
    _fill_private(rows_NT[:count], batch)
    return Targets(rows_NT, _fill_bridge(rows_NT[count:], batch, hyperparameters))


def _zeros(rows: int, classes: int) -> Array:
    return np.zeros((rows, 2 * classes + 2), np.float32)


def _fill_private(rows_NT: Array, batch: Batch) -> None:
    if batch.private_y_N is not None and len(rows_NT):
        rows_NT[np.arange(len(rows_NT)), batch.private_y_N] = 1.0
        rows_NT[:, -2] = 1 / len(rows_NT)


def _fill_bridge(rows_NT: Array, batch: Batch, hyperparameters: Hyperparameters) -> Array:
    """Fill the rows; return the settings."""
    y_N, count = batch.bridge_y_N, max(len(rows_NT), 1)
    share = (1.0 if batch.private_x_N is None else hyperparameters.gamma) / count
    rows_NT[np.arange(len(y_N)), y_N] = 1.0
    rows_NT[:, -2] = share
    if y_N.min(initial=0) < 0:
        rows_NT[y_N < 0] = 0.0  # a negative label has marked a wrong place
    student_temperature = hyperparameters.student_temperature
    if batch.teacher_NC is not None and hyperparameters.beta > 0:
        classes = batch.teacher_NC.shape[1]
        np.multiply(batch.teacher_NC, np.float32(1 / hyperparameters.temperature), out=rows_NT[:, classes:-2])
        rows_NT[:, -1] = share * hyperparameters.kl_weight / student_temperature
        if batch.teacher_weight_N is not None:
            rows_NT[:, -1] *= batch.teacher_weight_N
    return _settings(student_temperature, hyperparameters.kl == "student||teacher")


@lru_cache(maxsize=8)
def _settings(temperature: float, reverse: bool) -> Array:
    """The same array every time, which nobody writes to."""
    settings = np.array([1 / temperature, reverse], np.float32)
    settings.flags.writeable = False
    return settings
