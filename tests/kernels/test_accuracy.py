"""The error bounds that docs/kernels.md promises, row by row and in batches, on every instruction set."""

import itertools
from typing import Any

import numpy as np
import pytest

from fedagg_edge import kernels, reference

SCALES = (0.0, 1e-3, 1.0, 3.0, 30.0, 1e4)
SHAPES = ((1, 1), (1, 2), (7, 3), (1, 5), (33, 10), (1, 16), (7, 17), (1, 48), (7, 49), (33, 100), (1, 1000))


def draw(rng: np.random.Generator, n: int, c: int, scale: float) -> tuple[Any, Any, Any]:
    s, t = ((scale * rng.normal(size=(n, c))).astype(np.float32) for _ in range(2))
    return s, t, rng.integers(0, c, n)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 2.0, 3.0, 7.0, 100.0])
def test_forward(isa: str, rng: np.random.Generator, temperature: float) -> None:
    weight = temperature**2  # Hinton's form with beta = 1
    for (n, c), scale in itertools.product((*SHAPES, (1, 32_000)), SCALES):
        s, t, y = draw(rng, n, c, scale)
        got = kernels.distill_loss(s, t, y, kl_weight=weight, temperature=temperature)
        _, ce, kl, _ = (
            reference.distill_loss(s, t, y, kl_weight=weight, temperature=temperature)
            if c < 2000
            else (
                0,
                -reference.log_softmax(s)[np.arange(n), y].mean(),
                *_divergence(s, t, temperature),
            )
        )
        assert abs(got.ce - ce) <= 1e-7 * max(1, ce), (n, c, scale)
        assert abs(got.kl - kl) <= 1e-6 * max(1, abs(kl)), (n, c, scale)
        if c < 2000:
            gradient = reference.distill_loss(s, t, y, kl_weight=weight, temperature=temperature)[3]
            worst = n * np.abs(got.gradient_NC - gradient).max()
            assert worst <= 5e-7 * max(1, temperature), (n, c, scale)


def _divergence(s: Any, t: Any, temperature: float) -> tuple[float, None]:
    log_s, log_t = (reference.log_softmax(z, temperature) for z in (s, t))
    return float((np.exp(log_t) * (log_t - log_s)).sum(axis=1).mean()), None


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 3.0, 100.0])
def test_reverse_is_no_worse_than_twice_torchs_float(isa: str, rng: np.random.Generator, temperature: float) -> None:
    torch = pytest.importorskip("torch")
    for (n, c), scale in itertools.product(SHAPES, SCALES):
        s, t, _ = draw(rng, n, c, scale)
        options: dict[str, Any] = {"ce_weight": 0.0, "kl_weight": 1.0, "temperature": temperature}
        got = kernels.distill_loss(s, t, direction="student||teacher", **options)
        _, _, kl, gradient = reference.distill_loss(s, t, direction="student||teacher", **options)
        assert abs(got.kl - kl) <= 1e-6 * max(1, abs(kl)), (n, c, scale)
        x = torch.tensor(s, requires_grad=True)
        log_s = torch.log_softmax(x / temperature, 1)
        log_t = torch.log_softmax(torch.tensor(t) / temperature, 1)
        ((log_s.exp() * (log_s - log_t)).sum() / n).backward()
        eager = np.abs(x.grad.numpy() - gradient).max()
        # an error that is itself at rounding level is not torch's to beat
        allowed = max(2 * eager, 5e-7 * max(1, 1 / temperature) / n)
        assert np.abs(got.gradient_NC - gradient).max() <= allowed, (n, c, scale)
