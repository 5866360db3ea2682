"""Helpers of the tests of ExecuTorch's rewrites: each is torch's operator exactly, in float64. No test lives here."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
WINDOWS = list(itertools.product([(2, 2), (3, 2)], [(2, 2), (1, 2), (3, 1)], [(0, 0), (1, 1)], [(8, 8), (7, 9)]))


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def same(mine: tuple[Any, ...], torchs: tuple[Any, ...]) -> None:
    for a, b in zip(mine, torchs, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
