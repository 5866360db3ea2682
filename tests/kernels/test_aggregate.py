"""Aggregation on every instruction set against the float64 reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import CLASSES

from fedagg_edge import kernels, reference

METHODS = ("mean_logits", "mean_probabilities", "entropy_weighted", "trimmed_mean", "median")


def teachers(rng: np.random.Generator, k: int, n: int, c: int, scale: float = 3.0) -> list[Any]:
    return [(scale * rng.normal(size=(n, c))).astype(np.float32) for _ in range(k)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("c", CLASSES)
def test_matches_reference(isa: str, rng: np.random.Generator, c: int, method: Any) -> None:
    for k, n in ((1, 1), (2, 7), (3, 16), (5, 37), (12, 17)):
        z = teachers(rng, k, n, c)
        got = kernels.aggregate_logits(z, method=method)
        np.testing.assert_allclose(
            got, reference.aggregate_logits(z, method), rtol=1e-6, atol=2e-5 if "entropy" in method else 4e-6
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("c", [1, 3, 10, 48, 49, 600])
def test_weights_and_masks(isa: str, rng: np.random.Generator, c: int, method: Any) -> None:
    k, n = 4, 39
    z = teachers(rng, k, n, c)
    weights = rng.random(k).astype(np.float32)
    sample_weights = rng.random((k, n)).astype(np.float32)
    mask = rng.random((k, n)) < 0.7
    mask[0] = True
    every = weights[:, None] * sample_weights * mask
    got = kernels.aggregate_logits(z, method=method, weights_K=weights, sample_weights_KN=sample_weights, mask_KN=mask)
    np.testing.assert_allclose(got, reference.aggregate_logits(z, method, every), rtol=1e-5, atol=5e-6)
    got = kernels.aggregate_logits(z, method=method, weights_K=weights)
    fixed = np.repeat(weights[:, None], n, axis=1)
    np.testing.assert_allclose(got, reference.aggregate_logits(z, method, fixed), rtol=1e-5, atol=5e-6)
    for i in range(k):
        z[i][~mask[i]] = np.nan
    masked = kernels.aggregate_logits(z, method=method, mask_KN=mask)
    assert np.isfinite(masked).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("c", [2, 10, 49, 200])
def test_mixed_storage_types(isa: str, rng: np.random.Generator, c: int, method: Any) -> None:
    z = teachers(rng, 3, 25, c)
    stored = [z[0], kernels.to_f16(z[1]), kernels.quantise_logits(z[2])]
    wide = [z[0], stored[1].astype(np.float32), kernels.dequantise_logits(stored[2])]
    got = kernels.aggregate_logits(stored, method=method)
    np.testing.assert_allclose(got, kernels.aggregate_logits(wide, method=method), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("c", [1, 5, 16, 49, 70])
def test_nan_makes_its_row_or_element_nan(isa: str, rng: np.random.Generator, c: int, method: Any) -> None:
    z = teachers(rng, 3, 20, c)
    z[1][4, c - 1] = np.nan
    got = kernels.aggregate_logits(z, method=method)
    assert np.isnan(got[4, c - 1])
    if method in {"mean_probabilities", "entropy_weighted"}:
        assert np.isnan(got[4]).all()
    assert np.isfinite(np.delete(got, 4, axis=0)).all()


@pytest.mark.parametrize("c", [2, 10, 60])
def test_probabilities_that_underflow_keep_a_logarithm(isa: str, rng: np.random.Generator, c: int) -> None:
    z = teachers(rng, 3, 18, c, scale=1e4)
    got = kernels.aggregate_logits(z, method="mean_probabilities")
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, reference.aggregate_logits(z, "mean_probabilities"), rtol=2e-6, atol=2e-3)
    for teacher in z:
        teacher[3, 0] = -np.inf
    assert kernels.aggregate_logits(z, method="mean_probabilities")[3, 0] == -np.inf


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7, 8, 9, 16, 33, 70])
def test_order_statistics_of_any_number_of_teachers(isa: str, rng: np.random.Generator, k: int) -> None:
    z = teachers(rng, k, 5, 9)
    np.testing.assert_array_equal(
        kernels.aggregate_logits(z, method="median"), np.median(np.stack(z), axis=0).astype(np.float32)
    )
    for trim in (0.0, 0.1, 0.4):
        got = kernels.aggregate_logits(z, method="trimmed_mean", trim=trim)
        np.testing.assert_allclose(got, reference.aggregate_logits(z, "trimmed_mean", trim=trim), rtol=1e-5, atol=3e-6)


def test_the_median_outvotes_an_infinity(isa: str) -> None:
    z = [np.full((2, 3), v, np.float32) for v in (1.0, 2.0, np.inf)]
    assert (kernels.aggregate_logits(z, method="median") == 2).all()


@pytest.mark.parametrize("c", [1, 2, 10, 48, 49, 300])
def test_confidence(isa: str, rng: np.random.Generator, c: int) -> None:
    z = teachers(rng, 1, 21, c)[0]
    z[0], z[1] = 0, 1e4 * np.eye(1, c)
    got = kernels.confidence(z)
    np.testing.assert_allclose(got, reference.confidence(z), rtol=2e-6)
    assert got[:2] == pytest.approx([1 / c, 1], rel=1e-6)
    np.testing.assert_allclose(
        kernels.confidence(kernels.to_f16(z)), reference.confidence(kernels.to_f16(z)), rtol=2e-6
    )


@pytest.mark.parametrize("method", ["mean_logits", "mean_probabilities", "entropy_weighted"])
def test_child_by_child(isa: str, rng: np.random.Generator, method: Any) -> None:
    z = teachers(rng, 5, 12, 10)
    weights = rng.random((5, 12)).astype(np.float32)
    weights[1, 3] = weights[4, 4] = 0
    z[1][3] = np.nan
    running = kernels.RunningAggregate(method)
    for k in (2, 0, 1, 4, 3):
        running.add(kernels.quantise_logits(z[k]) if k == 2 else z[k], weights[k])
    z[2] = kernels.dequantise_logits(kernels.quantise_logits(z[2]))
    every = kernels.aggregate_logits(z, method=method, sample_weights_KN=weights)
    np.testing.assert_allclose(running.result(), every, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("method", ["mean_logits", "mean_probabilities", "entropy_weighted"])
def test_child_by_child_a_nan_stays(isa: str, rng: np.random.Generator, method: Any) -> None:
    z = teachers(rng, 3, 12, 10)
    z[1][3, 4] = np.nan
    running = kernels.RunningAggregate(method)
    for teacher in z:
        running.add(teacher)
    every = kernels.aggregate_logits(z, method=method)
    np.testing.assert_array_equal(np.isnan(running.result()), np.isnan(every))
    np.testing.assert_allclose(running.result(), every, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("c", [2, 200])
def test_many_small_shares_of_a_probability(isa: str, c: int) -> None:
    """Seven teachers' shares are below 2^-126 each, together a fifth of what the eighth brings."""
    z = [np.full((16, c), -1000, np.float32) for _ in range(8)]
    for teacher in z:
        teacher[:, 0], teacher[:, 1] = 0, -126.6 * np.log(2)
    z[0][:, 1] = -126 * np.log(2) + np.log(8) + 1e-3
    got = kernels.aggregate_logits(z, method="mean_probabilities")
    np.testing.assert_allclose(got[:, 1], reference.aggregate_logits(z, "mean_probabilities")[:, 1], rtol=1e-6)


