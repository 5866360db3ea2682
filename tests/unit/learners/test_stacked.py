import copy

import numpy as np
import pytest
import torch
from torch import nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import LearnerError
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.stacked import stack_key, stacked_step
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.learners.zoo import build_model

CLASSES = 5


def learners(model, shape, count, optimizer="sgd", **options):
    return [TorchLearner(build_model(model, shape, CLASSES, **options), optimizer) for _ in range(count)]


def batch(seed, shape, rows=8, *, private=True):
    rng = np.random.default_rng(seed)
    own = (rng.random((rows, *shape), np.float32), rng.integers(0, CLASSES, rows)) if private else (None, None)
    teacher_NC = rng.normal(size=(rows, CLASSES)).astype(np.float32)
    return Batch(rng.random((rows, *shape), np.float32), rng.integers(0, CLASSES, rows), teacher_NC, *own)


@pytest.mark.parametrize(("model", "shape"), [("mlp", (1, 6, 6)), ("cnn3", (3, 8, 8)), ("dwcnn", (3, 8, 8))])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("private", [True, False])
def test_steps_are_those_of_each_alone(model, shape, optimizer, private):
    torch.manual_seed(0)
    alone = learners(model, shape, 3, optimizer)
    together = [TorchLearner(copy.deepcopy(one.module), optimizer) for one in alone]
    hyperparameters = Hyperparameters(optimizer=optimizer, learning_rate=0.01, weight_decay=0.01, beta=2.0)
    assert len({stack_key(one) for one in [*alone, *together]}) == 1
    assert stack_key(alone[0]) is not None
    for number in range(4):
        batches = [batch(10 * number + k, shape, private=private) for k in range(3)]
        expected = [one.step(b, hyperparameters) for one, b in zip(alone, batches, strict=True)]
        reports = stacked_step(together, batches, hyperparameters)
        for got, want in zip(reports, expected, strict=True):
            assert got.loss == pytest.approx(want.loss, rel=1e-4)
            assert got.kl == pytest.approx(want.kl, rel=1e-4, abs=1e-6)
    for one, other in zip(alone, together, strict=True):
        want, got = one.state(), other.state()
        # sums run in another order; Adam divides by a root that may be near 0, which widens the difference
        np.testing.assert_allclose(got.weights, want.weights, rtol=1e-4, atol=1e-5 if optimizer == "sgd" else 1e-3)
        assert got.steps == want.steps == 4
        assert got.slots.keys() == want.slots.keys()
        for name in want.slots:
            np.testing.assert_allclose(got.slots[name], want.slots[name], rtol=1e-3, atol=1e-4)


def test_the_steps_move_every_learner_apart():
    torch.manual_seed(0)
    pair = learners("mlp", (1, 6, 6), 2)
    before = [one.state().weights for one in pair]
    stacked_step(pair, [batch(0, (1, 6, 6)), batch(1, (1, 6, 6))], Hyperparameters())
    moved = [one.state().weights - old for one, old in zip(pair, before, strict=True)]
    assert np.abs(moved[0] - moved[1]).max() > 1e-4


def test_a_loss_that_is_not_finite_moves_nobody():
    torch.manual_seed(0)
    pair = learners("cnn3", (3, 8, 8), 2)
    before = [one.state().weights for one in pair]
    bad = batch(1, (3, 8, 8))
    bad.bridge_x_N[0] = np.nan
    with pytest.raises(LearnerError, match="the loss of a stacked step became infinite or NaN"):
        stacked_step(pair, [batch(0, (3, 8, 8)), bad], Hyperparameters())
    for one, old in zip(pair, before, strict=True):
        np.testing.assert_array_equal(one.state().weights, old)


def body(*layers):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 4), *layers)


@pytest.mark.parametrize(
    "module",
    [
        body(nn.Dropout()),
        body(nn.BatchNorm1d(4)),
        body(nn.GELU()),
        nn.Linear(4, 4),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(8, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, momentum=None), nn.Flatten(), nn.Linear(8, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, affine=False), nn.Flatten(), nn.Linear(8, 2)),
    ],
)
def test_what_is_not_known_is_not_stacked(module):
    assert stack_key(TorchLearner(module)) is None


def test_frozen_shared_and_hooked_layers_are_not_stacked():
    frozen = body(nn.Linear(4, 4))
    frozen[1].weight.requires_grad_(False)
    linear = nn.Linear(4, 4)
    hooked = body(nn.ReLU())
    hooked[2].register_forward_hook(lambda *_: None)
    for module in (frozen, body(linear, linear), hooked):
        assert stack_key(TorchLearner(module)) is None


def test_other_structures_have_other_keys():
    narrow, wide = learners("mlp", (1, 6, 6), 1), learners("mlp", (1, 6, 6), 1, hidden=(33,))
    strided = nn.Sequential(nn.Conv2d(1, 2, 1, stride=2), nn.Flatten(), nn.Linear(2, 2))
    dilated = nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2))
    keys = [stack_key(one) for one in (*narrow, *wide, TorchLearner(strided), TorchLearner(dilated))]
    assert None not in keys
    assert len(set(keys)) == 4
