import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.fleet.rates import Meters, TokenBucket


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 20)), max_size=60))
def test_never_more_than_the_burst_and_the_rate(steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = TokenBucket(2.0, 10.0, 0.0), 0.0, 0.0
    for pause, tokens in steps:
        now += pause
        if bucket.wait(tokens, now) == 0:
            bucket.take(tokens)
            taken += tokens
    assert taken <= 10 + 2 * now + 20 + 1e-6  # one that is larger than the bucket may overdraw it once


def test_the_wait_is_long_enough_and_no_clock_gives_more() -> None:
    bucket = TokenBucket(2.0, 10.0, 100.0)
    bucket.take(10)
    wait = bucket.wait(4, 100.0)
    assert wait == 2.0
    assert bucket.wait(4, 50.0) == 2.0
    assert bucket.wait(4, 52.0) == 0
    with pytest.raises(ValueError, match="positive"):
        TokenBucket(0, 1, 0)


def test_names_have_their_own_buckets_and_are_forgotten() -> None:
    meters = Meters(2, 1000, names=2)
    assert [meters.admit("a", 10, 0.0) for _ in range(3)] == [0, 0, 30]
    assert meters.admit("b", 10, 0.0) == 0
    meters.charge("b", 1000)
    assert meters.admit("b", 10, 0.0) > 0
    meters.admit("c", 10, 0.0)
    assert len(meters) == 2
