"""The check that a training program passes before it is written: one step by it, one by torch, side by side."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ExportError, LearnerError
from fedagg_edge.export.beside import difference, noise_batch
from fedagg_edge.export.check import TOLERANCE, CheckReport
from fedagg_edge.learners import executorch_file, executorch_runtime
from fedagg_edge.learners.executorch import ExecutorchLearner
from fedagg_edge.learners.executorch_file import TrainingProgram
from fedagg_edge.learners.torch import TorchLearner

__all__ = ["TOLERANCE", "CheckReport", "check_program"]

Array = NDArray[np.float32]

_ROWS, _TRIALS = 6, 3
_HYPERPARAMETERS = Hyperparameters(learning_rate=1.0, weight_decay=1e-4)  # so that a wrong gradient is not made small


def check_program(module: nn.Module, content: bytes) -> CheckReport:
    """Take a step on a private and a bridge batch with the program and with torch; raise ExportError where they part.

    Logits are compared for one sample and for the largest batch too. Where an activation is within a rounding error of
    ReLU's corner both slopes are right, so a step that parts is taken again on other samples, at most twice.
    """
    file = executorch_file.loads(content)
    rows = min(_ROWS, file.rows)
    for seed in range(_TRIALS):
        try:
            report = _one_step(module, file, seed, rows)
        except LearnerError as error:
            raise ExportError(f"the exported model cannot take a step: {error}") from error
        if report.weights <= TOLERANCE and report.logits <= TOLERANCE:
            return report
    raise ExportError(
        f"after one step the exported model's weights differ from torch's by {report.weights:.1e} and its logits by "
        f"{report.logits:.1e}, expected at most {TOLERANCE:.0e}; nothing was written; please report the model"
    )


def _one_step(module: nn.Module, file: TrainingProgram, seed: int, rows: int) -> CheckReport:
    device, reference = _Watched(file), TorchLearner(copy.deepcopy(module))
    batch = noise_batch(file, seed, rows)
    device.step(batch, _HYPERPARAMETERS)
    with _Replayed(device.drawn):
        reference.step(batch, _HYPERPARAMETERS)
    weights = difference(device.state().weights, reference.state().weights)
    samples = [noise_batch(file, seed, n).bridge_x_N for n in (1, rows, file.rows)]
    logits = max(difference(device.logits(x_N), reference.logits(x_N)) for x_N in samples)
    return CheckReport(weights, logits, rows, f"executorch {executorch_runtime.version()}")


class _Watched(ExecutorchLearner):
    """Keeps the random numbers that it draws, so that torch can be given the same."""

    def __init__(self, file: TrainingProgram) -> None:
        super().__init__(file)
        self.drawn: list[Array] = []

    def _noise(self, rows: int) -> Array:
        self.drawn.append(super()._noise(rows))
        return self.drawn[-1]


class _Replayed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets torch's dropout draw from given numbers, pass by pass, instead of at random."""

    def __init__(self, passes: list[Array]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = [torch.from_numpy(p) for p in passes]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.ops.aten.bernoulli_.float:
            return func(*args, **(kwargs or {}))
        x, p = args[0], args[1] if len(args) > 1 else 0.5  # torch leaves the default out
        size = math.prod(x.shape[1:])
        mine, rest = self._left[0][:, :size], self._left[0][:, size:]
        self._left = [rest, *self._left[1:]] if rest.shape[1] else self._left[1:]
        return x.copy_(mine.reshape(x.shape) < p)
