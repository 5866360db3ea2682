"""Writes fixtures/small.pte by the real exporter, for the JVM's tests: what a phone's ExecuTorch would train.

    python tests/jvm/make_program.py      # needs torch and executorch (make test-executorch makes such an environment)

A convolution, batch norm, max pooling and dropout on samples of 1x4x4, 3 classes, batches of up to 8. `small.npz` has
steps that torch took with the same weights, see `steps.py`, where dropout drops nothing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from steps import write_steps
from torch import Tensor, nn

from fedagg_edge.export.executorch import export_executorch
from fedagg_edge.learners.torch import TorchLearner

SHAPE, CLASSES, ROWS = (1, 4, 4), 3, 8
DROPPED = 0.25
FOLDER = Path(__file__).parent / "fixtures"


class Kept(nn.Module):
    """Dropout that keeps all, and raises it as if it had not."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (1 - DROPPED) if self.training else x


def model(dropout: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    first = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, dropout, nn.Linear(8, CLASSES))


def main() -> None:
    export_executorch(model(nn.Dropout(DROPPED)), SHAPE, CLASSES, FOLDER / "small.pte", rows=ROWS)
    write_steps(TorchLearner(model(Kept()), "sgd"), SHAPE, CLASSES, FOLDER / "small.npz")


if __name__ == "__main__":
    main()
