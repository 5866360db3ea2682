import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.baselines.kkr import refine
from fedagg_edge.errors import ConfigError


def softmax(z_NC):
    e = np.exp(z_NC.astype(np.float64) - z_NC.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def reference(z_C, peak):
    """The kernel as printed, one row at a time."""
    p_C, classes = softmax(z_C[None])[0], len(z_C)
    top = p_C.max()
    new_C = ((classes * peak - 1) * p_C + top - peak) / (classes * top - 1)
    if new_C.min() < 0:
        new_C = np.full(classes, (1 - peak) / (classes - 1))
        new_C[p_C.argmax()] = peak
    return new_C


@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.floats(0.01, 0.99), st.floats(-2, 3))
def test_each_row_is_the_affine_kernel_of_its_softmax(seed, classes, share, scale):
    rng = np.random.default_rng(seed)
    logits_NC = (rng.normal(size=(16, classes)) * 10**scale).astype(np.float32)
    peak = 1 / classes + share * (1 - 1 / classes)
    refined_NC = refine(logits_NC, peak)
    assert refined_NC.dtype == np.float32
    probability_NC = np.exp(refined_NC.astype(np.float64))
    np.testing.assert_allclose(probability_NC.max(axis=1), peak, rtol=1e-5)
    np.testing.assert_allclose(probability_NC.sum(axis=1), 1, rtol=1e-5)
    for z_C, row_C in zip(logits_NC, probability_NC, strict=True):
        np.testing.assert_allclose(row_C, reference(z_C, peak), rtol=1e-5, atol=2e-7)


def test_below_its_own_peak_a_row_keeps_its_order_and_its_proportions_above_uniform():
    z = np.array([[2.0, 0.5, -1.0, 0.0]], np.float32)
    excess = np.exp(refine(z, 0.4)[0].astype(np.float64)) - 0.25
    before = softmax(z)[0] - 0.25
    np.testing.assert_allclose(excess / before, 0.15 / before.max(), rtol=1e-5)


def test_a_row_that_would_become_negative_is_the_peak_and_equal_shares():
    z = np.array([[1.0, 0.9, -1.0, 0.0]], np.float32)
    np.testing.assert_allclose(np.exp(refine(z, 0.85))[0], [0.85, 0.05, 0.05, 0.05], rtol=1e-5)


def test_flat_rows_stay_flat_and_ties_share_the_peak():
    np.testing.assert_allclose(np.exp(refine(np.zeros((2, 4), np.float32), 0.5)), 0.25, rtol=1e-6)
    tie = np.exp(refine(np.array([[3.0, 3.0, 0.0, 0.0]], np.float32), 0.3))[0]
    np.testing.assert_allclose(tie, [0.3, 0.3, 0.2, 0.2], rtol=1e-5)


def test_nan_stays_nan():
    assert np.isnan(refine(np.array([[np.nan, 1.0, 2.0]], np.float32), 0.5)).all()


@pytest.mark.parametrize("peak", [0.0, 0.1, 1.0, 2.0, float("nan")])
def test_a_peak_that_cannot_be_is_refused(peak):
    with pytest.raises(ConfigError, match=r"methods.feddkc.peak: got .* expected more than 1/10"):
        refine(np.zeros((1, 10), np.float32), peak)
