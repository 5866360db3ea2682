"""The golden cases: a layer of every kind that the compiler covers, the zoo but ResNet-18. No test lives here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedagg_edge.learners.zoo import build_model

CLASSES = 5
IMAGE, WINDOW, WORDS = (3, 12, 12), (4, 16), (6,)


@dataclass(frozen=True)
class Case:
    """A model and what it is trained with. `ties`: samples of few values, so that windows have several maxima.
    `constant`: every value of a batch is the same, so that variances are 0.
    `learning_rate`: less where rounding errors grow from step to step: a variance of 0 multiplies them by 316, a deep
    network of few values a norm is near a kink somewhere at every step.
    `seed`: of samples whose first step keeps away from the kinks of ReLU (test_golden.py asserts it)."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = IMAGE
    optimizer: str = "sgd"
    ties: bool = False
    constant: bool = False
    seed: int = 0
    learning_rate: float = 0.01
    later_rate: float | None = None  # of all steps but the first, where it differs


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


class Lookup(nn.Module):
    """Rows of a table for samples in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.table((8 * x).long()).flatten(1)
        return out


class Frozen(nn.BatchNorm2d):
    """A batch norm that stays in evaluation mode, with running statistics that are not 0 and 1."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(False)
        return self

    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        self.running_mean.copy_(torch.linspace(-0.2, 0.3, self.num_features))
        self.running_var.copy_(torch.linspace(0.5, 2.0, self.num_features))


