"""How far torch leaves itself in 20 steps of a ResNet: ``python tests/golden/drift.py``.

Plain SGD on the golden cases' shape in float32 beside float64, beside another order of sums (channels last in memory),
and beside a first layer that is larger by one part in ten million. Prints the largest differences of weights after the
first and after the last step. Figures: docs/decisions/deep-models-drift.md.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.nn import functional

from fedagg_edge.learners.zoo import build_model

STEPS, ROWS, SHAPE, CLASSES = 20, 6, (3, 16, 16), 5


def weights(model: torch.nn.Module) -> Tensor:
    """All parameters in one float64 vector."""
    return torch.cat([p.detach().double().contiguous().reshape(-1) for p in model.parameters()])


def train(
    name: str,
    rate: float,
    *,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.contiguous_format,
    nudge: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The weights after the first and after the last step."""
    torch.manual_seed(0)
    model = build_model(name, SHAPE, CLASSES, width=4).to(dtype).to(memory_format=layout)
    with torch.no_grad():
        next(model.parameters()).mul_(1 + nudge)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
    generator, found = torch.Generator().manual_seed(1), []
    for _ in range(STEPS):
        x_N = torch.randn(ROWS, *SHAPE, generator=generator, dtype=torch.float64).to(dtype).to(memory_format=layout)
        y_N = torch.randint(0, CLASSES, (ROWS,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(x_N), y_N).backward()
        optimizer.step()
        found.append(weights(model))
    return found[0], found[-1]


def main() -> None:
    """Print a line a model and rate."""
    torch.set_num_threads(1)
    for name in ("resnet10", "resnet18"):
        for rate in (1e-5, 1e-3, 1e-2):
            base = train(name, rate)
            others = {
                "float64": train(name, rate, dtype=torch.float64),
                "order of sums": train(name, rate, layout=torch.channels_last),
                "nudge of 1e-7": train(name, rate, nudge=1e-7),
            }
            apart = {
                k: [f"{float((a - b).abs().max()):.0e}" for a, b in zip(base, v, strict=True)]
                for k, v in others.items()
            }
            sys.stdout.write(f"{name} at {rate:g}: " + "; ".join(f"{k} {a}, {b}" for k, (a, b) in apart.items()) + "\n")


if __name__ == "__main__":
    main()
