"""Steps that torch takes, as tests/golden keeps them, for what trains on the JVM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.torch import TorchLearner

STEPS, SAMPLES = 6, 11


def write_steps(learner: TorchLearner, shape: tuple[int, ...], classes: int, path: Path) -> None:
    """Let it take steps on batches of 6, 5, 4, 6, ... samples and write them.

    The batches, the weights after the first and the last step, and the logits that come of the last ones.
    """
    plan = {"learning_rate": 0.05, "optimizer": "sgd", "weight_decay": 1e-3}
    rng = np.random.default_rng(0)
    golden: dict[str, object] = {"plan": json.dumps([plan] * STEPS)}
    for i in range(STEPS):
        rows = 6 - i % 3
        x_N, bridge_x_N = rng.random((2, rows, *shape), np.float32)
        y_N, teacher_NC = rng.integers(0, classes, rows), rng.standard_normal((rows, classes), np.float32)
        learner.step(Batch(bridge_x_N, y_N, teacher_NC, x_N, y_N), Hyperparameters(**plan))  # type: ignore[arg-type]
        golden |= {f"x_{i}": x_N, f"bridge_{i}": bridge_x_N, f"y_{i}": y_N, f"teacher_{i}": teacher_NC}
        if i in (0, STEPS - 1):
            golden[f"weights_{i}"] = learner.state().weights
    x_N = rng.random((SAMPLES, *shape), np.float32)
    np.savez_compressed(path, **golden, samples=x_N, logits=learner.logits(x_N))  # type: ignore[arg-type]
