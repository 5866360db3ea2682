"""PSNR against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from fedagg_edge.autoencoder.quality import pooled_psnr, psnr, sample_mse
from fedagg_edge.errors import DataError


def test_known_errors_give_known_decibels() -> None:
    a = np.zeros((2, 1, 4, 4), np.float32)
    b = np.stack([np.full((1, 4, 4), 0.1), np.full((1, 4, 4), 0.01)])
    assert sample_mse(a, b) == pytest.approx([1e-2, 1e-4])
    assert psnr(a, b) == pytest.approx((20 + 40) / 2)
    assert pooled_psnr(a, b) == pytest.approx(-10 * np.log10(0.00505))
    assert psnr(a * 255, b * 255, peak=255) == pytest.approx(30)


def test_equal_samples_count_one_hundred() -> None:
    a = np.ones((3, 5))
    assert psnr(a, a) == pytest.approx(100)
    assert pooled_psnr(a, a) == pytest.approx(100)


def test_float32_input_is_summed_in_float64() -> None:
    a = np.zeros((1, 1 << 20), np.float32)
    b = a + np.float32(1e-3)
    assert sample_mse(a, b)[0] == pytest.approx(float(np.float32(1e-3)) ** 2, rel=1e-12)


def test_pooled_is_never_above_the_mean() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((9, 7)), rng.random((9, 7))
    assert pooled_psnr(a, b) <= psnr(a, b)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (3, 3)), ((2,), (2,)), ((0, 3), (0, 3))])
def test_shapes_that_do_not_fit_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="expected two equal"):
        psnr(np.zeros(a), np.zeros(b))
