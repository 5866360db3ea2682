import numpy as np
import pytest
from baselines.rounds import run

from fedagg_edge.records import Tier
from fedagg_edge.simulation import references
from fedagg_edge.simulation.evaluate import on_own_mix

ROUNDS = 3


def test_devices_alone_end_where_the_runs_reference_ends(method_of):
    method = method_of("alone", rounds=ROUNDS)
    arrays = method.world.arrays
    traffic, heard = run(method, rounds=ROUNDS)
    assert len(heard) == ROUNDS * method.passes() == 12
    assert traffic.total() == 0
    assert method.product() is None
    hits = method.hits(method.devices, arrays.test_x_N, arrays.test_y_N)
    want = references.alone(method.world, method.devices, {})
    assert np.mean([right_N.mean() for right_N in hits.values()]) == pytest.approx(want.common)
    own = [on_own_mix(h_N, arrays.test_y_N, arrays.train_y_N[arrays.rows_of[d]]) for d, h_N in hits.items()]
    assert np.mean(own) == pytest.approx(want.own)


def test_centralised_ends_where_the_bound_ends(method_of):
    method = method_of("centralised", rounds=ROUNDS)
    arrays = method.world.arrays
    traffic, heard = run(method, rounds=ROUNDS)
    assert len(heard) == ROUNDS * method.passes() == 3
    assert traffic.total() == 0
    assert method.trained == set(method.world.tree.tier(Tier.CLOUD))
    hits = method.hits(["cloud"], arrays.test_x_N, arrays.test_y_N)
    assert {n: right_N.mean() for n, right_N in hits.items()} == {"cloud": references.centralised(method.world, {})}
