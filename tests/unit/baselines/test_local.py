import numpy as np
import pytest
import torch
from baselines.rounds import run

from fedagg_edge.baselines import METHODS, local
from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.records import Link, NodeId
from fedagg_edge.simulation.driver import Traffic

TWO = {"mlp": 0.5, "small": 0.5}


def mixed_tree():
    return {"model": "mlp", "children": [{"model": "mlp", "children": [{"model": TWO, "count": 2}]}]}


def test_one_model_is_taken_from_the_devices(world_of):
    assert local.shared_model(world_of(), "hierfavg", None) == "mlp"
    assert local.shared_model(world_of(), "hierfavg", "other") == "other"


def test_several_models_must_be_chosen_from(world_of):
    world = world_of(tree=mixed_tree(), models={"small": {"builder": "mlp", "options": {"hidden": [3]}}})
    said = r"methods\.hierfavg\.model: this method averages weights.* mlp, small; name one"
    with pytest.raises(ConfigError, match=said):
        local.shared_model(world, "hierfavg", None)
    assert local.shared_model(world, "hierfavg", "small") == "small"


def test_a_shared_learner_is_the_device_model_at_any_place(world_of):
    world = world_of(models={"tiny": {"builder": "mlp", "options": {"hidden": [2]}}})
    learner = local.shared_learner(world, {}, world.tree.root, "tiny")
    assert learner.state().arrays()["1.weight"].shape == (2, 64)


def test_received_weights_start_with_an_empty_optimizer(world_of):
    world = world_of()
    place = world.tree.places[NodeId("device-000")]
    learner = local.own_learner(world, {}, place)
    local.train_private(world, learner, place, np.arange(8), "x")
    assert np.abs(learner.state().slots["momentum"]).sum() > 0
    local.load_weights(learner, np.zeros_like(learner.state().weights))
    state = learner.state()
    assert not state.weights.any()
    assert not state.slots["momentum"].any()
    assert state.steps == 0


class Recorder(TorchLearner):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 4)))
        self.batches = []

    def step(self, batch, hyperparameters):
        self.batches.append(batch)
        return super().step(batch, hyperparameters)


def test_a_taught_pass_sees_every_row_with_its_own_teacher():
    x_N = np.arange(27, dtype=np.float32).reshape(9, 3)
    y_N, teacher_NC = np.arange(9) % 4, np.repeat(np.arange(9, dtype=np.float32)[:, None], 4, axis=1)
    learner, settings = Recorder(), Hyperparameters(batch_size=4, epochs=2, learning_rate=1e-4)
    loss = local.taught_pass(learner, x_N, y_N, teacher_NC, hyperparameters=settings, rng=np.random.default_rng(0))
    assert [len(b.bridge_y_N) for b in learner.batches] == [4, 5, 4, 5]  # one row alone joins those before
    for batch in learner.batches:
        row_N = (batch.bridge_x_N[:, 0] / 3).astype(int)
        np.testing.assert_array_equal(batch.bridge_y_N, y_N[row_N])
        np.testing.assert_array_equal(batch.teacher_NC, teacher_NC[row_N])
    for epoch in (learner.batches[:2], learner.batches[2:]):
        assert sorted(np.concatenate([b.bridge_x_N[:, 0] for b in epoch])) == list(range(0, 27, 3))
    assert np.isfinite(loss)


def test_a_taught_pass_takes_batch_norm_anew_if_asked():
    learner = TorchLearner(torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 4)))
    x_N = np.random.default_rng(0).normal(5, 2, (64, 3)).astype(np.float32)
    settings = Hyperparameters(batch_size=8, learning_rate=1e-4, batch_norm_rows=64)
    local.taught_pass(learner, x_N, np.arange(64) % 4, None, hyperparameters=settings, rng=np.random.default_rng(0))
    np.testing.assert_allclose(learner.state().arrays()["0.running_mean"], x_N.mean(axis=0), rtol=1e-5)


def test_a_route_goes_up_to_the_cloud(world_of):
    tree = world_of().tree
    assert local.route(tree, NodeId("device-002")) == (
        Link(NodeId("device-002"), NodeId("edge-1")),
        Link(NodeId("edge-1"), NodeId("cloud")),
    )
    assert local.route(tree, NodeId("cloud")) == ()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_follows_the_learning_rates_schedule(method_of, monkeypatch, name):
    training = {"learning_rate": 0.1, "learning_rate_schedule": "step", "decay_rounds": 1, "decay_factor": 0.5}
    method = method_of(name, training=training, schedule="snapshot")
    method.init(Traffic())
    seen, step = set(), TorchLearner.step

    def watched(self, batch, hyperparameters):
        seen.add(hyperparameters.learning_rate)
        return step(self, batch, hyperparameters)

    monkeypatch.setattr(TorchLearner, "step", watched)
    for number, rate in enumerate((0.1, 0.05, 0.025)):
        seen.clear()
        run(method, first=number)
        assert seen == {rate}
