import pytest
from baselines.rounds import run

from fedagg_edge.records import Tier
from fedagg_edge.simulation import references

ROUNDS = 3


def test_devices_alone_end_where_the_runs_reference_ends(method_of):
    method = method_of("alone", rounds=ROUNDS)
    arrays = method.world.arrays
    traffic, heard = run(method, rounds=ROUNDS)
    assert len(heard) == ROUNDS * method.passes() == 12
    assert traffic.total() == 0
    assert method.product() is None
    scores = method.scores(method.devices, arrays.test_x_N, arrays.test_y_N)
    want = references.alone(method.world, method.devices, {})
    assert sum(scores.values()) / len(scores) == pytest.approx(want)


def test_centralised_ends_where_the_bound_ends(method_of):
    method = method_of("centralised", rounds=ROUNDS)
    arrays = method.world.arrays
    traffic, heard = run(method, rounds=ROUNDS)
    assert len(heard) == ROUNDS * method.passes() == 3
    assert traffic.total() == 0
    assert method.trained == set(method.world.tree.tier(Tier.CLOUD))
    scores = method.scores(["cloud"], arrays.test_x_N, arrays.test_y_N)
    assert scores == {"cloud": references.centralised(method.world, {})}
