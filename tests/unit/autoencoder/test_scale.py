"""The one input scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.autoencoder.scale import measure_range, range_arrays, to_model_scale
from fedagg_edge.errors import DataError


def test_bytes_map_exactly() -> None:
    raw = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    x = to_model_scale(raw, *range_arrays(0, 255, 1), (1, 16, 16))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(np.rint(x * 255), raw)
    np.testing.assert_array_equal(x, (raw / 255).astype(np.float32))


def test_each_channel_has_its_own_range_and_outside_is_clipped() -> None:
    raw = np.array([[[-5.0, 0.0, 5.0, 100.0], [0.0, 1.0, 2.0, 3.0]]])
    x = to_model_scale(raw, *range_arrays((-5, 1), (5, 3), 2), (2, 4))
    np.testing.assert_allclose(x[0], [[0, 0.5, 1, 1], [0, 0, 0.5, 1]])


@given(st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_number_lands_in_the_unit_interval(value: float) -> None:
    x = to_model_scale(np.full((1, 1, 4), value), *range_arrays(-1, 1, 1), (1, 4))
    assert 0 <= x.min() <= x.max() <= 1


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((2, 1, 8)), r"expected numbers of shape \(N, 1, 4\)"),
        (np.zeros((1, 4)), "expected numbers"),
        (np.zeros((2, 1, 4), bool), "got bool"),
        (np.array([[[0, 1, np.nan, 2]]]), "row 0 holds NaN"),
        (np.array([[[0, 1, 2, 3]], [[0, np.inf, 0, 0]]]), "row 1 holds NaN or infinity"),
    ],
)
def test_unusable_samples_are_refused(raw: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_model_scale(raw, *range_arrays(0, 1, 1), (1, 4))


def test_a_measured_range_ignores_one_spike_and_survives_a_constant_channel() -> None:
    x = np.random.default_rng(0).normal(size=(100, 3, 50)).astype(np.float32)
    x[0, 0, 0] = 1e6
    x[:, 2] = 7.0
    low_C, high_C = measure_range(x)
    assert low_C[0] > -6
    assert high_C[0] < 6
    assert low_C[2] < 7 < high_C[2]


def test_bytes_are_not_measured() -> None:
    low_C, high_C = measure_range(np.zeros((4, 3, 8, 8), np.uint8))
    np.testing.assert_array_equal(low_C, [0, 0, 0])
    np.testing.assert_array_equal(high_C, [255, 255, 255])


@pytest.mark.parametrize(("low", "high"), [(1, 1), ((0, 0), (1,)), (0, np.inf), (0, (1, -1))])
def test_impossible_ranges_are_refused(low: object, high: object) -> None:
    with pytest.raises(DataError, match="input range"):
        range_arrays(low, high, 2)
