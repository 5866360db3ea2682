import numpy as np
import pytest
import torch
from simulation.worlds import bands, toy_config

from fedagg_edge.autoencoder import artefact
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.records import Tier
from fedagg_edge.simulation import build, references

RUNS = []


class Watched(TorchLearner):
    """Remembers what it was trained on."""

    def __init__(self, module):
        super().__init__(module)
        self.batches = []
        RUNS.append(self)

    def step(self, batch, hyperparameters):
        self.batches.append(batch)
        return super().step(batch, hyperparameters)


def watched(spec):
    torch.manual_seed(spec.seed)
    return Watched(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, spec.classes)))


@pytest.fixture
def world(artefact_path):
    config = toy_config(rounds=3, training={"epochs": 2, "cloud": {"batch_size": 16}})
    RUNS.clear()
    return build.build_world(config, bands(), artefact.load(artefact_path), {"mlp": watched})


def test_a_device_alone_sees_its_own_samples_only(world):
    before = {n: node.learner.state().weights for n, node in world.nodes.items()}
    RUNS.clear()
    device = world.tree.tier(Tier.DEVICE)[1]
    score = references.alone(world, [device], {"mlp": watched})
    (learner,) = RUNS
    rows = world.arrays.rows_of[device]
    seen = np.concatenate([b.private_x_N for b in learner.batches])
    assert len(seen) == 3 * 2 * len(rows)  # rounds * epochs
    assert {x.tobytes() for x in seen} == {x.tobytes() for x in world.arrays.train_x(rows)}
    assert all(len(b.bridge_x_N) == 0 and b.teacher_NC is None for b in learner.batches)
    assert 0 <= score.common <= 1
    assert 0 <= score.own <= 1
    for name, node in world.nodes.items():  # FedAgg's own nodes are left alone
        np.testing.assert_array_equal(node.learner.state().weights, before[name])


def test_the_bound_sees_everything_with_the_clouds_hyperparameters(world):
    RUNS.clear()
    references.centralised(world, {"mlp": watched})
    (learner,) = RUNS
    assert len(np.concatenate([b.private_x_N for b in learner.batches])) == 3 * 2 * 48
    assert len(learner.batches[0].private_x_N) == 16


def test_the_mean_over_devices_and_the_same_every_time(world):
    devices = world.tree.tier(Tier.DEVICE)
    each = [references.alone(world, [d], {"mlp": watched}) for d in devices]
    assert references.alone(world, devices, {"mlp": watched}) == pytest.approx(tuple(np.mean(each, axis=0)))
    assert references.centralised(world, {"mlp": watched}) == references.centralised(world, {"mlp": watched})


def test_both_start_from_the_weights_that_their_node_starts_from(world):
    RUNS.clear()
    build.make_learner(world.config, world.tree.root, (1, 8, 8), 3, {"mlp": watched})
    start = RUNS[-1].state().weights
    np.testing.assert_array_equal(start, world.nodes["cloud"].learner.state().weights)
