import copy

import numpy as np
import pytest
import torch
from compiled import CLASSES, IMAGE, assert_learns_as_torch, through
from torch import nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ExportError
from fedagg_edge.export.tflite import compile_module
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.tflite import TfliteLearner
from fedagg_edge.learners.torch import TorchLearner

LAYERS = {
    "max by 2": nn.MaxPool2d(2),
    "max by 3, a rest left over": nn.MaxPool2d(3),
    "max of overlapping windows": nn.MaxPool2d(3, stride=2, padding=1),
    "max, stride 1": nn.MaxPool2d(2, stride=1),
    "mean by 2": nn.AvgPool2d(2),
    "mean of overlapping windows": nn.AvgPool2d(3, stride=2, padding=1),
    "adaptive to one": nn.AdaptiveAvgPool2d(1),
    "adaptive to four": nn.AdaptiveAvgPool2d(2),
    "ReLU, then max": nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)),
    "ReLU, then overlapping max": nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_pooling_is_torchs(name: str) -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(through(LAYERS[name]))


@pytest.mark.parametrize("layer", [nn.MaxPool1d(2), nn.AvgPool1d(3), nn.AdaptiveAvgPool1d(1), nn.MaxPool1d(3, 2, 1)])
def test_signals(layer: nn.Module) -> None:
    torch.manual_seed(0)
    assert_learns_as_torch(through(layer, (3, 12)), (3, 12))


@pytest.mark.parametrize("name", ["max by 2", "max of overlapping windows", "ReLU, then max"])
def test_of_equal_maxima_the_first_gets_the_gradient(name: str) -> None:
    """Samples of few values and a first layer that passes them on: nearly every window has ties, many all equal."""
    torch.manual_seed(0)
    model = through(LAYERS[name])
    with torch.no_grad():
        for parameter in model.first.parameters():
            parameter.copy_(torch.round(parameter * 4) / 4)
    rng = np.random.default_rng(0)
    x_N = rng.integers(0, 2, (6, *IMAGE)).astype(np.float32)
    x_N[3:] = x_N[0]  # equal rows
    batch = Batch(x_N, np.arange(6) % CLASSES, None)
    device, reference = TfliteLearner(compile_module(model, IMAGE, CLASSES)[0]), TorchLearner(copy.deepcopy(model))
    for learner in (device, reference):
        learner.step(batch, Hyperparameters(learning_rate=0.1))
    np.testing.assert_allclose(device.state().weights, reference.state().weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.MaxPool2d(3, 2, ceil_mode=True), "ceil_mode True"),
        (nn.MaxPool2d(2, dilation=2), "dilation"),
        (nn.AvgPool2d(2, divisor_override=3), "another divisor"),
        (nn.AdaptiveAvgPool2d(3), "a divisor of each side"),
    ],
)
def test_what_has_no_translation_is_refused(layer: nn.Module, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        compile_module(through(layer), IMAGE, CLASSES)
