"""Runs golden files with one runtime and compares with what torch found: ``replay.py FOLDER RUNTIME``. Needs no torch.

A folder holds, per case, NAME.tflite and NAME.npz: the plan (hyperparameters a step), the batches, and torch's weights
after the first and the last step.
Prints one JSON object, case -> (difference after one step, after the last).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.tflite import TfliteLearner


def replay(file: Path, runtime: str) -> tuple[float, float]:
    """The largest differences of a case's weights from torch's, after one step and after the last."""
    golden = np.load(file.with_suffix(".npz"))
    plan = [Hyperparameters(**step) for step in json.loads(str(golden["plan"]))]
    learner = TfliteLearner(file, plan[0].optimizer, runtime=runtime)
    differences = []
    for i, hyperparameters in enumerate(plan):
        x_N, bridge_x_N, y_N, teacher_NC = (golden[f"{name}_{i}"] for name in ("x", "bridge", "y", "teacher"))
        learner.step(Batch(bridge_x_N, y_N, teacher_NC, x_N, y_N), hyperparameters)
        if f"weights_{i}" in golden:
            differences.append(float(np.abs(learner.state().weights - golden[f"weights_{i}"]).max()))
    return differences[0], differences[-1]


if __name__ == "__main__":
    folder, runtime = Path(sys.argv[1]), sys.argv[2]
    sys.stdout.write(json.dumps({file.stem: replay(file, runtime) for file in sorted(folder.glob("*.tflite"))}))
