import copy

import numpy as np
import pytest
import torch
from torch import nn

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners.batch_norm import figures_anew
from fedagg_edge.learners.split_norm import norms_of, on_bridge, split_norms
from fedagg_edge.learners.torch import TorchLearner


def model(seed=0):
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)
    )
    for _ in range(5):  # figures of other samples
        module(torch.randn(8, 1, 6, 6) + 3)
    return module


def batches(count=3, rows=16, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(0.5, 2, (rows, 1, 6, 6)).astype(np.float32) for _ in range(count)]


def figures_of(module):
    return {n: b.clone().numpy() for n, b in module.named_buffers()}


def test_the_first_layers_figures_are_the_means_over_the_batches():
    module, parts = model(), batches()
    with figures_anew(module):
        for x in parts:
            module(torch.from_numpy(x))
    conv = copy.deepcopy(module[0]).double()
    with torch.no_grad():
        outs = [conv(torch.from_numpy(x).double()).transpose(0, 1).flatten(1).numpy() for x in parts]
    np.testing.assert_allclose(module[1].running_mean.numpy(), np.mean([o.mean(1) for o in outs], 0), rtol=1e-5)
    np.testing.assert_allclose(module[1].running_var.numpy(), np.mean([o.var(1, ddof=1) for o in outs], 0), rtol=1e-5)


def test_a_later_layer_sees_what_evaluation_of_one_large_batch_sees():
    """Dropout is off, and with one batch the layers before normalise by what they then have as figures, but for the
    variance's n - 1."""
    module, (x,) = model(), batches(1, rows=512)
    with figures_anew(module):
        module(torch.from_numpy(x))
    module.eval()
    with torch.no_grad():
        out = module[:5](torch.from_numpy(x)).transpose(0, 1).flatten(1).numpy()
    np.testing.assert_allclose(module[5].running_mean.numpy(), out.mean(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(module[5].running_var.numpy(), out.var(1), rtol=1e-3)


def test_nothing_else_changes():
    module = model()
    weights = copy.deepcopy(dict(module.named_parameters()))
    counters = {n: int(b) for n, b in module.named_buffers() if "batches" in n}
    with figures_anew(module):
        module(torch.from_numpy(batches()[0]))
    for name, values in module.named_parameters():
        torch.testing.assert_close(values, weights[name], rtol=0, atol=0)
    assert {n: int(b) for n, b in module.named_buffers() if "batches" in n} == counters
    assert [m.momentum for m in module if isinstance(m, nn.BatchNorm2d)] == [0.1, 0.1]
    assert all(m.training for m in module.modules())


def test_without_a_batch_they_stay():
    module = model()
    before = figures_of(module)
    with figures_anew(module):
        pass
    for name, values in figures_of(module).items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("fault", ["raises", "infinite"])
def test_after_a_fault_they_are_as_they_were(fault):
    module = model()
    before = figures_of(module)

    def run():
        with figures_anew(module):
            module(torch.from_numpy(batches()[0]))
            if fault == "raises":
                raise KeyError("a decoder's own")
            module(torch.full((4, 1, 6, 6), torch.inf))

    with pytest.raises(KeyError if fault == "raises" else LearnerError):
        run()
    for name, values in figures_of(module).items():
        np.testing.assert_array_equal(values, before[name])
    assert module[1].momentum == 0.1
    assert module.training


def test_figures_of_private_and_of_bridge_samples_stay_apart():
    module = split_norms(nn.Sequential(nn.BatchNorm2d(1)))
    private, bridge = batches(2)
    with figures_anew(module):
        module(torch.from_numpy(private))
        with on_bridge(norms_of(module)):
            module(torch.from_numpy(bridge))
    (norm,) = norms_of(module)
    np.testing.assert_allclose(norm.running_mean.numpy(), private.mean(), rtol=1e-5)
    np.testing.assert_allclose(norm.bridge_mean.numpy(), bridge.mean(), rtol=1e-5)
    kept = norm.running_mean.clone()
    with figures_anew(module), on_bridge(norms_of(module)):
        module(torch.from_numpy(private))
    torch.testing.assert_close(norm.running_mean, kept, rtol=0, atol=0)
    np.testing.assert_allclose(norm.bridge_mean.numpy(), private.mean(), rtol=1e-5)


def test_a_learner_without_batch_norm_has_nothing_to_measure():
    learner = TorchLearner(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)))
    before = learner.state().weights
    learner.measure_norms((x, True) for x in batches())
    np.testing.assert_array_equal(learner.state().weights, before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_learners_figures_are_in_its_state(precision):
    learner = TorchLearner(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(36, 2)), precision=precision)
    before = learner.state().arrays()
    parts = batches()
    learner.measure_norms((x, False) for x in parts)
    after = learner.state().arrays()
    np.testing.assert_allclose(after["0.running_mean"], [np.mean([x.mean() for x in parts])], rtol=1e-5)
    for name in ("0.weight", "2.weight", "2.bias", "0.num_batches_tracked"):
        np.testing.assert_array_equal(after[name], before[name])
