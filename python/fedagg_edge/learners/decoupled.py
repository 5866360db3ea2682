"""Decoupled knowledge distillation (DKD): the divergence of the target class and that among the others, weighed apart.

Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679, eq. 7. NumPy in float64, for every engine
that takes dLoss/dlogits from outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decoupled_loss"]

Float64 = NDArray[np.float64]


def decoupled_loss(
    student_NC: NDArray[Any],
    teacher_NC: NDArray[Any],
    label_N: NDArray[np.int64],
    *,
    target_weight: float,
    non_target_weight: float,
) -> tuple[Float64, Float64]:
    """Per row target_weight * TCKD + non_target_weight * NCKD, float64 [N], and its gradient in `student_NC` [N, C].

    Both logits are softened already (divided by their temperature). With p the teacher's and s the student's softmax
    and y the label, TCKD = KL((p_y, 1 - p_y) || (s_y, 1 - s_y)) and NCKD = KL of the two softmaxes over the classes
    other than y. KL(p || s) = TCKD + (1 - p_y) NCKD (eq. 5), which is the term of a row whose label was held back
    (below 0): it has no target. A logit that is not finite makes its row NaN.
    """
    count = len(label_N)
    rows, y_N = np.arange(count), np.maximum(label_N, 0)
    log_s_NC, log_p_NC = _log_softmax(student_NC), _log_softmax(teacher_NC)
    # among the others: the target is left out by -inf, and takes part again nowhere
    others_s_NC, others_p_NC = log_s_NC.copy(), log_p_NC.copy()
    others_s_NC[rows, y_N] = others_p_NC[rows, y_N] = -np.inf
    rest_s_N, rest_p_N = _log_sum(others_s_NC), _log_sum(others_p_NC)  # log(1 - s_y), without 1 - s_y's cancellation
    target_s_N, target_p_N = log_s_NC[rows, y_N], log_p_NC[rows, y_N]
    p_N = np.exp(target_p_N)
    tckd_N = p_N * (target_p_N - target_s_N) + np.exp(rest_p_N) * (rest_p_N - rest_s_N)
    hat_s_NC, hat_p_NC = np.exp(others_s_NC - rest_s_N[:, None]), np.exp(others_p_NC - rest_p_N[:, None])
    ratio_NC = (log_p_NC - rest_p_N[:, None]) - (log_s_NC - rest_s_N[:, None])
    nckd_N = (hat_p_NC * ratio_NC).sum(axis=1)
    slope_N = target_weight * (np.exp(target_s_N) - p_N)
    gradient_NC = non_target_weight * (hat_s_NC - hat_p_NC) - slope_N[:, None] * hat_s_NC
    gradient_NC[rows, y_N] = slope_N
    term_N = target_weight * tckd_N + non_target_weight * nckd_N
    held_N = label_N < 0
    if held_N.any():
        p_NC = np.exp(log_p_NC[held_N])
        term_N[held_N] = (p_NC * (log_p_NC - log_s_NC)[held_N]).sum(axis=1)
        gradient_NC[held_N] = np.exp(log_s_NC[held_N]) - p_NC
    return term_N, gradient_NC


def _log_softmax(z_NC: NDArray[Any]) -> Float64:
    z_NC = z_NC.astype(np.float64)
    return np.asarray(z_NC - _log_sum(z_NC)[:, None], np.float64)


def _log_sum(z_NC: Float64) -> Float64:
    """log(sum(exp(z))) of each row."""
    top_N1 = z_NC.max(axis=1, keepdims=True)
    return np.asarray(top_N1[:, 0] + np.log(np.exp(z_NC - top_N1).sum(axis=1)), np.float64)
