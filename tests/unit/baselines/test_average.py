import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.baselines.average import average, mix
from fedagg_edge.errors import DataError


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 40))
def test_the_mean_is_weighted_by_samples(seed, models, size):
    rng = np.random.default_rng(seed)
    models_P = [rng.normal(size=size).astype(np.float32) for _ in range(models)]
    counts = [int(n) for n in rng.integers(1, 500, models)]
    want = sum(n * w.astype(np.float64) for n, w in zip(counts, models_P, strict=True)) / sum(counts)
    got = average(models_P, counts)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_the_mean_of_one_is_itself_and_a_model_without_samples_counts_nothing():
    w = np.array([1.5, -2.0], np.float32)
    np.testing.assert_array_equal(average([w], [7]), w)
    np.testing.assert_array_equal(average([w, w + 9], [7, 0]), w)


@pytest.mark.parametrize("counts", [[], [0, 0], [3]])
def test_nothing_to_average_is_refused(counts):
    with pytest.raises(DataError, match="average: got 2 models of"):
        average([np.zeros(2, np.float32)] * 2, counts)


def test_mix_goes_from_one_model_to_the_other():
    a, b = np.array([0.0, 4.0], np.float32), np.array([10.0, 2.0], np.float32)
    np.testing.assert_array_equal(mix(a, b, 0.0), a)
    np.testing.assert_array_equal(mix(a, b, 1.0), b)
    np.testing.assert_allclose(mix(a, b, 0.7), 0.3 * a + 0.7 * b, rtol=1e-6)
