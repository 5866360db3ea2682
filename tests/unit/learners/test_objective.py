import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax
from toys import hyperparameters

from fedagg_edge.learners import objective
from fedagg_edge.learners.base import Batch, StepReport
from fedagg_edge.learners.decoupled import decoupled_loss

N, C = 6, 4
FORMS = [
    {"kl": kl, "temperature_on": on, "beta": beta, "gamma": gamma, "temperature": 2.5}
    for kl, on, (beta, gamma) in itertools.product(
        ["teacher||student", "student||teacher"], ["both", "teacher"], [(10.0, 1.0), (0.7, 2.0), (0.0, 0.5)]
    )
]


def equation_2(student, teacher, y, hp):
    """L_nl in plain torch, float64."""
    own = hp.temperature if hp.temperature_on == "both" else 1.0
    scale = hp.temperature**2 if hp.temperature_on == "both" else 1.0
    s, t = log_softmax(student / own, 1), log_softmax(teacher / hp.temperature, 1)
    kl = (t.exp() * (t - s)).sum(1) if hp.kl == "teacher||student" else (s.exp() * (s - t)).sum(1)
    return cross_entropy(student, y) + hp.beta * scale * kl.mean()


def logits(seed, n=N):
    return np.random.default_rng(seed).normal(0, 3, (n, C)).astype(np.float32)


def batch(*, leaf, teacher=True):
    y = np.arange(N) % C
    private = (np.zeros((N, 2), np.float32), y[::-1].copy()) if leaf else (None, None)
    return Batch(np.zeros((N, 2), np.float32), y, logits(1) if teacher else None, *private)


