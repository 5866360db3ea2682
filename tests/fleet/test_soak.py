"""Simulated devices at one real gateway; `make soak` has two thousand of them."""

import pytest
from soak import growth, soak


def test_all_are_served_and_memory_stays():
    rows = soak(40, 12)
    assert [row["version"] for row in rows] == list(range(12))
    assert all(row["connections"] == 40 for row in rows)
    assert growth(rows) <= 1.03


@pytest.mark.slow
def test_two_thousand_are_served_and_memory_stays():
    rows = soak(2000, 24)
    assert all(row["connections"] == 2000 for row in rows)
    assert growth(rows) <= 1.03


def test_growth_is_seen():
    assert growth([{"rss": 100 + 10 * max(0, i - 4)} for i in range(24)]) > 1.5
