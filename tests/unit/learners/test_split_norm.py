import copy

import numpy as np
import pytest
import torch
from torch import nn

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.base import Batch, LearnerSpec
from fedagg_edge.learners.split_norm import SplitNorm, norms_of, on_bridge, split_norms
from fedagg_edge.learners.stacked import stack_key
from fedagg_edge.learners.torch import TorchLearner, make_learner, module_factory
from fedagg_edge.learners.zoo import build_model

SHAPE, CLASSES = (3, 8, 8), 4


def learner(batch_norm="split", seed=5):
    model = ModelConfig(builder="cnn3", batch_norm=batch_norm)
    return make_learner(LearnerSpec(model, SHAPE, CLASSES, Hyperparameters(), seed))


def batch(seed, *, private=True, rows=8):
    """Private samples much brighter than bridge samples."""
    rng = np.random.default_rng(seed)
    own = (3 + rng.random((rows, *SHAPE), np.float32), rng.integers(0, CLASSES, rows)) if private else (None, None)
    return Batch(rng.random((rows, *SHAPE), np.float32), rng.integers(0, CLASSES, rows), None, *own)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_each_kind_of_sample_has_the_figures_that_a_norm_of_its_own_would_have(momentum):
    torch.manual_seed(0)
    private, bridge = nn.BatchNorm2d(3, momentum=momentum), nn.BatchNorm2d(3, momentum=momentum)
    split = SplitNorm(copy.deepcopy(private))
    for _ in range(3):
        a, b = 2 + torch.randn(4, 3, 5, 5), 3 * torch.randn(4, 3, 5, 5)
        torch.testing.assert_close(split(a), private(a))
        with on_bridge([split]):
            torch.testing.assert_close(split(b), bridge(b))
    split.eval(), private.eval(), bridge.eval()
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(split(x), private(x))
    with on_bridge([split]):
        torch.testing.assert_close(split(x), bridge(x))
    assert (split(x) - bridge(x)).abs().max() > 0.1
    assert int(split.num_batches_tracked) == int(split.bridge_batches) == 3


def test_where_both_kinds_are_the_same_samples_the_figures_are_those_of_a_common_norm():
    """A common norm moves twice a step, by the same batch; figures apart must not follow more slowly."""
    one, other = learner("shared"), learner("split")
    for step in range(3):
        x_N, y_N = batch(step).bridge_x_N, batch(step).bridge_y_N
        for each in (one, other):
            each.step(Batch(x_N, y_N, None, x_N, y_N), Hyperparameters(beta=0))
    shared, split = one.state().arrays(), other.state().arrays()
    for name, values in shared.items():
        if "running" in name:
            np.testing.assert_allclose(split[name], values, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(split[name.replace("running", "bridge")], values, rtol=1e-5, atol=1e-7)


def test_an_inner_nodes_figures_move_as_a_plain_norms():
    one, other = learner("shared"), learner("split")
    for each in (one, other):
        each.step(batch(0), Hyperparameters(beta=0, learning_rate=1e-9))  # a step of both kinds leaves nothing behind
    x_N = batch(1, private=False)
    before = other.state().arrays()["1.bridge_mean"]
    other.step(x_N, Hyperparameters(learning_rate=1e-9))
    with torch.no_grad():
        mean = one.module[0](torch.from_numpy(x_N.bridge_x_N)).mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(other.state().arrays()["1.bridge_mean"], 0.9 * before + 0.1 * mean, rtol=1e-4, atol=1e-6)


def test_training_moves_the_weights_as_a_common_norm_does():
    one, other = learner("shared"), learner("split")
    for step in range(3):
        reports = [each.step(batch(step), Hyperparameters(beta=0)) for each in (one, other)]
        assert reports[0] == reports[1]
    shared, split = one.state().arrays(), other.state().arrays()
    for name, values in shared.items():
        if "running" not in name and "num_batches" not in name:
            np.testing.assert_array_equal(split[name], values)


def test_a_device_answers_by_the_figures_of_what_it_is_asked_about():
    shared, split = learner("shared"), learner("split")
    for step in range(20):
        for each in (shared, split):
            each.step(batch(step), Hyperparameters(beta=0, learning_rate=1e-6))
    asked = batch(99)
    np.testing.assert_array_equal(shared.bridge_logits(asked.bridge_x_N), shared.logits(asked.bridge_x_N))
    first = next(iter(norms_of(split.module)))
    assert float((first.running_mean - first.bridge_mean).abs().max()) > 0.3
    assert np.abs(split.bridge_logits(asked.bridge_x_N) - split.logits(asked.bridge_x_N)).max() > 1e-3


def test_figures_without_a_batch_let_the_others_speak():
    cloud = learner()
    for step in range(3):
        cloud.step(batch(step, private=False), Hyperparameters())
    x_N = batch(9).bridge_x_N
    np.testing.assert_array_equal(cloud.logits(x_N), cloud.bridge_logits(x_N))
    assert not np.array_equal(cloud.logits(x_N), learner().logits(x_N))


def test_a_learner_goes_on_from_its_state():
    one, other = learner(), learner(seed=6)
    one.step(batch(0), Hyperparameters())
    other.load_state(one.state())
    x_N = batch(9).bridge_x_N
    np.testing.assert_array_equal(one.bridge_logits(x_N), other.bridge_logits(x_N))
    assert {e.name.rpartition(".")[2] for e in one.state().table if not e.trained} == {
        *("running_mean", "running_var", "num_batches_tracked", "bridge_mean", "bridge_var", "bridge_batches")
    }


def test_every_norm_is_replaced_and_keeps_its_parameters():
    plain = build_model("resnet10", SHAPE, CLASSES, width=4)
    count = sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    names = [n for n, _ in plain.named_parameters()]
    split = split_norms(plain)
    assert len(norms_of(split)) == count
    assert not any(isinstance(m, nn.BatchNorm2d) for m in split.modules())
    assert sorted(n for n, _ in split.named_parameters()) == sorted(names)
    assert isinstance(split_norms(nn.BatchNorm1d(3)), SplitNorm)


def test_models_from_python_are_split_too_and_are_not_stacked():
    factory = module_factory(lambda sample_shape, classes: build_model("cnn3", sample_shape, classes))
    made = factory(LearnerSpec(ModelConfig(builder="x", batch_norm="split"), SHAPE, CLASSES, Hyperparameters(), 0))
    assert len(norms_of(made.module)) == 3
    assert stack_key(made) is None
    assert stack_key(learner("shared")) is not None


def test_what_cannot_be_split():
    with pytest.raises(ConfigError, match="batch_norm: got 'split', but the model Linear has no batch norm"):
        split_norms(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="the model's '0' keeps no running figures to split"):
        split_norms(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)))
    spec = LearnerSpec(ModelConfig(builder="mlp", batch_norm="split"), SHAPE, CLASSES, Hyperparameters(), 0)
    with pytest.raises(ConfigError, match="the model Sequential has no batch norm"):
        make_learner(spec)
    with pytest.raises(ConfigError, match="batch_norm: got 'split' with engine 'tflite', expected 'shared'"):
        spec.refuse_what_only_torch_has("tflite", loss_inside=True)
    assert isinstance(learner("shared"), TorchLearner)
