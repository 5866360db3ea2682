"""The optimizers of devices without torch: the rules and slots of `flat.Sgd`, in C++, and `flat.Adam`, in NumPy."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import kernels
from fedagg_edge.config import Hyperparameters

__all__ = ["Adam", "Optimizer", "Sgd", "make_optimizer"]

Array = NDArray[np.float32]


class Optimizer(Protocol):
    """An update rule over flat float32 buffers; its slots are flat too and persist across rounds."""

    slots: dict[str, Array]
    steps: int

    def update(self, weights: Array, gradient: Array, hyperparameters: Hyperparameters) -> None:
        """Change `weights` in place; `gradient` may be overwritten."""


class Sgd:
    """torch.optim.SGD's rule: v = momentum * v + (g + weight_decay * w); w -= learning_rate * v."""

    def __init__(self, size: int) -> None:
        self.slots = {"momentum": np.zeros(size, np.float32)}
        self.steps = 0

    def update(self, weights: Array, gradient: Array, hyperparameters: Hyperparameters) -> None:
        """See `Optimizer.update`."""
        kernels.sgd_step(
            weights,
            gradient,
            self.slots["momentum"],
            learning_rate=hyperparameters.learning_rate,
            momentum=hyperparameters.momentum,
            weight_decay=hyperparameters.weight_decay,
        )
        self.steps += 1


class Adam:
    """torch.optim.Adam's rule with its default betas (0.9, 0.999) and epsilon (1e-8); weight decay as L2."""

    def __init__(self, size: int) -> None:
        self.slots = {"exp_avg": np.zeros(size, np.float32), "exp_avg_sq": np.zeros(size, np.float32)}
        self.steps = 0

    def update(self, weights: Array, gradient: Array, hyperparameters: Hyperparameters) -> None:
        """See `Optimizer.update`."""
        if hyperparameters.weight_decay:
            gradient = gradient + np.float32(hyperparameters.weight_decay) * weights
        mean, square = self.slots["exp_avg"], self.slots["exp_avg_sq"]
        mean += np.float32(1 - 0.9) * (gradient - mean)
        square *= np.float32(0.999)
        square += np.float32(1 - 0.999) * gradient * gradient
        self.steps += 1
        rate = hyperparameters.learning_rate / (1 - 0.9**self.steps)
        root = np.sqrt(square) / np.float32((1 - 0.999**self.steps) ** 0.5) + np.float32(1e-8)
        weights -= np.float32(rate) * mean / root


def make_optimizer(name: str, size: int) -> Optimizer:
    """The optimizer called `name` over `size` trained values."""
    return Sgd(size) if name == "sgd" else Adam(size)
