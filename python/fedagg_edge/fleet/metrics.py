"""Counters, gauges and histograms, and their rendering in the Prometheus text format (version 0.0.4).

Labels come from small fixed sets (an endpoint, a status, a reason), never from what a peer sent: a registry's size is
bounded by the code. Safe to use from several threads.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from fedagg_edge.files import write_atomic

__all__ = ["MEDIA_TYPE", "SECONDS", "Counter", "Gauge", "Histogram", "Registry"]

MEDIA_TYPE = "text/plain; version=0.0.4"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
MOST_SERIES = 1000
"""Label sets per metric; one more is an error of ours, not of a peer."""

Labels = tuple[str, ...]
M = TypeVar("M", bound="_Metric")


class _Metric:
    kind = "untyped"

    def __init__(self, name: str, text: str, labels: Labels) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._lock = threading.Lock()

    def _check(self, values: Labels, known: int) -> None:
        if len(values) != len(self.labels):
            raise ValueError(f"metric {self.name}: got labels {values}, expected values for {self.labels}")
        if known >= MOST_SERIES:
            raise ValueError(f"metric {self.name}: over {MOST_SERIES} label sets, labels must come from a fixed set")

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """(suffix of the name, rendered labels, value) of each series."""
        raise NotImplementedError


class Counter(_Metric):
    """Only goes up."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        super().__init__(name, text, labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def add(self, amount: float = 1, *values: str) -> None:
        """Add `amount` >= 0 to the series of these label values."""
        if amount < 0:
            raise ValueError(f"counter {self.name}: got {amount}, expected at least 0")
        with self._lock:
            if values not in self._values:
                self._check(values, len(self._values))
            self._values[values] = self._values.get(values, 0.0) + amount

    def value(self, *values: str) -> float:
        return self._values.get(values, 0.0)

    def samples(self) -> Iterator[tuple[str, str, float]]:
        with self._lock:
            found = sorted(self._values.items())
        for values, value in found:
            yield "", _render_labels(self.labels, values), value


class Gauge(_Metric):
    """Goes up and down; or is read from `read` when it is rendered."""

    kind = "gauge"

    def __init__(self, name: str, text: str, read: Callable[[], float] | None = None) -> None:
        super().__init__(name, text, ())
        self._value, self._read = 0.0, read

    def set(self, value: float) -> None:
        self._value = value

    def samples(self) -> Iterator[tuple[str, str, float]]:
        yield "", "", self._value if self._read is None else self._read()


class Histogram(_Metric):
    """Counts of values in buckets, their sum and number."""

    kind = "histogram"

    def __init__(self, name: str, text: str, bounds: tuple[float, ...] = SECONDS, labels: Labels = ()) -> None:
        if list(bounds) != sorted(set(bounds)) or not bounds:
            raise ValueError(f"histogram {name}: got bounds {bounds}, expected ascending numbers")
        super().__init__(name, text, labels)
        self.bounds = bounds
        self._series: dict[Labels, list[float]] = {}  # a count a bucket, one beyond the last, the sum

    def observe(self, value: float, *values: str) -> None:
        place = bisect_left(self.bounds, value)
        with self._lock:
            series = self._series.get(values)
            if series is None:
                self._check(values, len(self._series))
                series = self._series[values] = [0.0] * (len(self.bounds) + 2)
            series[place] += 1
            series[-1] += value

    def samples(self) -> Iterator[tuple[str, str, float]]:
        with self._lock:
            found = sorted((values, list(series)) for values, series in self._series.items())
        for values, series in found:
            total = 0.0
            for bound, count in zip((*map(_number, self.bounds), "+Inf"), series[:-1], strict=True):
                total += count
                yield "_bucket", _render_labels((*self.labels, "le"), (*values, bound)), total
            yield "_sum", _render_labels(self.labels, values), series[-1]
            yield "_count", _render_labels(self.labels, values), total


class Registry:
    """All metrics of a process."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}

    def counter(self, name: str, text: str, labels: Labels = ()) -> Counter:
        return self._add(Counter(name, text, labels))

    def gauge(self, name: str, text: str, read: Callable[[], float] | None = None) -> Gauge:
        return self._add(Gauge(name, text, read))

    def histogram(self, name: str, text: str, bounds: tuple[float, ...] = SECONDS, labels: Labels = ()) -> Histogram:
        return self._add(Histogram(name, text, bounds, labels))

    def _add(self, metric: M) -> M:
        if metric.name in self._metrics:
            raise ValueError(f"metric {metric.name}: there is one of this name already")
        self._metrics[metric.name] = metric
        return metric

    def render(self) -> str:
        """The Prometheus text of all metrics."""
        lines = []
        for name, metric in sorted(self._metrics.items()):
            lines += [f"# HELP {name} {metric.text}", f"# TYPE {name} {metric.kind}"]
            lines += [f"{name}{suffix}{labels} {_number(value)}" for suffix, labels, value in metric.samples()]
        return "\n".join(lines) + "\n"

    def save(self, path: Path) -> None:
        """Write the text where another process's gateway reads it; the reader sees the old file or the new one."""
        write_atomic(path, self.render().encode())


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)


def _render_labels(names: Labels, values: Labels) -> str:
    escaped = (v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for v in values)
    inside = ",".join(f'{n}="{v}"' for n, v in zip(names, escaped, strict=True))
    return f"{{{inside}}}" if inside else ""
