import math
from pathlib import Path

import pytest

from fedagg_edge.fleet.metrics import MOST_SERIES, Registry


def test_the_text(tmp_path: Path) -> None:
    registry = Registry()
    registry.counter("b_total", "Bees.", ("kind",)).add(2, 'a"\\\n')
    registry.gauge("a", "A.").set(1.5)
    histogram = registry.histogram("c", "C.", (1.0, 2.0))
    for value in (1.0, 1.5, 9.0):
        histogram.observe(value)
    expected = """\
# HELP a A.
# TYPE a gauge
a 1.5
# HELP b_total Bees.
# TYPE b_total counter
b_total{kind="a\\"\\\\\\n"} 2
# HELP c C.
# TYPE c histogram
c_bucket{le="1"} 1
c_bucket{le="2"} 2
c_bucket{le="+Inf"} 3
c_sum 11.5
c_count 3
"""
    assert registry.render() == expected
    registry.save(tmp_path / "metrics")
    assert (tmp_path / "metrics").read_text() == expected


def test_numbers_that_are_none_are_spelt_as_prometheus_does() -> None:
    for value, text in ((math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (3.0, "3")):
        registry = Registry()
        registry.gauge("a", "A.").set(value)
        assert registry.render().splitlines()[-1] == f"a {text}"


def test_a_metric_is_bounded_and_made_once() -> None:
    registry = Registry()
    counter = registry.counter("a", "A.", ("x",))
    with pytest.raises(ValueError, match="already"):
        registry.gauge("a", "A.")
    with pytest.raises(ValueError, match="expected values"):
        counter.add(1)
    with pytest.raises(ValueError, match="at least 0"):
        counter.add(-1, "x")
    for i in range(MOST_SERIES):
        counter.add(1, str(i))
    with pytest.raises(ValueError, match="fixed set"):
        counter.add(1, "one more")
