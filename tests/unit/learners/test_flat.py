import copy

import numpy as np
import pytest
import torch
from torch import nn
from toys import hyperparameters

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners.base import Entry
from fedagg_edge.learners.flat import FlatModule
from fedagg_edge.learners.optimizers import make_optimizer


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))


def test_the_table_has_torchs_names_and_what_is_trained_first():
    table = FlatModule(network()).table
    assert [(e.name, e.trained) for e in table] == [
        ("0.weight", True), ("0.bias", True), ("1.weight", True), ("1.bias", True), ("4.weight", True),
        ("4.bias", True), ("1.running_mean", False), ("1.running_var", False), ("1.num_batches_tracked", False),
    ]  # fmt: skip
    assert table[0].shape == (3, 1, 3, 3)
    assert table[-1] == Entry("1.num_batches_tracked", (), trained=False)


def test_the_module_still_computes_the_same_and_lives_in_the_buffer():
    module = network()
    twin = copy.deepcopy(module)
    flat = FlatModule(module)
    x = torch.randn(5, 1, 4, 4)
    assert torch.equal(module(x), twin(x))
    module(x).sum().backward()
    twin(x).sum().backward()
    assert torch.equal(torch.cat(flat.take_gradients()), torch.cat([p.grad.reshape(-1) for p in twin.parameters()]))
    flat.values[: flat.trained].zero_()
    assert all(not p.any() for p in module.parameters())


def test_gradients_are_taken_once_and_dropped_ones_are_gone():
    module = network()
    flat, x = FlatModule(module), torch.randn(5, 1, 4, 4)
    module(x).sum().backward()
    first = torch.cat(flat.take_gradients())
    assert all(p.grad is None for p in module.parameters())
    module(x).sum().backward()
    flat.drop_gradients()
    module(x).sum().backward()
    assert torch.equal(torch.cat(flat.take_gradients()), first)
    assert not torch.cat(flat.take_gradients()).any()


def test_gradients_are_flat_whatever_autograd_makes():
    """Of a parameter that the output does not depend on, of an expanded one, a transposed one and a sparse one."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.ones(2, 2))
            self.summed = nn.Parameter(torch.ones(3))
            self.turned = nn.Parameter(torch.ones(2, 3))
            self.table = nn.Embedding(4, 2, sparse=True)

        def forward(self, weight):
            return self.summed.sum() + (self.turned.t() * weight).sum() + self.table(torch.tensor([1, 1, 3])).sum()

    flat, weight = FlatModule(module := Odd()), torch.arange(6.0).view(3, 2)
    module(weight).backward()
    got = flat.take_gradients()
    assert all(g.is_contiguous() and g.ndim == 1 for g in got)
    assert [g.tolist() for g in got] == [[0] * 4, [1] * 3, [0, 2, 4, 1, 3, 5], [0, 0, 2, 2, 0, 0, 1, 1]]


def test_buffers_move_with_the_flat_values_and_back():
    module = network()
    flat = FlatModule(module)
    before = flat.copy_out()
    for _ in range(3):
        module(torch.randn(5, 1, 4, 4) + 2)
    after = flat.copy_out()
    assert after[-1] == 3  # batches seen
    np.testing.assert_array_equal(after[flat.trained : flat.trained + 3], module[1].running_mean.numpy())
    np.testing.assert_array_equal(before[: flat.trained], after[: flat.trained])
    assert not np.allclose(before[flat.trained :], after[flat.trained :])
    flat.copy_in(before)
    assert (module[1].num_batches_tracked.item(), module[1].running_mean.tolist()) == (0, [0.0] * 3)
    flat.copy_in(after)
    np.testing.assert_array_equal(flat.copy_out(), after)


def test_a_look_is_no_copy_and_has_the_counters_of_now():
    flat = FlatModule(module := network())
    seen = flat.look()
    assert np.shares_memory(seen, flat.values.numpy())
    module(torch.randn(5, 1, 4, 4))
    flat.values.add_(1)
    np.testing.assert_array_equal(flat.look(), flat.copy_out())
    assert flat.look()[-1] == 1
    flat.values.zero_()
    assert seen[: len(flat.values)].tolist() == [0.0] * len(flat.values)


def test_a_copy_is_a_copy():
    flat = FlatModule(network())
    taken = flat.copy_out()
    flat.values.add_(1)
    assert not np.array_equal(taken, flat.copy_out())


def test_shared_parameters_stay_shared_and_are_counted_once():
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    module[2].weight = module[0].weight
    flat = FlatModule(module)
    assert [e.name for e in flat.table] == ["0.weight", "0.bias", "2.bias"]
    assert flat.trained == 15
    assert module[2].weight is module[0].weight
    x = torch.randn(4, 3)
    module(x).sum().backward()
    twin = copy.deepcopy(module)
    twin[2].weight = nn.Parameter(twin[0].weight.detach().clone())
    twin.zero_grad()
    twin(x).sum().backward()
    torch.testing.assert_close(module[0].weight.grad, twin[0].weight.grad + twin[2].weight.grad)


def test_frozen_parameters_are_kept_but_not_trained():
    module = network()
    module[0].requires_grad_(False)
    frozen = module[0].weight.detach().clone()
    flat = FlatModule(module)
    assert [e.trained for e in flat.table if e.name.startswith("0.")] == [False, False]
    assert [e.name for e in flat.table][:4] == ["1.weight", "1.bias", "4.weight", "4.bias"]
    optimizer = make_optimizer("sgd", flat.trained)
    module(torch.randn(4, 1, 4, 4)).sum().backward()
    weights_P, gradients = flat.values[: flat.trained].numpy(), [g.numpy() for g in flat.take_gradients()]
    optimizer.update(weights_P, gradients, hyperparameters(weight_decay=0.5))
    assert torch.equal(module[0].weight, frozen)


@pytest.mark.parametrize("part", [0, 1])
def test_float64_is_refused_with_the_remedy(part):
    module = network()
    module[part].double()
    with pytest.raises(LearnerError, match=r"got torch.float64, expected float32; call module.float\(\)"):
        FlatModule(module)


@pytest.mark.parametrize("module", [nn.Flatten(), nn.BatchNorm1d(2, affine=False)])
def test_a_model_with_nothing_to_train_is_refused(module):
    with pytest.raises(LearnerError, match=f"model {type(module).__name__}: got no parameters to train"):
        FlatModule(module)


def test_what_a_forward_pass_moved_is_put_back_on_an_error():
    module = network()
    flat = FlatModule(module)
    before = flat.copy_out()

    def fail():
        module(torch.full((2, 1, 4, 4), torch.nan))
        raise KeyError("any")

    with pytest.raises(KeyError), flat.untrained_kept_on_error():
        fail()
    np.testing.assert_array_equal(flat.copy_out(), before)
    with flat.untrained_kept_on_error():
        module(torch.randn(2, 1, 4, 4))
    assert flat.copy_out()[-1] == 1
