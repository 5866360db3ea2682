"""The engine ``executorch`` of a configuration: export the model once, then train it with ExecuTorch's runtime."""

from __future__ import annotations

import json
from functools import lru_cache

import msgspec

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.export.executorch import compile_program
from fedagg_edge.learners import executorch_file
from fedagg_edge.learners.base import LearnerState
from fedagg_edge.learners.executorch import ExecutorchLearner
from fedagg_edge.learners.executorch_file import TrainingProgram
from fedagg_edge.learners.torch import make_learner as make_torch_learner
from fedagg_edge.learners.zoo import build_model

__all__ = ["make_learner"]

_ROWS = 64


def make_learner(
    model: ModelConfig,
    *,
    sample_shape: tuple[int, ...],
    classes: int,
    hyperparameters: Hyperparameters,
    seed: int,
    base_dir: str,
) -> ExecutorchLearner:
    """A `LearnerFactory`: its weights are those that the torch engine would draw from `seed`.

    Raises ExportError for a model that cannot be exported, LearnerError without ExecuTorch.
    """
    described = json.dumps(msgspec.to_builtins(model), sort_keys=True)
    rows = max(_ROWS, hyperparameters.batch_size + 1)  # a last batch of one sample joins the one before it
    file = _exported(described, sample_shape, classes, rows, base_dir)
    drawn = make_torch_learner(
        model, sample_shape=sample_shape, classes=classes, hyperparameters=hyperparameters, seed=seed, base_dir=base_dir
    )
    learner = ExecutorchLearner(file, hyperparameters.optimizer)
    learner.load_state(LearnerState(file.table, drawn.state().weights))
    return learner


@lru_cache(maxsize=16)
def _exported(described: str, sample_shape: tuple[int, ...], classes: int, rows: int, base_dir: str) -> TrainingProgram:
    model = msgspec.json.decode(described, type=ModelConfig)
    module = build_model(model.builder, sample_shape, classes, base_dir=base_dir, **model.options)
    return executorch_file.loads(compile_program(module, sample_shape, classes, rows=rows)[0])
