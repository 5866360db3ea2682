import numpy as np
import pytest
import torch

from fedagg_edge.baselines.proximal import ProximalLearner
from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ConfigError, LearnerError
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.torch import TorchLearner

SETTINGS = Hyperparameters(learning_rate=0.1, momentum=0.9, weight_decay=0.01)


def model():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)
    )


def batches(count):
    rng = np.random.default_rng(3)
    return [Batch(rng.random((6, 1, 2, 2), np.float32), rng.integers(0, 3, 6), None) for _ in range(count)]


def test_steps_are_torchs_on_the_loss_with_the_term_in_it():
    """Autograd on CE + mu / 2 * ||w - centre||^2 in float64, updated by torch's own SGD."""
    mu = 0.3
    learner = TorchLearner(model())
    state = learner.state()
    centre_P = state.weights + np.random.default_rng(0).normal(size=state.weights.shape).astype(np.float32)
    near = ProximalLearner(learner, centre_P, mu)
    reference = model().double().train()
    centres = [torch.from_numpy(a.astype(np.float64)) for a in _named(centre_P, state.table, reference)]
    sgd = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for batch in batches(5):
        report = near.step(batch, SETTINGS)
        logits = reference(torch.from_numpy(batch.bridge_x_N).double())
        ce = torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.bridge_y_N))
        term = sum(((p - c) ** 2).sum() for p, c in zip(reference.parameters(), centres, strict=True))
        sgd.zero_grad()
        (ce + mu / 2 * term).backward()
        sgd.step()
        assert report.loss == pytest.approx(ce.item(), rel=1e-4)
    for name, want in reference.state_dict().items():
        np.testing.assert_allclose(near.state().arrays()[name], want.numpy(), rtol=1e-4, atol=1e-5)


def _named(weights_P, table, reference):
    arrays, start = {}, 0
    for e in table:
        arrays[e.name] = weights_P[start : start + e.size].reshape(e.shape)
        start += e.size
    return [arrays[name] for name, _ in reference.named_parameters()]


def test_batch_norms_figures_are_taken_anew_by_the_learner_inside():
    one, other = TorchLearner(model()), TorchLearner(model())
    near = ProximalLearner(other, other.state().weights, 0.1)
    taken = [(b.bridge_x_N, False) for b in batches(2)]
    one.measure_norms(taken)
    near.measure_norms(taken)
    np.testing.assert_array_equal(near.state().weights, one.state().weights)

    class Plain:
        state = staticmethod(one.state)

    with pytest.raises(LearnerError, match="Plain has no measure_norms"):
        ProximalLearner(Plain(), other.state().weights, 0.1).measure_norms(taken)


def test_without_weight_nothing_changes():
    one, other = TorchLearner(model()), TorchLearner(model())
    near = ProximalLearner(other, np.zeros_like(one.state().weights), 0.0)
    for batch in batches(3):
        one.step(batch, SETTINGS)
        near.step(batch, SETTINGS)
    np.testing.assert_array_equal(one.state().weights, near.state().weights)
    assert near.state().steps == 3
    x = batches(1)[0].bridge_x_N
    np.testing.assert_array_equal(near.logits(x), one.logits(x))


def test_another_optimizer_is_refused():
    learner = TorchLearner(model(), "adam")
    with pytest.raises(ConfigError, match='expected SGD\'s; set optimizer = "sgd"'):
        ProximalLearner(learner, learner.state().weights, 0.1)
