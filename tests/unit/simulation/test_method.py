import numpy as np
import pytest
from simulation.worlds import bands, toy_config

from fedagg_edge.autoencoder import artefact
from fedagg_edge.errors import CheckpointError
from fedagg_edge.simulation import build
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.evaluate import accuracy
from fedagg_edge.simulation.method import Trained


@pytest.fixture
def made(artefact_path):
    """A method that trains the nodes it is given."""

    def make(*names):
        world = build.build_world(toy_config(artefact_path), bands(), artefact.load(artefact_path))
        method = Trained(world, {})
        method.learners = {n: world.nodes[n].learner for n in names}
        return method

    return make


def test_what_it_trains_is_judged_saved_and_put_back(made):
    method, other = made("cloud", "device-001"), made("cloud", "device-001")
    assert method.trained == {"cloud", "device-001"}
    assert method.devices == ("device-000", "device-001")
    x, y = method.world.arrays.test_x_N, method.world.arrays.test_y_N
    found = method.hits(["device-001"], x, y)
    assert {n: right_N.mean() for n, right_N in found.items()} == {
        "device-001": accuracy(method.learners["device-001"], x, y)
    }
    state = method.learners["cloud"].state()
    state.weights[:] += 1
    method.learners["cloud"].load_state(state)
    other.restore(*method.snapshot())
    np.testing.assert_array_equal(other.learners["cloud"].state().weights, state.weights)
    traffic = Traffic()
    method.init(traffic)
    assert traffic.total() == 0


def test_the_product_is_the_clouds_model_if_there_is_one(made):
    method = made("cloud")
    for name, values in method.learners["cloud"].state().arrays().items():
        np.testing.assert_array_equal(method.product()[name], values)
    assert made("device-000").product() is None


def test_another_methods_checkpoint_is_refused(made):
    with pytest.raises(CheckpointError, match="2 nodes that are not this tree's 1"):
        made("cloud").restore(*made("cloud", "edge-0").snapshot())


def test_the_clouds_logits_are_its_learners_and_none_without_one(made):
    method = made("cloud")
    x = method.world.arrays.test_x_N
    np.testing.assert_array_equal(method.cloud_logits()(x), method.learners["cloud"].logits(x))
    assert made("device-000").cloud_logits() is None
