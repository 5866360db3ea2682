"""The engine ``executorch`` of a configuration: export the model once, then train it with ExecuTorch's runtime."""

from __future__ import annotations

import json
from functools import lru_cache

import msgspec

from fedagg_edge.config import ModelConfig
from fedagg_edge.export.executorch import compile_program
from fedagg_edge.learners import executorch_file
from fedagg_edge.learners.base import LearnerSpec, LearnerState
from fedagg_edge.learners.executorch import ExecutorchLearner
from fedagg_edge.learners.executorch_file import TrainingProgram
from fedagg_edge.learners.torch import make_learner as make_torch_learner
from fedagg_edge.learners.zoo import build_model

__all__ = ["make_learner"]

_ROWS = 64


def make_learner(spec: LearnerSpec) -> ExecutorchLearner:
    """A `LearnerFactory`: its weights are those that the torch engine would draw from `seed`.

    Raises ExportError for a model that cannot be exported, LearnerError without ExecuTorch.
    """
    spec.refuse_what_only_torch_has("executorch", loss_inside=False)
    described = json.dumps(msgspec.to_builtins(spec.model), sort_keys=True)
    rows = max(_ROWS, spec.hyperparameters.batch_size + 1)  # a last batch of one sample joins the one before it
    file = _exported(described, spec.sample_shape, spec.classes, rows, spec.base_dir)
    learner = ExecutorchLearner(file, spec.hyperparameters.optimizer)
    learner.load_state(LearnerState(file.table, make_torch_learner(spec).state().weights))
    return learner


@lru_cache(maxsize=16)
def _exported(described: str, sample_shape: tuple[int, ...], classes: int, rows: int, base_dir: str) -> TrainingProgram:
    model = msgspec.json.decode(described, type=ModelConfig)
    module = build_model(model.builder, sample_shape, classes, base_dir=base_dir, **model.options)
    return executorch_file.loads(compile_program(module, sample_shape, classes, rows=rows)[0])
