import numpy as np
import pytest
from baselines.rounds import run, weights

from fedagg_edge.simulation.driver import Traffic


def started(method):
    traffic = Traffic()
    method.init(traffic)
    return traffic


@pytest.mark.parametrize("views", ["plain", "mirror+shift"])
@pytest.mark.parametrize("schedule", ["sequential", "snapshot"])
def test_it_is_fedagg_with_beta_0_to_the_bit_but_sends_nothing(method_of, schedule, views):
    changes = {"schedule": schedule, "bridge_views": views}
    bridge_only = method_of("bridge-only", **changes, training={"beta": 5.0})
    fedagg = method_of("fedagg", **changes, training={"beta": 0.0})
    assert started(bridge_only).total() == started(fedagg).total() > 0
    traffic, heard = run(bridge_only, rounds=2)
    other_traffic, other_heard = run(fedagg, rounds=2)
    for node in fedagg.trained:
        np.testing.assert_array_equal(weights(bridge_only, node), weights(fedagg, node), err_msg=node)
    assert sorted(heard) == sorted(other_heard)
    assert len(heard) == 2 * bridge_only.passes()
    assert traffic.total() == 0 < other_traffic.total()


@pytest.mark.parametrize("schedule", ["sequential", "snapshot"])
def test_the_cloud_is_that_of_fedagg_whose_knowledge_only_goes_down(method_of, schedule):
    changes = {"schedule": schedule, "bridge_views": "mirror+shift"}
    bridge_only = method_of("bridge-only", **changes)
    fedagg = method_of("fedagg", **changes, training={"children_beta": 0.0})
    for method in (bridge_only, fedagg):
        started(method)
        run(method, rounds=2)
    np.testing.assert_array_equal(weights(bridge_only, "cloud"), weights(fedagg, "cloud"))
    for below in ("edge-0", "device-000"):
        assert (weights(bridge_only, below) != weights(fedagg, below)).any()


def test_distillation_makes_a_difference(method_of):
    bridge_only, fedagg = method_of("bridge-only"), method_of("fedagg")
    for method in (bridge_only, fedagg):
        started(method)
        run(method)
    assert (weights(bridge_only, "cloud") != weights(fedagg, "cloud")).any()
