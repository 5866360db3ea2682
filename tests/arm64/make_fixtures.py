"""Makes the numbers of tests/arm64/fixtures on this machine: ``python tests/arm64/make_fixtures.py``. Needs torch.

What the kernels and one training file give here; test_numbers.py compares any other machine's with it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from fedagg_edge import kernels
from fedagg_edge.config import Hyperparameters
from fedagg_edge.export.tflite import export_tflite
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.learners.zoo import build_model

sys.path.insert(0, str(Path(__file__).parent))

from kernel_numbers import other_numbers

FOLDER = Path(__file__).parent / "fixtures"
SHAPES = ((8, 10), (33, 10), (16, 100), (3, 1000))
STEPS, CLASSES, SHAPE = 10, 5, (1, 8, 8)
# 200 as they come, and what broke a bound once (tests/kernels/test_every_row.py)
TRIALS = (*range(200), 710, 1502, 2094, 2140, 2886, 3267, 4074, 4421, 4431, 4553)


def kernel_numbers() -> dict[str, np.ndarray]:
    """Inputs and what came of them, float32 and float64."""
    rng = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {}
    for n, c in SHAPES:
        key = f"{n}x{c}"
        student_NC, teacher_NC = (3 * rng.standard_normal((2, n, c))).astype(np.float32)
        label_N = rng.integers(0, c, n)
        got = kernels.distill_loss(student_NC, teacher_NC, label_N, kl_weight=9.0, temperature=3.0)
        packed = kernels.quantise_logits(student_NC)
        weights = student_NC.ravel().copy()
        velocity = teacher_NC.ravel().copy()
        kernels.sgd_step(weights, got.gradient_NC.ravel(), velocity, learning_rate=0.1, momentum=0.9, weight_decay=1e-3)
        found |= {f"{key}.student": student_NC, f"{key}.teacher": teacher_NC, f"{key}.label": label_N}
        found |= {f"{key}.loss": np.float64(got.loss), f"{key}.gradient": got.gradient_NC}
        found |= {f"{key}.int8": packed.values_NC, f"{key}.scale": packed.scale_N, f"{key}.sgd": weights}
        found |= {f"{key}.{name}": value for name, value in other_numbers(student_NC, teacher_NC).items()}
    return found


def training_numbers(stem: Path) -> None:
    """A training file, its batches and torch's weights: what tests/golden/replay.py reads."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = build_model("mlp", SHAPE, CLASSES, hidden=[8])
    hyperparameters = {"learning_rate": 0.05, "optimizer": "sgd", "weight_decay": 1e-3}
    export_tflite(model, SHAPE, CLASSES, stem.with_suffix(".tflite"))
    learner = TorchLearner(model, "sgd")
    rng = np.random.default_rng(0)
    golden: dict[str, object] = {"plan": json.dumps([hyperparameters] * STEPS)}
    for i in range(STEPS):
        x_N, bridge_x_N = rng.random((2, 6, *SHAPE), np.float32)
        y_N, teacher_NC = rng.integers(0, CLASSES, 6), rng.standard_normal((6, CLASSES), np.float32)
        learner.step(Batch(bridge_x_N, y_N, teacher_NC, x_N, y_N), Hyperparameters(**hyperparameters))  # type: ignore[arg-type]
        golden |= {f"x_{i}": x_N, f"bridge_{i}": bridge_x_N, f"y_{i}": y_N, f"teacher_{i}": teacher_NC}
        if i in (0, STEPS - 1):
            golden[f"weights_{i}"] = learner.state().weights
    np.savez_compressed(stem.with_suffix(".npz"), **golden)


def torch_reverse_errors() -> dict[str, float]:
    """By trial of benchmarks/kernel_accuracy.py, seed 0: torch's error of the reverse gradient, half our bound."""
    sys.path.insert(0, str(FOLDER.parents[2] / "benchmarks"))
    import kernel_accuracy as accuracy

    cases = {trial: accuracy.draw(0, trial) for trial in TRIALS}
    return {str(k): accuracy.torch_errors(case, accuracy.exact(case))["reverse gradient"] for k, case in cases.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "torch_reverse.json").write_text(json.dumps(torch_reverse_errors(), indent=0) + "\n")
    np.savez_compressed(FOLDER / "kernels.npz", **kernel_numbers())
    training_numbers(FOLDER / "mlp")
