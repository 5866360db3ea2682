"""The optimizers of every engine, over flat float32 buffers: SGD in C++, Adam in NumPy. No torch.

An update is one pass however many layers there are, and a state saved under one engine means the same under another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import kernels
from fedagg_edge.config import Hyperparameters

__all__ = ["Adam", "Optimizer", "Sgd", "make_optimizer"]

Array = NDArray[np.float32]


class Optimizer(Protocol):
    """An update rule; its slots are flat like the weights and persist across rounds."""

    slots: dict[str, Array]
    steps: int

    def update(self, weights: Array, gradients: Sequence[Array], hyperparameters: Hyperparameters) -> None:
        """Change `weights` in place. `gradients` are flat, one behind another, and stay as they are.

        However they are cut the update is the same.
        """


class Sgd:
    """torch.optim.SGD's rule: v = momentum * v + (g + weight_decay * w); w -= learning_rate * v."""

    def __init__(self, size: int) -> None:
        self.slots = {"momentum": np.zeros(size, np.float32)}
        self.steps = 0

    def update(self, weights: Array, gradients: Sequence[Array], hyperparameters: Hyperparameters) -> None:
        """See `Optimizer.update`."""
        for part, gradient in _parts(gradients):
            kernels.sgd_step(
                weights[part],
                gradient,
                self.slots["momentum"][part],
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
        self._scratch = np.empty(size, np.float32)

    def update(self, weights: Array, gradients: Sequence[Array], hyperparameters: Hyperparameters) -> None:
        """See `Optimizer.update`."""
        self.steps += 1
        for part, gradient in _parts(gradients):
            self._update(part, weights[part], gradient, hyperparameters)

    def _update(self, part: slice, weights: Array, gradient: Array, hyperparameters: Hyperparameters) -> None:
        if hyperparameters.weight_decay:
            gradient = gradient + np.float32(hyperparameters.weight_decay) * weights
        mean, square, scratch = self.slots["exp_avg"][part], self.slots["exp_avg_sq"][part], self._scratch[part]
        np.subtract(gradient, mean, out=scratch)
        scratch *= np.float32(1 - 0.9)
        mean += scratch
        np.multiply(gradient, gradient, out=scratch)
        scratch *= np.float32(1 - 0.999)
        square *= np.float32(0.999)
        square += scratch
        np.sqrt(square, out=scratch)
        scratch /= np.float32((1 - 0.999**self.steps) ** 0.5)
        scratch += np.float32(1e-8)
        np.divide(mean, scratch, out=scratch)
        scratch *= np.float32(hyperparameters.learning_rate / (1 - 0.9**self.steps))
        weights -= scratch


def _parts(gradients: Sequence[Array]) -> Iterator[tuple[slice, Array]]:
    """Where each gradient lies in the flat buffers."""
    start = 0
    for gradient in gradients:
        yield slice(start, start + len(gradient)), gradient
        start += len(gradient)


def make_optimizer(name: str, size: int) -> Optimizer:
    """The optimizer called `name` over `size` trained values."""
    return Sgd(size) if name == "sgd" else Adam(size)
