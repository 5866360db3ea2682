import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.identity.pem import Validity
from fedagg_edge.identity.renewal import DAY, GRACE, Standing, clock_is_unset, renewal_due, standing

WEEK = Validity("1", 1000.0, 1000.0 + 7 * DAY)


@given(st.floats(0, 1, exclude_max=True))
def test_renewal_falls_between_two_and_three_quarters_of_the_lifetime(jitter):
    part = (renewal_due(WEEK, jitter) - WEEK.not_before) / (7 * DAY)
    assert 2 / 3 - 1e-9 <= part <= 3 / 4 + 1e-9


def test_jitter_spreads_a_fleet():
    assert renewal_due(WEEK, 0.9) - renewal_due(WEEK, 0.1) > 11 * 3600
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match="jitter"):
            renewal_due(WEEK, wrong)


@pytest.mark.parametrize(
    ("after", "wanted"),
    [(0, Standing.VALID), (1, Standing.EXPIRED), (GRACE, Standing.EXPIRED), (GRACE + 1, Standing.LAPSED)],
)
def test_standing(after, wanted):
    assert standing(WEEK, WEEK.not_after + after) is wanted


def test_a_clock_before_ones_own_certificate_is_unset():
    assert clock_is_unset(0.0, WEEK)
    assert not clock_is_unset(1000.0, WEEK)
    assert clock_is_unset(1500.0, WEEK, Validity("2", 2000.0, 3000.0))
