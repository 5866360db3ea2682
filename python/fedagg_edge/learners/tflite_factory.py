"""The engine ``tflite`` of a configuration: compile the model once with torch, train it without.

Compiling needs torch, training does not. Where torch is not loaded yet it stays so: the compiler runs in a process of
its own. Real devices get their file from `fedagg export` and need neither.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.errors import LearnerError
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.base import LearnerState
from fedagg_edge.learners.tflite import TfliteLearner
from fedagg_edge.learners.tflite_file import TrainingFile

__all__ = ["make_learner"]


def make_learner(
    model: ModelConfig,
    *,
    sample_shape: tuple[int, ...],
    classes: int,
    hyperparameters: Hyperparameters,
    seed: int,
    base_dir: str,
) -> TfliteLearner:
    """A `LearnerFactory`: its weights are those that the torch engine would draw from `seed`.

    Raises ExportError for a model that cannot be compiled, LearnerError if no runtime is usable.
    """
    described = json.dumps(msgspec.to_builtins(model), sort_keys=True)
    if "torch" in sys.modules:
        file = _compiled_here(described, sample_shape, classes, base_dir)
        weights = _drawn_here(model, sample_shape, classes, seed, base_dir)
    else:
        file = _compiled_elsewhere(described, sample_shape, classes, seed, base_dir)
        weights = file.weights
    learner = TfliteLearner(file, hyperparameters.optimizer)
    learner.load_state(LearnerState(file.table, weights))
    return learner


@lru_cache(maxsize=16)
def _compiled_here(described: str, sample_shape: tuple[int, ...], classes: int, base_dir: str) -> TrainingFile:
    from fedagg_edge.export.tflite import compile_module  # noqa: PLC0415  # torch
    from fedagg_edge.learners.zoo import build_model  # noqa: PLC0415

    model = msgspec.json.decode(described, type=ModelConfig)
    module = build_model(model.builder, sample_shape, classes, base_dir=base_dir, **model.options)
    return tflite_file.loads(compile_module(module, sample_shape, classes)[0])


def _drawn_here(
    model: ModelConfig, sample_shape: tuple[int, ...], classes: int, seed: int, base_dir: str
) -> NDArray[np.float32]:
    from fedagg_edge.learners.torch import make_learner as make_torch_learner  # noqa: PLC0415

    unused = Hyperparameters()
    learner = make_torch_learner(
        model, sample_shape=sample_shape, classes=classes, hyperparameters=unused, seed=seed, base_dir=base_dir
    )
    return learner.state().weights


@lru_cache(maxsize=16)
def _compiled_elsewhere(
    described: str, sample_shape: tuple[int, ...], classes: int, seed: int, base_dir: str
) -> TrainingFile:
    model = msgspec.json.decode(described, type=ModelConfig)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.tflite"
        command = [sys.executable, "-m", "fedagg_edge", "export", model.builder, "--out", str(out)]
        command += ["--sample-shape", *map(str, sample_shape), "--classes", str(classes), "--seed", str(seed)]
        command += ["--options", json.dumps(model.options), "--base-dir", base_dir]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["no message"]
            raise LearnerError(f"model {model.builder!r} cannot be compiled: {said[-1].removeprefix('fedagg: ')}")
        return tflite_file.load(out)
