from random import Random

from fedagg_edge.fleet.backoff import Backoff


def test_waits_grow_to_the_cap_and_are_spread() -> None:
    waits = [[b.next() for _ in range(12)] for b in (Backoff(base=1, cap=30, rng=Random(s)) for s in range(200))]
    for turn in range(12):
        column = [w[turn] for w in waits]
        most = min(30, 2**turn)
        assert 0 <= min(column) < 0.1 * most
        assert 0.9 * most < max(column) <= most


def test_a_long_run_forgets_failures() -> None:
    backoff = Backoff(base=1, cap=30, rng=Random(0), healthy=60)
    backoff.next()
    backoff.lasted(59)
    assert backoff.failures == 1
    backoff.lasted(60)
    assert backoff.failures == 0
