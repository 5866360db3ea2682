"""The engine ``tflite`` of a configuration: train a file that was compiled elsewhere, or compile the model first.

Compiling needs torch, training does not. Where torch is not loaded yet it stays so: the compiler runs in a process of
its own. Real devices get their file from `fedagg export`, name it as their model's builder, and need neither.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import ModelConfig
from fedagg_edge.errors import LearnerError
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.base import LearnerSpec, LearnerState
from fedagg_edge.learners.tflite import TfliteLearner
from fedagg_edge.learners.tflite_file import TrainingFile

__all__ = ["make_learner"]

_SUFFIX = ".tflite"


def make_learner(spec: LearnerSpec) -> TfliteLearner:
    """A `LearnerFactory`: of a training file where ``spec.model.builder`` is its path, else of a model compiled here.

    A training file's weights are its first ones, whatever the seed; a compiled model's are those that the torch engine
    would draw from it.

    Raises ConfigError for what the engine does not have, ArtefactError for a file that is damaged or of another model,
    ExportError for a model that cannot be compiled, LearnerError if no runtime is usable.
    """
    spec.refuse_what_only_torch_has("tflite", loss_inside=True)
    file, weights = _from_file(spec) if spec.model.builder.endswith(_SUFFIX) else _compiled(spec)
    learner = TfliteLearner(file, spec.hyperparameters.optimizer, classes=spec.classes, sample_shape=spec.sample_shape)
    learner.load_state(LearnerState(file.table, weights))
    return learner


def _from_file(spec: LearnerSpec) -> tuple[TrainingFile, NDArray[np.float32]]:
    if spec.model.options:
        raise LearnerError(
            f"model {spec.model.builder!r}: got options {sorted(spec.model.options)}, but a training file has its "
            "options built in; leave them out, or export the model with them"
        )
    file = tflite_file.load(Path(spec.base_dir) / spec.model.builder)
    return file, file.weights


def _compiled(spec: LearnerSpec) -> tuple[TrainingFile, NDArray[np.float32]]:
    described = json.dumps(msgspec.to_builtins(spec.model), sort_keys=True)
    where = spec.sample_shape, spec.classes
    if "torch" not in sys.modules:
        file = _compiled_elsewhere(described, *where, spec.seed, spec.base_dir)
        return file, file.weights
    from fedagg_edge.learners.torch import make_learner as make_torch_learner  # noqa: PLC0415

    return _compiled_here(described, *where, spec.base_dir), make_torch_learner(spec).state().weights


@lru_cache(maxsize=16)
def _compiled_here(described: str, sample_shape: tuple[int, ...], classes: int, base_dir: str) -> TrainingFile:
    from fedagg_edge.export.tflite import compile_module  # noqa: PLC0415  # torch
    from fedagg_edge.learners.zoo import build_model  # noqa: PLC0415

    model = msgspec.json.decode(described, type=ModelConfig)
    module = build_model(model.builder, sample_shape, classes, base_dir=base_dir, **model.options)
    return tflite_file.loads(compile_module(module, sample_shape, classes)[0])


@lru_cache(maxsize=16)
def _compiled_elsewhere(
    described: str, sample_shape: tuple[int, ...], classes: int, seed: int, base_dir: str
) -> TrainingFile:
    import subprocess  # noqa: PLC0415  a device that was given its file needs neither
    import tempfile  # noqa: PLC0415

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
