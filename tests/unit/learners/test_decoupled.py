import numpy as np
import pytest
import torch

from fedagg_edge.learners.decoupled import decoupled_loss

N, C = 9, 5


def drawn(seed, scale=3.0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(N, C)), scale * rng.normal(size=(N, C)), rng.integers(0, C, N)


def obvious(student, teacher, label_N, alpha, beta):
    """Eq. 7 row by row in torch's float64, on probabilities; eq. 5's whole divergence where there is no label."""
    terms = []
    for z, t, y in zip(student, torch.from_numpy(teacher), label_N, strict=True):
        s, p = torch.softmax(z, 0), torch.softmax(t, 0)
        if y < 0:
            terms.append((p * (p / s).log()).sum())
            continue
        rest = [c for c in range(C) if c != y]
        others_s, others_p = s[rest] / s[rest].sum(), p[rest] / p[rest].sum()
        tckd = p[y] * (p[y] / s[y]).log() + (1 - p[y]) * ((1 - p[y]) / (1 - s[y])).log()
        nckd = (others_p * (others_p / others_s).log()).sum()
        terms.append(alpha * tckd + beta * nckd)
    return torch.stack(terms)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (1.0, 8.0), (0.0, 2.0), (3.0, 0.0)])
@pytest.mark.parametrize("held_back", [0, 3, N])
def test_the_terms_and_their_gradient_are_the_papers(alpha, beta, held_back):
    z_NC, t_NC, label_N = drawn(1)
    label_N[:held_back] = -1
    student = torch.from_numpy(z_NC).requires_grad_()
    want = obvious(student, t_NC, label_N, alpha, beta)
    want.sum().backward()
    got_N, gradient_NC = decoupled_loss(z_NC, t_NC, label_N, target_weight=alpha, non_target_weight=beta)
    np.testing.assert_allclose(got_N, want.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gradient_NC, student.grad.numpy(), rtol=1e-8, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    z_NC, t_NC, label_N = drawn(2)
    weights = {"target_weight": 0.7, "non_target_weight": 2.5}
    _, gradient_NC = decoupled_loss(z_NC, t_NC, label_N, **weights)
    for c in range(C):
        step = 1e-5 * np.eye(C)[c]
        up, down = (decoupled_loss(z_NC + s, t_NC, label_N, **weights)[0] for s in (step, -step))
        # central differences of a smooth function: truncation and rounding are each below 1e-9 here
        np.testing.assert_allclose((up - down) / 2e-5, gradient_NC[:, c], atol=1e-8)


def test_it_is_the_classical_divergence_taken_apart():
    """Eq. 5: KL = TCKD + (1 - p_y) NCKD."""
    z_NC, t_NC, label_N = drawn(3)
    tckd_N, nckd_N = (
        decoupled_loss(z_NC, t_NC, label_N, target_weight=a, non_target_weight=b)[0] for a, b in ((1, 0), (0, 1))
    )
    s, p = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (z_NC, t_NC))
    kl_N = (p * np.log(p / s)).sum(1)
    np.testing.assert_allclose(tckd_N + (1 - p[np.arange(N), label_N]) * nckd_N, kl_N, rtol=1e-10)


def test_certain_teachers_and_students_stay_finite():
    sure_NC = 300.0 * np.eye(C)[np.arange(N) % C]
    for label_N in (np.arange(N) % C, (np.arange(N) + 1) % C):
        got_N, gradient_NC = decoupled_loss(sure_NC, sure_NC, label_N, target_weight=1, non_target_weight=1)
        np.testing.assert_allclose(got_N, 0, atol=1e-9)
        np.testing.assert_allclose(gradient_NC, 0, atol=1e-9)


def test_float32_logits_are_taken_and_two_classes_have_no_others():
    z_NC, t_NC, label_N = drawn(4)
    pair_N, _ = decoupled_loss(
        z_NC[:, :2].astype(np.float32), t_NC[:, :2], label_N % 2, target_weight=0, non_target_weight=1
    )
    np.testing.assert_allclose(pair_N, 0, atol=1e-12)
