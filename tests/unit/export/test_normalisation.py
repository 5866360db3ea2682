import copy

import numpy as np
import pytest
import torch
from compiled import CLASSES, IMAGE, SIGNAL, assert_learns_as_torch, differences, through
from torch import nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.export.tflite import compile_module
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.tflite import TfliteLearner
from fedagg_edge.learners.torch import TorchLearner

LAYERS = {
    "batch": nn.BatchNorm2d(4),
    "batch without weights": nn.BatchNorm2d(4, affine=False),
    "batch without running statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "batch that moves slowly": nn.BatchNorm2d(4, momentum=0.01, eps=1e-3),
    "group": nn.GroupNorm(2, 4),
    "layer": nn.LayerNorm([4, 8, 8]),
    "layer of the last axis": nn.LayerNorm(8),
}


@pytest.mark.parametrize("name", LAYERS)
def test_images(name: str) -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(through(LAYERS[name]))


def test_signals_and_rows() -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(through(nn.BatchNorm1d(4), SIGNAL), SIGNAL)
    assert_learns_as_torch(nn.Sequential(nn.Linear(9, 6), nn.BatchNorm1d(6), nn.Linear(6, CLASSES)), (9,))


def test_running_statistics_stay_with_torch() -> None:
    torch.manual_seed(0)
    weights, logits = differences(through(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())), IMAGE, 10)
    assert weights < 1e-5
    assert logits < 1e-5


def test_a_norm_used_twice_moves_its_statistics_twice() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    assert_learns_as_torch(through(nn.Sequential(norm, nn.Tanh(), norm)))


def test_frozen_parameters_stay_and_the_rest_learns() -> None:
    torch.manual_seed(0)
    model = through(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    model.function[0].requires_grad_(False)
    assert_learns_as_torch(model)


def test_zero_variance_and_equal_rows() -> None:
    torch.manual_seed(0)
    x_N = np.full((6, *IMAGE), 0.5, np.float32)
    batch = Batch(x_N, np.arange(6) % CLASSES, None)
    model = through(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    device, reference = TfliteLearner(compile_module(model, IMAGE, CLASSES)[0]), TorchLearner(copy.deepcopy(model))
    for learner in (device, reference):
        learner.step(batch, Hyperparameters(learning_rate=0.001))
    a, b = device.state().weights, reference.state().weights
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)
