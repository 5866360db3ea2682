import numpy as np
import pytest
from simulation.worlds import some_results

from fedagg_edge.records import Tier


def test_curves_are_means_over_a_tier():
    results = some_results()
    np.testing.assert_allclose(results.curve(Tier.DEVICE), [0.4, 0.5, 0.55])
    np.testing.assert_allclose(results.curve(Tier.CLOUD), [0.1, 0.4, 0.8])
    assert results.final(Tier.EDGE) == 0.5


def test_a_tier_that_is_not_there_is_nan():
    results = some_results(tiers=(Tier.CLOUD, *[Tier.DEVICE] * 3))
    assert np.isnan(results.curve(Tier.EDGE)).all()
    assert np.isnan(results.final(Tier.EDGE))


@pytest.mark.parametrize(
    ("alone", "centralised", "closed"),
    [(0.5, 0.9, 0.75), (0.8, 0.9, 0.0), (0.85, 0.9, -1.0), (0.9, 0.9, None), (0.95, 0.9, None), (None, 0.9, None)],
)
def test_the_gap_closed(alone, centralised, closed):
    results = some_results(alone=alone, centralised=centralised)
    assert results.gap_closed == (None if closed is None else pytest.approx(closed))


def test_the_gap_without_a_bound():
    assert some_results(centralised=None).gap_closed is None