@pytest.mark.parametrize("leaf", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_bridge_loss_and_its_gradient_are_equation_2(form, leaf):
    hp, given = hyperparameters(**form), batch(leaf=leaf)
    got = objective.bridge_loss(logits(0), given, hp)
    student = torch.from_numpy(logits(0)).double().requires_grad_()
    teacher, y = torch.from_numpy(given.teacher_NC).double(), torch.from_numpy(given.bridge_y_N)
    expected = (hp.gamma if leaf else 1.0) * equation_2(student, teacher, y, hp)
    expected.backward()
    assert got.loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(got.gradient_NC, student.grad.numpy(), atol=1e-5)


def test_without_a_teacher_the_bridge_loss_is_cross_entropy_whatever_beta_says():
    got = objective.bridge_loss(logits(0), batch(leaf=False, teacher=False), hyperparameters(beta=10.0))
    expected = cross_entropy(torch.from_numpy(logits(0)), torch.arange(N) % C).item()
    assert (got.loss, got.kl) == (pytest.approx(expected, rel=1e-5), 0.0)


def test_a_teacher_that_counts_nothing_may_say_anything():
    given = batch(leaf=False)
    given.teacher_NC[:] = np.nan
    assert np.isfinite(objective.bridge_loss(logits(0), given, hyperparameters(beta=0.0)).loss)
    assert np.isnan(objective.bridge_loss(logits(0), given, hyperparameters(beta=1e-3)).loss)


def test_the_private_loss_knows_neither_gamma_nor_teacher():
    given = batch(leaf=True)
    got = objective.private_loss(logits(0), given)
    student = torch.from_numpy(logits(0)).double().requires_grad_()
    expected = cross_entropy(student, torch.from_numpy(given.private_y_N))
    expected.backward()
    assert got.loss == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(got.gradient_NC, student.grad.numpy(), atol=1e-6)


def test_the_report_adds_up_and_shows_unweighted_parts():
    hp, given = hyperparameters(beta=2.0, gamma=0.5), batch(leaf=True)
    private, bridge = objective.private_loss(logits(2), given), objective.bridge_loss(logits(0), given, hp)
    got = objective.report(private, bridge)
    assert got.loss == pytest.approx(got.private_ce + 0.5 * (got.bridge_ce + 2.0 * 9.0 * got.kl), rel=1e-5)
    assert objective.report(None, bridge).private_ce == 0.0
    assert objective.report(private, None).kl == 0.0
    assert objective.report(None, None) == StepReport(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("form", FORMS)
def test_old_knowledge_and_labels_held_back(form):
    hp, given = hyperparameters(**form), batch(leaf=False)
    y = np.array([0, -1, 2, -1, 1, 3])
    weight = np.array([1, 0.5, 0.25, 1, 0, 0.7], np.float32)
    got = objective.bridge_loss(logits(0), Batch(given.bridge_x_N, y, given.teacher_NC, teacher_weight_N=weight), hp)
    student = torch.from_numpy(logits(0)).double().requires_grad_()
    teacher = torch.from_numpy(given.teacher_NC).double()
    expected = torch.zeros((), dtype=torch.float64)
    for i in range(N):  # a sum over rows divided by all of them
        label = torch.from_numpy(y[i : i + 1].clip(0))
        ce = cross_entropy(student[i : i + 1], label)
        term = equation_2(student[i : i + 1], teacher[i : i + 1], label, hp) - ce
        expected = expected + (ce * (y[i] >= 0) + term * float(weight[i])) / N
    expected.backward()
    assert got.loss == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)
    np.testing.assert_allclose(got.gradient_NC, student.grad.numpy(), atol=1e-5)
    assert got.loss == pytest.approx(got.ce + hp.kl_weight * got.kl, rel=1e-5, abs=1e-7)


def test_no_label_at_all_leaves_distillation():
    hp, given = hyperparameters(beta=1.0), batch(leaf=False)
    held_back = Batch(given.bridge_x_N, np.full(N, -1), given.teacher_NC)
    got = objective.bridge_loss(logits(0), held_back, hp)
    assert got.ce == 0.0
    assert got.kl > 0.0


@pytest.mark.parametrize("leaf", [False, True])
@pytest.mark.parametrize("on", ["both", "teacher"])
@pytest.mark.parametrize("uneven", [False, True])
def test_decoupled_distillation_takes_the_place_of_the_kl_term(leaf, on, uneven):
    form = {"temperature_on": on, "temperature": 2.5, "beta": 0.7, "gamma": 2.0}
    hp = hyperparameters(**form, distillation="decoupled", target_weight=1.5, non_target_weight=4.0)
    plain, given = hyperparameters(**form), batch(leaf=leaf)
    if uneven:
        weight_N = np.linspace(0, 1, N, dtype=np.float32)
        y_N = np.array([0, -1, 2, -1, 1, 3])
        given = dataclasses.replace(given, teacher_weight_N=weight_N, bridge_y_N=y_N)
    own = hp.student_temperature
    term_N, slope_NC = decoupled_loss(
        logits(0) / own, given.teacher_NC / 2.5, given.bridge_y_N, target_weight=1.5, non_target_weight=4.0
    )
    if uneven:
        term_N, slope_NC = term_N * weight_N, slope_NC * weight_N[:, None]
    scale = (2.0 if leaf else 1.0) * plain.kl_weight
    labels = objective.bridge_loss(logits(0), dataclasses.replace(given, teacher_NC=None), plain)
    got = objective.bridge_loss(logits(0), given, hp)
    assert got.kl == pytest.approx(term_N.mean(), rel=1e-6)
    assert got.loss == pytest.approx(labels.loss + scale * term_N.mean(), rel=1e-6)
    np.testing.assert_allclose(got.gradient_NC, labels.gradient_NC + scale / own * slope_NC / N, atol=1e-5)


def test_decoupled_distillation_without_a_teacher_or_beta_is_cross_entropy():
    hp, given = hyperparameters(distillation="decoupled", beta=0.0), batch(leaf=False)
    want = objective.bridge_loss(logits(0), given, hyperparameters(beta=0.0))
    assert objective.bridge_loss(logits(0), given, hp).loss == want.loss
