import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toys import hyperparameters

from fedagg_edge.learners.optimizers import make_optimizer

RULES = [
    ("sgd", {"momentum": 0.0}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.5, "weight_decay": 0.1}),
    ("adam", {"learning_rate": 0.01}),
    ("adam", {"learning_rate": 0.01, "weight_decay": 0.1}),
]


def torch_rule(name, parameters, hp):
    if name == "adam":
        return torch.optim.Adam(parameters, lr=hp.learning_rate, weight_decay=hp.weight_decay)
    return torch.optim.SGD(parameters, lr=hp.learning_rate, momentum=hp.momentum, weight_decay=hp.weight_decay)


@pytest.mark.parametrize(("name", "options"), RULES)
def test_twenty_updates_equal_torch_optim(name, options):
    hp = hyperparameters(optimizer=name, **options)
    generator = torch.Generator().manual_seed(1)
    ours = torch.randn(50, generator=generator)
    theirs = nn.Parameter(ours.clone())
    own, rule = make_optimizer(name, 50), torch_rule(name, [theirs], hp)
    for step in range(20):
        gradient = torch.randn(50, generator=generator) * 0.5**step  # also small ones, where Adam's epsilon counts
        kept = gradient.clone()
        own.update(ours.numpy(), [gradient.numpy()], hp)
        theirs.grad = kept.clone()
        rule.step()
        assert torch.equal(gradient, kept)
        torch.testing.assert_close(ours, theirs.detach(), rtol=2e-6, atol=2e-7)
    assert own.steps == 20


@given(
    name=st.sampled_from(["sgd", "adam"]),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    decay=st.sampled_from([0, 0.1]),
)
def test_an_update_does_not_depend_on_how_the_gradients_are_cut(name, cuts, decay):
    rng = np.random.default_rng(len(cuts))
    whole, cut = make_optimizer(name, 40), make_optimizer(name, 40)
    weights = rng.normal(size=40).astype(np.float32)
    other, hp = weights.copy(), hyperparameters(optimizer=name, momentum=0.9, weight_decay=decay)
    for _ in range(3):
        gradient = rng.normal(size=40).astype(np.float32)
        whole.update(weights, [gradient], hp)
        cut.update(other, np.split(gradient, sorted(cuts)), hp)
    np.testing.assert_array_equal(other, weights)
    for slot, values in whole.slots.items():
        np.testing.assert_array_equal(cut.slots[slot], values)
    assert cut.steps == whole.steps == 3
