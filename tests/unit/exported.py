"""Small models exported to ExecuTorch once per test run, for several test modules. No test lives here."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from fedagg_edge.learners.base import Batch

CLASSES = 3
DENSE, IMAGE = (6,), (2, 4, 4)


def dense() -> nn.Module:
    """Two linear layers."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES))


def image(*more: nn.Module) -> nn.Module:
    """What the runtime itself gets wrong or slow: convolution, batch norm, max pooling; and `more`."""
    torch.manual_seed(2)
    first = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, *more, nn.Linear(16, CLASSES))


def random() -> nn.Module:
    """`image` with dropout."""
    return image(nn.Dropout(0.25))


@cache
def exported(name: str) -> bytes:
    """The file of one of the models above."""
    from fedagg_edge.export.executorch import compile_program  # only where ExecuTorch is installed

    shape = DENSE if name == "dense" else IMAGE
    return compile_program(globals()[name](), shape, CLASSES, rows=8)[0]


def batch(shape: tuple[int, ...], rows: int = 5, seed: int = 0, *, leaf: bool = True) -> Batch:
    """Random samples, labels and teacher logits."""
    rng = np.random.default_rng(seed)
    x_N, bridge_x_N = (rng.random((rows, *shape), np.float32) for _ in range(2))
    y_N = rng.integers(0, CLASSES, rows)
    teacher_NC = rng.standard_normal((rows, CLASSES), np.float32)
    return Batch(bridge_x_N, y_N, teacher_NC, *((x_N, y_N) if leaf else ()))
