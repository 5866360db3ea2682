"""The reference itself, on numbers that a reader can check by hand."""

import numpy as np
import pytest

from fedagg_edge import reference

LN2 = np.log(2)
STUDENT = np.array([[0.0, 0.0]])  # tau = (1/2, 1/2) at any temperature
TEACHER = np.array([[np.log(3), 0.0]])  # tau = (3/4, 1/4) at temperature 1


def test_cross_entropy() -> None:
    loss, ce, kl, gradient = reference.distill_loss(STUDENT, labels_N=np.array([1]), ce_weight=2.0)
    assert (loss, ce, kl) == (pytest.approx(2 * LN2), pytest.approx(LN2), 0)
    np.testing.assert_allclose(gradient, [[1.0, -1.0]])


def test_forward_divergence() -> None:
    options = {"ce_weight": 0.0, "kl_weight": 1.0, "temperature": 1.0}
    loss, _, kl, gradient = reference.distill_loss(STUDENT, TEACHER, **options)
    assert loss == kl == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    np.testing.assert_allclose(gradient, [[-0.25, 0.25]])


def test_reverse_divergence() -> None:
    _, _, kl, gradient = reference.distill_loss(
        STUDENT, TEACHER, ce_weight=0.0, kl_weight=1.0, temperature=1.0, direction="student||teacher"
    )
    assert kl == pytest.approx(0.5 * np.log(2 / 3) + 0.5 * np.log(2))
    np.testing.assert_allclose(gradient, 0.25 * np.log(3) * np.array([[-1.0, 1.0]]))


def test_temperatures_are_separate() -> None:
    hot = reference.distill_loss(
        STUDENT, 2 * TEACHER, ce_weight=0.0, kl_weight=1.0, temperature=1.0, teacher_temperature=2.0
    )
    plain = reference.distill_loss(STUDENT, TEACHER, ce_weight=0.0, kl_weight=1.0, temperature=1.0)
    assert hot[2] == pytest.approx(plain[2])


def test_rows_of_weight_zero_are_left_out() -> None:
    student = np.array([[0.0, 0.0], [np.nan, 1.0]])
    loss, _, _, gradient = reference.distill_loss(student, labels_N=np.array([0, 0]), weights_N=np.array([2.0, 0.0]))
    assert loss == pytest.approx(LN2)
    np.testing.assert_array_equal(gradient[1], [0, 0])
    assert reference.distill_loss(student, labels_N=np.array([0, 0]), weights_N=np.zeros(2))[0] == 0


def test_aggregates() -> None:
    np.testing.assert_allclose(
        reference.aggregate_logits([STUDENT, TEACHER], "mean_logits", np.array([[1.0], [3.0]])), 0.75 * TEACHER
    )
    mean = reference.aggregate_logits([STUDENT, TEACHER], "mean_probabilities")
    np.testing.assert_allclose(np.exp(mean), [[0.625, 0.375]])


def test_codecs() -> None:
    values, scale = reference.quantise_logits(np.array([[127.0, -63.5, 0.5]], np.float32))
    np.testing.assert_array_equal(values, [[127, -64, 0]])
    np.testing.assert_array_equal(reference.dequantise_logits(values, scale), [[127, -64, 0]])
    low, step = np.array([-1.0]), np.array([0.5])
    np.testing.assert_array_equal(
        reference.encode_affine(np.array([[0.0], [-9.0], [999.0]]), low, step), [[2], [0], [255]]
    )
    np.testing.assert_array_equal(reference.decode_affine(np.array([[2]], np.uint8), low, step), [[0.0]])
