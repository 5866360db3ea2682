"""A learner of numpy alone, and a small data set: a fleet's processes start in a third of a second with them.

What is tested with it is the fleet, not the learning; it is deterministic to the last bit, as it sums without a BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedagg_edge.datasets import Dataset
from fedagg_edge.errors import LearnerError
from fedagg_edge.learners.base import Batch, Entry, LearnerSpec, LearnerState, StepReport

__all__ = ["blobs", "make_learner"]


def blobs(count: int = 96, classes: int = 4, seed: int = 5, floats: bool = False) -> Dataset:
    """Images of one bright quarter each, with noise; `floats`: as numbers of many digits, which a log would show."""
    rng = np.random.default_rng(seed)

    def some(n: int) -> tuple[Any, Any]:
        y_N = np.arange(n) % classes
        x_N = rng.integers(0, 60, (n, 1, 8, 8))
        for x, y in zip(x_N, y_N, strict=True):
            row, column = 4 * (y // 2 % 2), 4 * (y % 2)
            x[0, row : row + 4, column : column + 4] += 150
        return (x_N / 255 + rng.uniform(0, 1e-3, x_N.shape)).astype(np.float32) if floats else x_N.astype(np.uint8), y_N

    train_x, train_y = some(count)
    test_x, test_y = some(40)
    public_x, _ = some(64)
    return Dataset(
        name="blobs", classes=classes, train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, public_x=public_x
    )


def _softmax(z_NC: Any) -> Any:
    e_NC = np.exp(z_NC - z_NC.max(1, keepdims=True))
    return e_NC / e_NC.sum(1, keepdims=True)


class Softmax:
    """Logistic regression: cross-entropy where there are labels, and towards the teacher where there is one."""

    def __init__(self, inputs: int, classes: int, rate: float, rng: np.random.Generator) -> None:
        self.table = (Entry("weight", (classes, inputs), True), Entry("bias", (classes,), True))
        self.weight_CD = (0.01 * rng.normal(size=(classes, inputs))).astype(np.float32)
        self.bias_C = np.zeros(classes, np.float32)
        self.rate, self.steps = np.float32(rate), 0

    def logits(self, x_N: Any) -> Any:
        return np.einsum("nd,cd->nc", x_N.reshape(len(x_N), -1), self.weight_CD) + self.bias_C

    def step(self, batch: Batch, hyperparameters: Any) -> StepReport:
        x_N, y_N, weight_N = [batch.bridge_x_N], [batch.bridge_y_N], [np.ones(len(batch.bridge_x_N), np.float32)]
        if batch.private_x_N is not None and batch.private_y_N is not None:
            x_N.append(batch.private_x_N)
            y_N.append(batch.private_y_N)
            weight_N.append(np.ones(len(batch.private_x_N), np.float32))
        gradient, ce = self._towards_labels(np.concatenate(x_N), np.concatenate(y_N))
        kl = 0.0
        if batch.teacher_NC is not None and len(batch.bridge_x_N):
            more, kl = self._towards_teacher(batch)
            gradient = tuple(a + b for a, b in zip(gradient, more, strict=True))
        if not all(np.isfinite(g).all() for g in gradient):
            raise LearnerError("softmax: the loss is not finite")
        self.weight_CD -= self.rate * gradient[0]
        self.bias_C -= self.rate * gradient[1]
        self.steps += 1
        return StepReport(ce + kl, 0.0, ce, kl)

    def _towards_labels(self, x_N: Any, y_N: Any) -> Any:
        there = y_N >= 0
        p_NC = _softmax(self.logits(x_N))
        loss = float(-np.log(p_NC[there, y_N[there]] + 1e-9).mean()) if there.any() else 0.0
        error_NC = p_NC.copy()
        error_NC[there, y_N[there]] -= 1
        error_NC[~there] = 0
        return self._gradient(error_NC / np.float32(len(x_N)), x_N), loss

    def _towards_teacher(self, batch: Batch) -> Any:
        x_N, teacher_NC = batch.bridge_x_N, _softmax(batch.teacher_NC)
        p_NC = _softmax(self.logits(x_N))
        weight_N = batch.teacher_weight_N if batch.teacher_weight_N is not None else np.ones(len(x_N), np.float32)
        loss = float((teacher_NC * np.log((teacher_NC + 1e-9) / (p_NC + 1e-9))).sum(1).mean())
        return self._gradient(weight_N[:, None] * (p_NC - teacher_NC) / np.float32(len(x_N)), x_N), loss

    def _gradient(self, error_NC: Any, x_N: Any) -> Any:
        return np.einsum("nc,nd->cd", error_NC, x_N.reshape(len(x_N), -1)).astype(np.float32), error_NC.sum(0)

    def state(self) -> LearnerState:
        return LearnerState(self.table, np.concatenate([self.weight_CD.ravel(), self.bias_C]), {}, self.steps)

    def load_state(self, state: LearnerState) -> None:
        arrays = state.arrays()
        self.weight_CD, self.bias_C = arrays["weight"].copy(), arrays["bias"].copy()
        self.steps = state.steps

    def seed(self, seed: int) -> None:
        pass


def make_learner(spec: LearnerSpec) -> Any:
    rng = np.random.default_rng(spec.seed)
    return Softmax(int(np.prod(spec.sample_shape)), spec.classes, spec.hyperparameters.learning_rate, rng)