@pytest.mark.parametrize("method", ["mean_logits", "mean_probabilities", "entropy_weighted"])
@pytest.mark.parametrize("size", [1e-300, 1e-46, 1e39, 1e300])
def test_child_by_child_with_weights_of_any_size(rng: np.random.Generator, method: Any, size: float) -> None:
    z = teachers(rng, 3, 5, 10)
    running = kernels.RunningAggregate(method)
    for k, teacher in enumerate(z):
        running.add(teacher, (k + 1) * size)
    every = kernels.aggregate_logits(z, method=method, weights_K=np.array([1, 2, 3], np.float32))
    np.testing.assert_allclose(running.result(), every, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("method", ["mean_logits", "mean_probabilities", "entropy_weighted"])
def test_child_by_child_refused_teachers_leave_no_trace(method: Any) -> None:
    running = kernels.RunningAggregate(method)
    z = np.ones((3, 4), np.float32)
    for bad, weight, words in [
        (np.ones((5, 2)), 1.0, "logits_NC: got float64"),
        (z, np.array([1.0, np.nan, 1.0]), "weight_N: got nan at sample 1"),
        (z, np.ones(2), r"weight_N: got shape \[2\], expected one number or \[3\]"),
        (z.tolist(), 1.0, "logits_NC: got list"),
        (z[0], 1.0, r"logits_NC: got shape \[4\], expected \[N, C\]"),
        (z[0, 0], 1.0, r"logits_NC: got shape \[\]"),
    ]:
        with pytest.raises((TypeError, ValueError), match=words):
            running.add(bad, weight)  # type: ignore[arg-type]
    running.add(z)
    with pytest.raises(ValueError, match=r"logits_NC: got shape \[2, 4\], expected \[3, 4\] as before"):
        running.add(z[:2])
    np.testing.assert_allclose(running.result(), kernels.aggregate_logits([z], method=method), rtol=1e-6)


def test_child_by_child_refusals() -> None:
    with pytest.raises(ValueError, match="method: got 'median'"):
        kernels.RunningAggregate("median")  # type: ignore[arg-type]
    running = kernels.RunningAggregate()
    with pytest.raises(ValueError, match="got none"):
        running.result()
    running.add(np.zeros((2, 3), np.float32), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="sum of 0 at sample 1"):
        running.result()


def test_empty_and_out(isa: str, rng: np.random.Generator) -> None:
    assert kernels.aggregate_logits([np.empty((0, 3), np.float32)]).shape == (0, 3)
    z = teachers(rng, 2, 5, 10)
    out = np.empty((5, 10), np.float32)
    assert kernels.aggregate_logits(z, out=out) is out
    np.testing.assert_array_equal(out, kernels.aggregate_logits(z))


@settings(max_examples=60)
@given(data=st.data(), k=st.integers(1, 5), n=st.integers(1, 20), c=st.integers(1, 60))
def test_one_teacher_repeated_is_itself(data: st.DataObject, k: int, n: int, c: int) -> None:
    seed = data.draw(st.integers(0, 2**31))
    z = (np.random.default_rng(seed).normal(size=(n, c)) * 4).astype(np.float32)
    np.testing.assert_allclose(kernels.aggregate_logits([z] * k), z, rtol=2e-6, atol=1e-6)
    log_p = kernels.aggregate_logits([z] * k, method="mean_probabilities")
    np.testing.assert_allclose(log_p, reference.log_softmax(z), rtol=2e-6, atol=2e-6)
    assert np.exp(log_p.astype(np.float64)).sum(axis=1) == pytest.approx(np.ones(n), abs=1e-5)
