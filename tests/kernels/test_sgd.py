"""The fused update on every instruction set against the float64 reference and torch."""

from typing import Any

import numpy as np
import pytest

from fedagg_edge import kernels, reference

OPTIONS: list[dict[str, Any]] = [
    {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False},
    {"momentum": 0.9, "weight_decay": 0.0, "nesterov": False},
    {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("p", [0, 1, 3, 4, 7, 8, 15, 16, 17, 1000, 100_003])
def test_matches_reference(isa: str, rng: np.random.Generator, p: int, options: dict[str, Any]) -> None:
    x, g, v = (rng.normal(size=p).astype(np.float32) for _ in range(3))
    expected, velocity = reference.sgd_step(x, g, v, learning_rate=0.1, **options)
    kernels.sgd_step(x, g, v, learning_rate=0.1, **options)
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)
    if options["momentum"]:
        np.testing.assert_allclose(v, velocity, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS[1:])
def test_ten_steps_are_torchs(isa: str, rng: np.random.Generator, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    x = rng.normal(size=37).astype(np.float32)
    parameter = torch.nn.Parameter(torch.tensor(x))
    optimizer = torch.optim.SGD([parameter], lr=0.05, **options)
    velocity = np.zeros(37, np.float32)
    for _ in range(10):
        g = rng.normal(size=37).astype(np.float32)
        parameter.grad = torch.tensor(g)
        optimizer.step()
        kernels.sgd_step(x, g, velocity, learning_rate=0.05, **options)
    np.testing.assert_allclose(x, parameter.detach().numpy(), rtol=2e-6, atol=1e-6)


def test_refusals() -> None:
    x, g = np.zeros(4, np.float32), np.zeros(4, np.float32)
    for words, args, options in (
        ("gradient_P: got shape .3., expected 4 parameters", (x, g[:3]), {}),
        ("velocity_P: got none", (x, g), {"momentum": 0.9}),
        ("momentum: got -1", (x, g), {"momentum": -1.0}),
        ("learning_rate: got nan", (x, g), {"learning_rate": float("nan")}),
        ("nesterov: got true without momentum", (x, g), {"nesterov": True}),
        ("parameters_P: got an array that overlaps gradient_P", (x, x), {}),
        ("velocity_P: got an array that overlaps gradient_P", (x, g, g), {"momentum": 0.9}),
    ):
        with pytest.raises(ValueError, match=words):
            kernels.sgd_step(*args, **{"learning_rate": 0.1, **options})  # type: ignore[arg-type]
