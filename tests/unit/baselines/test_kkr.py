import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.baselines.kkr import refine
from fedagg_edge.errors import ConfigError


def softmax(z_NC):
    e = np.exp(z_NC.astype(np.float64) - z_NC.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.floats(0.01, 0.99), st.floats(-3, 3))
def test_all_rows_peak_alike_and_keep_their_order(seed, classes, share, scale):
    rng = np.random.default_rng(seed)
    logits_NC = (rng.normal(size=(16, classes)) * 10**scale).astype(np.float32)
    peak = 1 / classes + share * (1 - 1 / classes)
    refined_NC = refine(logits_NC, peak)
    assert refined_NC.dtype == np.float32
    probability_NC = np.exp(refined_NC.astype(np.float64))
    np.testing.assert_allclose(probability_NC.sum(axis=1), 1, rtol=1e-5)
    first, second = np.sort(logits_NC, axis=1)[:, -1], np.sort(logits_NC, axis=1)[:, -2]
    apart = (first - second) > 1e-3 * np.abs(first)  # equal peaks share what there is
    np.testing.assert_allclose(probability_NC.max(axis=1)[apart], peak, rtol=1e-4)
    assert (probability_NC.max(axis=1) <= peak * (1 + 1e-4)).all() or not apart.all()
    for before, after in zip(logits_NC, refined_NC, strict=True):
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= -1e-6).all()


def test_the_refined_row_is_a_power_of_the_softmax():
    z = np.array([[2.0, 0.5, -1.0, 0.0]], np.float32)
    refined = refine(z, 0.4)[0].astype(np.float64)
    factor = (refined[0] - refined[1]) / 1.5
    np.testing.assert_allclose(np.exp(refined), softmax(factor * z)[0], rtol=1e-5)


def test_devices_of_any_confidence_become_congruent():
    z_NC = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
    shy, loud = refine(0.01 * z_NC, 0.12), refine(100 * z_NC, 0.12)
    np.testing.assert_allclose(shy, loud, atol=1e-4)


def test_flat_rows_stay_flat_and_ties_share():
    np.testing.assert_allclose(np.exp(refine(np.zeros((2, 4), np.float32), 0.5)), 0.25, rtol=1e-6)
    tie = np.exp(refine(np.array([[3.0, 3.0, 0.0, 0.0]], np.float32), 0.9))[0]
    np.testing.assert_allclose(tie, [0.5, 0.5, 0, 0], atol=1e-6)


def test_nan_stays_nan():
    assert np.isnan(refine(np.array([[np.nan, 1.0, 2.0]], np.float32), 0.5)).all()


@pytest.mark.parametrize("peak", [0.0, 0.1, 1.0, 2.0, float("nan")])
def test_a_peak_that_cannot_be_is_refused(peak):
    with pytest.raises(ConfigError, match=r"methods.feddkc.peak: got .* expected more than 1/10"):
        refine(np.zeros((1, 10), np.float32), peak)
