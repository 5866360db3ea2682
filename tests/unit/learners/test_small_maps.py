"""Convolutions over small maps against torch's own, in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners import small_maps
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.small_maps import SmallMapConv2d, speed_up
from fedagg_edge.learners.stacked import stack_key
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.learners.zoo import resnet18


def pair(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw):
    """A convolution and samples that it takes."""
    kernel, padding, stride = draw(pair(1, 4)), draw(pair(0, 3)), draw(pair(1, 3))
    channels, out = draw(pair(1, 3))
    conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=draw(st.booleans())).double()
    least = [max(1, k - 2 * p) for k, p in zip(kernel, padding, strict=True)]
    height, width = (draw(st.integers(n, n + 3)) for n in least)
    return conv, torch.randn(draw(st.integers(0, 5)), channels, height, width, dtype=torch.float64)


def outcome(conv, x_N, weight_N=None):
    """The output, and the gradients of a weighted sum of it."""
    x_N = x_N.clone().requires_grad_()
    out = conv(x_N)
    weight_N = torch.randn(out.shape, dtype=out.dtype) if weight_N is None else weight_N
    gradients = torch.autograd.grad((out * weight_N).sum(), [x_N, *conv.parameters()])
    return weight_N, [out, *gradients]


@settings(max_examples=200)
@given(convolutions())
def test_output_and_gradients_are_torchs(case):
    conv, x_N = case
    weight_N, expected = outcome(conv, x_N)
    conv.__class__ = SmallMapConv2d
    _, got = outcome(conv, x_N, weight_N)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("shape", "products"),
    [
        ((3, 2, 1, 1), True),
        ((3, 2, 2, 2), True),
        ((3, 2, 3, 2), False),
        ((200, 2, 2, 2), False),
        ((600, 2, 1, 1), True),
    ],
)
def test_which_maps_are_small(monkeypatch, shape, products):
    conv = nn.Conv2d(2, 2, 3, padding=1)
    conv.__class__ = SmallMapConv2d
    x_N = torch.randn(shape)
    expected = nn.functional.conv2d(x_N, conv.weight, conv.bias, padding=1)
    asked = []
    monkeypatch.setattr(
        nn.Conv2d, "forward", lambda self, x: asked.append(1) or self._conv_forward(x, *self.parameters())
    )
    torch.testing.assert_close(conv(x_N), expected)
    assert not asked if products else asked


def test_a_map_smaller_than_the_kernel_is_refused_as_torch_does():
    conv = nn.Conv2d(2, 2, 3)
    conv.__class__ = SmallMapConv2d
    with pytest.raises(RuntimeError, match="Kernel size"):
        conv(torch.randn(1, 2, 2, 2))


def test_one_sample_alone_is_torchs_affair():
    conv = nn.Conv2d(2, 3, 3, padding=1)
    x = torch.randn(2, 1, 1)
    expected = conv(x)
    conv.__class__ = SmallMapConv2d
    torch.testing.assert_close(conv(x), expected)


class Viewed(nn.Module):
    """A user's own model, whose flattening looks at memory."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 128, 3, stride=16, padding=1), nn.Conv2d(128, 256, 3, padding=1))
        self.head = nn.Linear(1024, 10)

    def forward(self, x):
        return self.head(self.body(x).view(len(x), -1))


def test_a_models_own_view_works():
    learner = TorchLearner(Viewed())
    assert type(learner.module.body[1]) is SmallMapConv2d
    x_N = torch.randn(4, 3, 32, 32).numpy()
    assert learner.logits(x_N).shape == (4, 10)
    learner.step(Batch(x_N, torch.arange(4).numpy(), None), Hyperparameters(learning_rate=0.01))


def test_learners_with_small_maps_are_stacked():
    pair = [TorchLearner(nn.Sequential(nn.Conv2d(256, 256, 3), nn.Flatten(), nn.Linear(256, 2))) for _ in range(2)]
    assert type(pair[0].module[0]) is SmallMapConv2d
    assert stack_key(pair[0]) is not None
    assert stack_key(pair[0]) == stack_key(pair[1])


def test_only_plain_convolutions_of_many_weights_are_changed():
    class Own(nn.Conv2d):
        """Somebody's."""

    kept = [
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(512, 1024, 3, groups=2),
        nn.Conv2d(256, 256, 3, dilation=2),
        nn.Conv2d(256, 256, 3, padding="same"),
        nn.Conv2d(256, 256, 3, padding=1, padding_mode="circular"),
        Own(256, 256, 3),
        nn.Conv1d(512, 512, 3),
        nn.Linear(1024, 1024),
    ]
    changed = nn.Conv2d(256, 256, 3)
    speed_up(nn.Sequential(*kept, changed))
    assert [type(m) for m in kept] == [*[nn.Conv2d] * 5, Own, nn.Conv1d, nn.Linear]
    assert type(changed) is SmallMapConv2d


def test_a_learner_trains_as_without(monkeypatch):
    torch.manual_seed(0)
    model = resnet18((3, 32, 32), 10, stem="large")
    x_N, y_N = torch.randn(4, 3, 32, 32).numpy(), torch.arange(4).numpy()
    changes = []
    for few in (0, small_maps.FEW_PIXELS):
        monkeypatch.setattr(small_maps, "FEW_PIXELS", few)
        learner = TorchLearner(copy.deepcopy(model))
        before = learner.state().weights
        learner.step(Batch(x_N, y_N, None), Hyperparameters(learning_rate=0.01))
        assert sum(type(m) is SmallMapConv2d for m in learner.module.modules()) == 8
        changes.append(learner.state().weights - before)
    gap = float(abs(changes[0] - changes[1]).max())
    assert gap < 1e-4 * float(abs(changes[0]).max())  # float32 through 18 layers
