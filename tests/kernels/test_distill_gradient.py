"""The scalar kernel in double: its gradient is the derivative of its loss."""

import numpy as np
import pytest

from fedagg_edge import kernels, reference


@pytest.mark.parametrize("direction", ["teacher||student", "student||teacher"])
@pytest.mark.parametrize(("t_s", "t_t"), [(3.0, 3.0), (1.0, 3.0), (0.4, 1.0)])
@pytest.mark.parametrize("c", [1, 2, 10, 50])
def test_finite_differences(rng: np.random.Generator, c: int, t_s: float, t_t: float, direction: str) -> None:
    n, step = 3, 1e-6
    s, t, y = rng.normal(size=(n, c)), rng.normal(size=(n, c)), rng.integers(0, c, n)
    mask = np.array([True, False, True])

    def loss(x: np.ndarray) -> kernels.DistillLoss:
        return kernels.distill_loss(
            x,
            t,
            y,
            ce_weight=0.7,
            kl_weight=5.0,
            temperature=t_s,
            teacher_temperature=t_t,
            direction=direction,
            mask_N=mask,
        )

    gradient = loss(s).gradient_NC
    assert gradient.dtype == np.float64
    for i in np.ndindex(n, c):
        shift = np.zeros((n, c))
        shift[i] = step
        assert gradient[i] == pytest.approx((loss(s + shift).loss - loss(s - shift).loss) / (2 * step), abs=2e-8)


@pytest.mark.parametrize("direction", ["teacher||student", "student||teacher"])
def test_double_matches_reference_to_double_precision(rng: np.random.Generator, direction: str) -> None:
    s, t, y = rng.normal(size=(9, 33)), rng.normal(size=(9, 33)), rng.integers(0, 33, 9)
    got = kernels.distill_loss(s, t, y, kl_weight=4.0, direction=direction)
    loss, ce, kl, gradient = reference.distill_loss(s, t, y, kl_weight=4.0, direction=direction)
    assert got[:3] == pytest.approx((loss, ce, kl), rel=1e-12)
    np.testing.assert_allclose(got.gradient_NC, gradient, rtol=1e-10, atol=1e-14)
