from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.errors import CheckpointError
from fedagg_edge.teachers import Rectifier, ensemble, trust_weights


def softmax(z_NC):
    e_NC = np.exp(z_NC.astype(np.float64) - z_NC.max(axis=1, keepdims=True))
    return e_NC / e_NC.sum(axis=1, keepdims=True)


def drawn(rows, classes=4, seed=0, scale=2.0, held_back=0.0):
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, classes, rows)
    label_N[rng.random(rows) < held_back] = -1
    return (scale * rng.normal(size=(rows, classes))).astype(np.float32), label_N


class Obvious:
    """FedEEC's rectification row by row in float64, on probabilities."""

    def __init__(self, classes, length):
        self.queues = [deque(maxlen=length) for _ in range(classes)]

    def rectify(self, z_NC, label_N):
        p_NC = softmax(z_NC)
        for p, y in zip(p_NC, label_N, strict=True):
            if y >= 0 and p.argmax() == y:
                self.queues[y].append(p[y])
        for i, y in enumerate(label_N):
            if y >= 0 and p_NC[i].argmax() != y and self.queues[y]:
                mean = np.mean(self.queues[y])
                p_NC[i] *= (1 - mean) / (1 - p_NC[i, y])
                p_NC[i, y] = mean
        return p_NC


@given(st.lists(st.integers(0, 25), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 2**16))
def test_rectification_is_what_it_says_over_several_passes(passes, length, seed):
    rectifier, obvious = Rectifier(4, length), Obvious(4, length)
    for number, rows in enumerate(passes):
        z_NC, label_N = drawn(rows, seed=seed + number, held_back=0.2)
        got_NC = rectifier.rectify(z_NC, label_N)
        assert got_NC.dtype == np.float32
        if rows:
            np.testing.assert_allclose(softmax(got_NC), obvious.rectify(z_NC, label_N), atol=1e-6)


def test_a_wrong_row_is_right_as_often_as_the_teacher_was():
    rectifier = Rectifier(3, 8)
    right = np.log(np.array([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2]], np.float32))
    wrong = np.log(np.array([[0.1, 0.6, 0.3]], np.float32))
    z_NC = np.concatenate([wrong, right])
    p_NC = softmax(rectifier.rectify(z_NC, np.zeros(3, np.int64)))
    np.testing.assert_allclose(p_NC[0], [0.7, 0.2, 0.1], atol=1e-6)
    np.testing.assert_allclose(p_NC[1:], softmax(right), atol=1e-7)


def test_what_cannot_be_mended_keeps_its_bits():
    z_NC, label_N = drawn(20, held_back=0.5)
    label_N[z_NC.argmax(axis=1) == label_N] = -1  # nobody was ever right
    before = z_NC.copy()
    np.testing.assert_array_equal(Rectifier(4, 3).rectify(z_NC, label_N), before)


def test_a_teacher_that_is_certain_leaves_finite_logits_and_its_input_alone():
    z_NC = np.array([[90.0, 0, 0], [0, 90.0, 0]], np.float32)
    before = z_NC.copy()
    got_NC = Rectifier(3, 2).rectify(z_NC, np.zeros(2, np.int64))
    assert np.isfinite(got_NC).all()
    assert got_NC[1].argmax() == 0
    np.testing.assert_array_equal(z_NC, before)


def test_a_rectifier_goes_on_from_its_state():
    one, other = Rectifier(4, 3), Rectifier(4, 3)
    one.rectify(*drawn(30, seed=1))
    saved = one.state()
    other.load_state(saved)
    later = drawn(30, seed=2)
    np.testing.assert_array_equal(one.rectify(*later), other.rectify(*later))
    assert not np.array_equal(Rectifier(4, 3).rectify(*later), one.rectify(*later))
    assert not np.array_equal(saved["count"], one.state()["count"])  # a copy


@pytest.mark.parametrize("arrays", [{}, Rectifier(4, 5).state(), Rectifier(3, 3).state()])
def test_another_rectifiers_state_is_refused(arrays):
    with pytest.raises(CheckpointError, match=r"rectification: got .* as values, expected float32 \(4, 3\)"):
        Rectifier(4, 3).load_state(arrays)


def test_trust():
    z_NC, label_N = drawn(40, held_back=0.3)
    assert trust_weights(z_NC, label_N, "equal") is None
    p_NC = softmax(z_NC)
    want_N = np.exp((p_NC * np.log(p_NC)).sum(axis=1))
    np.testing.assert_allclose(trust_weights(z_NC, label_N, "confidence"), want_N, rtol=1e-5)
    right = trust_weights(z_NC, label_N, "correct")
    assert right.dtype == np.float32
    assert right.tolist() == [float(y in (-1, p.argmax())) for p, y in zip(p_NC, label_N, strict=True)]
    assert 0 < right.sum() < 40


def test_certain_teachers_count_no_more_than_fully():
    z_NC, label_N = drawn(200, scale=200.0)
    weight_N = trust_weights(z_NC, label_N, "confidence")
    assert weight_N.max() == 1


@pytest.mark.parametrize("rule", ["mean", "entropy"])
def test_an_ensemble_is_the_mean_of_those_that_speak_of_a_row(rule):
    parent_NC, _ = drawn(6, seed=1)
    one_NC, two_NC = drawn(3, seed=2)[0], drawn(2, seed=3)[0]
    one_N = np.array([1, 1, 0, 0, 1, 0], bool)
    two_N = np.array([0, 0, 0, 1, 1, 0], bool)
    got_NC = ensemble(parent_NC, [(one_N, one_NC), (two_N, two_NC)], rule)
    assert got_NC.dtype == np.float32
    for i in range(6):
        said = [parent_NC[i]]
        said += [one_NC[one_N[:i].sum()]] if one_N[i] else []
        said += [two_NC[two_N[:i].sum()]] if two_N[i] else []
        if len(said) == 1:
            np.testing.assert_array_equal(got_NC[i], parent_NC[i])
            continue
        z = np.stack(said).astype(np.float64)
        p = softmax(z)
        if rule == "mean":
            want = p.mean(axis=0)
        else:
            weight = np.exp((p * np.log(p)).sum(axis=1))
            want = softmax(((weight / weight.sum())[:, None] * z).sum(axis=0)[None])[0]
        np.testing.assert_allclose(softmax(got_NC[i : i + 1])[0], want, atol=1e-6)


def test_an_ensemble_of_one_is_its_teacher():
    parent_NC, _ = drawn(4)
    nobody = (np.zeros(4, bool), np.zeros((0, 4), np.float32))
    for others in ([], [nobody]):
        np.testing.assert_array_equal(ensemble(parent_NC, others, "mean"), parent_NC)
