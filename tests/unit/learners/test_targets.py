"""What goes into a graph's loss, against the kernel's dLoss/dlogits by the same formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners import objective
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.targets import Targets, bridge_targets, joint_targets, private_targets
from fedagg_edge.reference import log_softmax

N, C = 7, 4
RNG = np.random.default_rng(3)
LOGITS_NC = 3 * RNG.standard_normal((N, C), np.float32)


def batch(*, leaf: bool, **changes: Any) -> Batch:
    x_N = np.zeros((N, 2), np.float32)
    given = {"bridge_y_N": RNG.integers(0, C, N), "teacher_NC": RNG.standard_normal((N, C), np.float32), **changes}
    return Batch(x_N, private_x_N=x_N if leaf else None, private_y_N=RNG.integers(0, C, N) if leaf else None, **given)


def upstream(targets: Targets, logits_NC: np.ndarray) -> np.ndarray:
    """What `fedagg_edge.export.loss` writes, in float64."""
    student, reverse = targets.settings.astype(np.float64)
    labels_NC, teacher_NC, ce_N1, kl_N1 = np.split(targets.rows_NT.astype(np.float64), [C, 2 * C, 2 * C + 1], 1)
    log_s, log_t = log_softmax(logits_NC * student), log_softmax(teacher_NC)
    s, ratio = np.exp(log_s), log_s - log_t
    back = s * (ratio - (s * ratio).sum(1, keepdims=True))
    divergence = back if reverse else s - np.exp(log_t)
    return ce_N1 * (np.exp(log_softmax(logits_NC)) - labels_NC) + kl_N1 * divergence


@pytest.mark.parametrize("leaf", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kl": "teacher||student"},
        {"kl": "student||teacher", "temperature_on": "both", "temperature": 2.5},
        {"beta": 0.0},
        {"gamma": 0.25, "beta": 3.0},
    ],
)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"teacher_NC": None},
        {"teacher_weight_N": np.linspace(0, 1, N, dtype=np.float32)},
        {"bridge_y_N": np.array([0, -1, 2, -1, 1, 3, 0])},
        {"bridge_y_N": np.full(N, -1), "teacher_weight_N": np.full(N, 0.5, np.float32)},
    ],
)
def test_the_bridge_term_is_the_kernels(leaf: bool, settings: dict[str, Any], changes: dict[str, Any]) -> None:
    given, hyperparameters = batch(leaf=leaf, **changes), Hyperparameters(**settings)
    expected_NC = objective.bridge_loss(LOGITS_NC, given, hyperparameters).gradient_NC
    got_NC = upstream(bridge_targets(given, hyperparameters, C), LOGITS_NC)
    np.testing.assert_allclose(got_NC, expected_NC, atol=2e-6)


def test_the_private_term_and_both_as_one_batch() -> None:
    given, hyperparameters = batch(leaf=True), Hyperparameters()
    both = joint_targets(given, hyperparameters, C)
    expected_NC = np.concatenate(
        [
            objective.private_loss(LOGITS_NC, given).gradient_NC,
            objective.bridge_loss(LOGITS_NC[::-1].copy(), given, hyperparameters).gradient_NC,
        ]
    )
    got_NC = upstream(both, np.concatenate([LOGITS_NC, LOGITS_NC[::-1]]))
    np.testing.assert_allclose(got_NC, expected_NC, atol=2e-6)
    alone = upstream(private_targets(given, C), LOGITS_NC)
    np.testing.assert_allclose(alone, expected_NC[:N], atol=2e-6)
    assert both.rows_NT.dtype == both.settings.dtype == np.float32


def test_batches_without_rows() -> None:
    empty = Batch(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), None)
    for targets in (private_targets(empty, C), bridge_targets(empty, Hyperparameters(), C)):
        assert targets.rows_NT.shape == (0, 2 * C + 2)