class Dropout(nn.Module):
    """nn.Dropout, or one with `masks` to use, private and bridge batch in turn: torch's random numbers are not ours."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.keep = 1 - p
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.masks:
            return x * self.masks.pop(0) / self.keep
        return nn.functional.dropout(x, 1 - self.keep, self.training)


def net(*layers: nn.Module, shape: tuple[int, ...] = IMAGE) -> Callable[[], nn.Module]:
    """The layers, flattened, and a linear layer to the classes."""

    def build() -> nn.Module:
        body = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            body.eval()
            size = body(torch.rand(2, *shape)).shape[1]
        return nn.Sequential(body, nn.Linear(size, CLASSES)).train()

    return build


def conv(*layers: nn.Module) -> Callable[[], nn.Module]:
    """A first convolution below the layers, so that they must pass gradients on."""
    return net(nn.Conv2d(3, 4, 3, padding=1), *layers)


def signal(*layers: nn.Module) -> Callable[[], nn.Module]:
    """The same for sensor windows."""
    return net(nn.Conv1d(4, 6, 3, padding=1), *layers, shape=WINDOW)


def zoo(name: str, shape: tuple[int, ...], **options: int) -> Callable[[], nn.Module]:
    """A model of the zoo."""
    return lambda: build_model(name, shape, CLASSES, **options)


CASES = {
    "linear": Case(net(nn.Flatten(), nn.Linear(432, 8), nn.ReLU())),
    "linear, adam": Case(net(nn.Flatten(), nn.Linear(432, 8), nn.Tanh()), optimizer="adam"),
    "conv2d": Case(conv(nn.Conv2d(4, 6, 3), nn.ReLU())),
    "conv2d, stride and padding": Case(conv(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU()), seed=1),
    "conv2d, 1x1": Case(conv(nn.Conv2d(4, 6, 1), nn.ReLU())),
    "conv2d, 1x1 of stride 2": Case(conv(nn.Conv2d(4, 6, 1, stride=2), nn.ReLU())),
    "conv2d, large": Case(conv(nn.Conv2d(4, 6, 7, stride=2, padding=3), nn.ReLU())),
    "conv2d, dilated": Case(conv(nn.Conv2d(4, 6, 3, padding=2, dilation=2), nn.ReLU())),
    "conv2d, groups": Case(conv(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.ReLU())),
    "conv2d, many channels": Case(conv(nn.Conv2d(4, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 9, 3, padding=1))),
    "depthwise": Case(conv(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU())),
    "depthwise, stride": Case(conv(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4), nn.ReLU())),
    "conv1d": Case(signal(nn.Conv1d(6, 5, 5, padding=2), nn.ReLU()), WINDOW),
    "conv1d, stride": Case(signal(nn.Conv1d(6, 5, 3, stride=2), nn.ReLU()), WINDOW),
    "conv1d, depthwise": Case(signal(nn.Conv1d(6, 6, 3, padding=1, groups=6), nn.ReLU()), WINDOW),
    "batchnorm2d": Case(conv(nn.BatchNorm2d(4), nn.ReLU())),
    "batchnorm1d": Case(signal(nn.BatchNorm1d(6), nn.ReLU()), WINDOW),
    "batchnorm of rows": Case(net(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), shape=WINDOW), WINDOW),
    "batchnorm in evaluation": Case(conv(Frozen(4), nn.ReLU())),
    "batchnorm2d, zero variance": Case(
        net(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Tanh()), constant=True, learning_rate=1e-3
    ),
    "batchnorm of rows, zero variance": Case(
        net(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Tanh(), shape=WINDOW),
        WINDOW,
        constant=True,
        learning_rate=1e-3,
    ),
    "layernorm, zero variance": Case(
        net(nn.Conv2d(3, 4, 1), nn.LayerNorm([12, 12]), nn.Tanh()), constant=True, learning_rate=1e-3
    ),
    "groupnorm, zero variance": Case(
        net(nn.Conv2d(3, 4, 1), nn.GroupNorm(4, 4), nn.Tanh()), constant=True, learning_rate=1e-3
    ),
    "layernorm": Case(conv(nn.LayerNorm([4, 12, 12]), nn.ReLU())),
    "groupnorm": Case(conv(nn.GroupNorm(2, 4), nn.ReLU())),
    "relu6": Case(conv(nn.ReLU6())),
    "gelu": Case(conv(nn.GELU())),
    "gelu, tanh": Case(conv(nn.GELU(approximate="tanh"))),
    "hardswish": Case(conv(nn.Hardswish())),
    "silu": Case(conv(nn.SiLU())),
    "maxpool": Case(conv(nn.ReLU(), nn.MaxPool2d(2))),
    "maxpool, overlapping": Case(conv(nn.MaxPool2d(3, 2, 1))),
    "maxpool, ties": Case(net(nn.MaxPool2d(2), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.MaxPool2d(3)), ties=True),
    "maxpool1d": Case(signal(nn.MaxPool1d(2)), WINDOW),
    "avgpool": Case(conv(nn.AvgPool2d(2))),
    "avgpool, overlapping": Case(conv(nn.AvgPool2d(3, 2, 1))),
    "adaptive avgpool": Case(conv(nn.AdaptiveAvgPool2d(1))),
    "adaptive avgpool to 3": Case(conv(nn.AdaptiveAvgPool2d(3))),
    "adaptive avgpool1d": Case(signal(nn.AdaptiveAvgPool1d(1)), WINDOW),
    "residual": Case(conv(Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())))),
    "dropout": Case(net(nn.Flatten(), nn.Linear(432, 8), nn.Tanh(), Dropout(0.3))),
    "dropout beside batchnorm": Case(conv(nn.BatchNorm2d(4), Dropout(0.2), nn.Tanh())),
    # no bias below the norm: its gradient is 0 but for rounding errors, which Adam scales to whole steps
    "conv2d, adam": Case(net(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Tanh()), optimizer="adam"),
    "conv1d, groups": Case(signal(nn.Conv1d(6, 4, 3, padding=1, groups=2), nn.ReLU()), WINDOW),
    "embedding": Case(net(Lookup(), shape=WORDS), WORDS),
    "mlp": Case(zoo("mlp", (1, 8, 8)), (1, 8, 8)),
    "cnn3": Case(zoo("cnn3", (3, 16, 16)), (3, 16, 16)),
    "dwcnn": Case(zoo("dwcnn", (3, 16, 16)), (3, 16, 16)),
    "cnn1d": Case(zoo("cnn1d", (6, 32)), (6, 32)),
    # at larger rates torch leaves itself: docs/decisions/deep-models-drift.md
    "resnet10": Case(zoo("resnet10", (3, 16, 16), width=4), (3, 16, 16), later_rate=1e-5),
    "resnet18": Case(zoo("resnet18", (3, 16, 16), width=4), (3, 16, 16), later_rate=1e-5),
}
"""Name -> case."""
