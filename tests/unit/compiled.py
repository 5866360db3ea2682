"""Helpers of the compiler's tests: a module beside its training file, step by step. No test lives here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.export.tflite import compile_module
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.targets import Targets
from fedagg_edge.learners.tflite import TfliteLearner
from fedagg_edge.learners.torch import TorchLearner

torch.set_num_threads(1)  # more only wait for one another on such small models

CLASSES = 5
SIGNAL, IMAGE = (3, 12), (2, 8, 8)


class Through(nn.Module):
    """A first layer, a function, and a linear layer to the classes: so that gradients pass through the function."""

    def __init__(self, shape: tuple[int, ...], function: Callable[[Tensor], Tensor], first: nn.Module) -> None:
        super().__init__()
        self.first, self.function = first, function
        with torch.no_grad():
            size = self.function(self.first(torch.rand(2, *shape))).flatten(1).shape[1]
        self.last = nn.Linear(size, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.function(self.first(x)).flatten(1))
        return out


def through(function: Callable[[Tensor], Tensor], shape: tuple[int, ...] = IMAGE) -> nn.Module:
    """A module whose gradients pass through `function` of signed values."""
    conv: Any = {2: nn.Conv1d, 3: nn.Conv2d}[len(shape)]
    return Through(shape, function, conv(shape[0], 4, 3, padding=1))


def batches(shape: tuple[int, ...], count: int, rows: int = 6, classes: int = CLASSES) -> Iterator[Batch]:
    rng = np.random.default_rng(1)
    for i in range(count):
        n = rows + i % 2  # sizes change
        x_N, bridge_x_N = (rng.random((n, *shape), np.float32) for _ in range(2))
        y_N = rng.integers(0, classes, n)
        yield Batch(bridge_x_N, y_N, rng.standard_normal((n, classes), np.float32), x_N, y_N)


def differences(
    module: nn.Module, shape: tuple[int, ...], steps: int = 1, classes: int = CLASSES, **changes: Any
) -> tuple[float, float]:
    """The largest differences of weights and, relative to the largest, of logits after `steps` of file and torch."""
    hyperparameters = Hyperparameters(**{"learning_rate": 0.02, "weight_decay": 1e-3, **changes})
    device = TfliteLearner(compile_module(module, shape, classes)[0], hyperparameters.optimizer)
    reference = TorchLearner(copy.deepcopy(module), hyperparameters.optimizer)
    for batch in batches(shape, steps, classes=classes):
        device.step(batch, hyperparameters)
        reference.step(batch, hyperparameters)
    x_N = next(batches(shape, 1)).bridge_x_N
    expected_NC = reference.logits(x_N)
    logits = np.abs(device.logits(x_N) - expected_NC).max() / max(1.0, np.abs(expected_NC).max())
    return float(np.abs(device.state().weights - reference.state().weights).max()), float(logits)


def assert_learns_as_torch(module: nn.Module, shape: tuple[int, ...] = IMAGE, **changes: Any) -> None:
    """Weights within 1e-5 of torch's after one step, logits too."""
    weights, logits = differences(module, shape, **changes)
    assert max(weights, logits) < 1e-5, f"weights differ by {weights:.1e}, logits by {logits:.1e}"


def no_loss(rows: int) -> Targets:
    """Targets of a loss that is 0."""
    return Targets(np.zeros((rows, 2 * CLASSES + 2), np.float32), np.array([1, 0], np.float32))


def small_model() -> nn.Module:
    """A small perceptron for IMAGE, the same every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 7), nn.ReLU(), nn.Linear(7, CLASSES))


@lru_cache
def small_file() -> bytes:
    """The training file of `small_model`."""
    return compile_module(small_model(), IMAGE, CLASSES)[0]
