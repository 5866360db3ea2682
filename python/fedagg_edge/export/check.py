"""The check that a training file passes before it is written: one step by the file, one by torch, side by side."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ExportError
from fedagg_edge.export.beside import difference, noise_batch
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.targets import Targets
from fedagg_edge.learners.tflite import TfliteLearner
from fedagg_edge.learners.tflite_file import TrainingFile
from fedagg_edge.learners.tflite_runtime import open_graphs
from fedagg_edge.learners.torch import TorchLearner

__all__ = ["TOLERANCE", "CheckReport", "check_file", "rows_apart"]

TOLERANCE = 1e-5
"""Largest difference of a weight after one step, and of a logit, relative to the largest where that is above 1."""

Array = NDArray[np.float32]

_ROWS, _TRIALS = 6, 3
_HYPERPARAMETERS = Hyperparameters(weight_decay=1e-4)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was compared: largest differences of weights and logits, and with which runtime."""

    weights: float
    logits: float
    rows: int
    runtime: str

    def as_json(self) -> dict[str, object]:
        """For the file's metadata; rounded up, so that the file does not change with the last bits."""
        return {**asdict(self), "weights": _rounded(self.weights), "logits": _rounded(self.logits)}


def _rounded(value: float) -> float:
    return float(f"{value:.0e}") if value else 0.0


def check_file(module: nn.Module, content: bytes) -> CheckReport:
    """Take one step on a private and a bridge batch with the file and with torch; raise ExportError where they part.

    Where an activation is within a rounding error of ReLU's corner, both slopes are right and the two may choose
    differently. So a step that parts is taken again on other samples, at most twice; a wrong gradient parts every time.
    """
    file = tflite_file.loads(content)
    for seed in range(_TRIALS):
        report = _one_step(module, file, seed)
        if report.weights <= TOLERANCE and report.logits <= TOLERANCE:
            return report
    raise ExportError(
        f"after one step the compiled model's weights differ from torch's by {report.weights:.1e} and its logits by "
        f"{report.logits:.1e}, expected at most {TOLERANCE:.0e}; nothing was written; please report the model"
    )


def _one_step(module: nn.Module, file: TrainingFile, seed: int) -> CheckReport:
    device, reference = _Watched(file), TorchLearner(copy.deepcopy(module))
    batch = noise_batch(file, seed, _ROWS)
    device.step(batch, _HYPERPARAMETERS)
    with _Replayed(device.drawn_by_half()) if device.drawn else nullcontext():
        reference.step(batch, _HYPERPARAMETERS)
    weights = difference(device.state().weights, reference.state().weights)
    logits = difference(device.logits(batch.bridge_x_N), reference.logits(batch.bridge_x_N))
    return CheckReport(weights, logits, _ROWS, f"{device.runtime.name} {device.runtime.version}")


def rows_apart(content: bytes) -> bool:
    """Whether, in training, no row of a batch influences another: half a batch gives half of a batch's logits."""
    file = tflite_file.loads(content)
    graphs = open_graphs(file)
    x_N = noise_batch(file, 0, _ROWS).bridge_x_N
    weights = file.weights[: len(file.weights) - len(file.counted)]
    whole, half = (graphs.train(x_N[:n], weights, _ones(file, n), _nothing(file, n)) for n in (_ROWS, _ROWS // 2))
    return whole.buffers is None and difference(half.logits_NC, whole.logits_NC[: _ROWS // 2]) < TOLERANCE


def _ones(file: TrainingFile, rows: int) -> dict[str, Array]:
    return {m.name: np.ones((rows, *m.shape), np.float32) for m in file.masks}


def _nothing(file: TrainingFile, rows: int) -> Targets:
    """Targets of a loss that is 0."""
    return Targets(np.zeros((rows, 2 * file.classes + 2), np.float32), np.array([1, 0], np.float32))


class _Watched(TfliteLearner):
    """Keeps the masks that it draws, so that torch can be given the same."""

    def __init__(self, file: TrainingFile) -> None:
        super().__init__(file)
        self.file = file
        self.drawn: list[Array] = []

    def _masks(self, rows: int) -> dict[str, Array]:
        masks = super()._masks(rows)
        self.drawn += masks.values()
        return masks

    def drawn_by_half(self) -> list[Array]:
        """The masks as torch asks for them: all of the private batch, then all of the bridge batch."""
        if not self.file.rows_apart:
            return self.drawn
        return [mask[half] for half in (slice(_ROWS), slice(_ROWS, None)) for mask in self.drawn]


class _Replayed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets torch draw, instead of at random, given masks in their order."""

    def __init__(self, masks: list[Array]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = [torch.from_numpy(m) for m in masks]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.bernoulli_.float:
            return args[0].copy_(self._left.pop(0))
        if func is torch.ops.aten.bernoulli.p:
            return self._left.pop(0)
        return func(*args, **(kwargs or {}))
