"""PSNR and SSIM against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from fedagg_edge.autoencoder.quality import pooled_psnr, psnr, sample_mse, ssim
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


def ssim_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al., eq. 13, position by position."""
    taps = min(11, min(a.shape[2:]) - (min(a.shape[2:]) + 1) % 2)
    g = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * 1.5**2))
    weight = np.outer(g, g) / np.outer(g, g).sum()
    values = []
    for x, y in zip(a.reshape(-1, *a.shape[2:]), b.reshape(-1, *b.shape[2:]), strict=True):
        for i in range(x.shape[0] - taps + 1):
            for j in range(x.shape[1] - taps + 1):
                u, v = x[i : i + taps, j : j + taps], y[i : i + taps, j : j + taps]
                mu, mv = (weight * u).sum(), (weight * v).sum()
                vu, vv = (weight * u * u).sum() - mu**2, (weight * v * v).sum() - mv**2
                c = (weight * u * v).sum() - mu * mv
                values.append((2 * mu * mv + 1e-4) * (2 * c + 9e-4) / ((mu * mu + mv * mv + 1e-4) * (vu + vv + 9e-4)))
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(2, 3, 14, 13), (2, 1, 8, 8)])
def test_structural_similarity_is_the_paper_s(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a = rng.random(shape)
    b = np.clip(a + rng.normal(0, 0.2, shape), 0, 1)
    assert ssim(a, b) == pytest.approx(ssim_by_hand(a, b), rel=1e-9)
    assert ssim(a * 255, b * 255, peak=255) == pytest.approx(ssim(a, b))
    assert ssim(a, a) == pytest.approx(1)


def test_similarity_of_windows_and_what_it_cannot_compare() -> None:
    a = np.random.default_rng(1).random((300, 2, 20))
    assert ssim(a, a[::-1]) < 0.3 < ssim(a, 0.9 * a)
    with pytest.raises(DataError, match="two equal"):
        ssim(a, a[:1])
    with pytest.raises(DataError, match="two equal"):
        ssim(a[:, 0], a[:, 0])
