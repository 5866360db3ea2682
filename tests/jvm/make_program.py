"""Writes fixtures/small.pte by the real exporter, for the JVM's tests: what a phone's ExecuTorch would train.

    python tests/jvm/make_program.py      # needs torch and executorch (make test-executorch makes such an environment)

A convolution, batch norm, max pooling and dropout on samples of 1x4x4, 3 classes, batches of up to 8.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fedagg_edge.export.executorch import export_executorch

SHAPE, CLASSES, ROWS = (1, 4, 4), 3, 8


def main() -> None:
    torch.manual_seed(1)
    first = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    model = nn.Sequential(*first, nn.Dropout(0.25), nn.Linear(8, CLASSES))
    export_executorch(model, SHAPE, CLASSES, Path(__file__).parent / "fixtures" / "small.pte", rows=ROWS)


if __name__ == "__main__":
    main()
