"""Which device holds which training sample: Dirichlet, IID, by group, or the user's own rule. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import plugins
from fedagg_edge.datasets import Dataset
from fedagg_edge.errors import ConfigError, DataError, nearest

__all__ = ["PartitionRule", "by_group", "dirichlet", "iid", "partition"]

Rows = NDArray[np.int64]

_TRIES = 1000  # redraws; a setting that needs more is one that chance should not decide


class PartitionRule(Protocol):
    """What ``module:function`` must name."""

    def __call__(
        self, dataset: Dataset, devices: int, rng: np.random.Generator, **kwargs: Any
    ) -> list[NDArray[np.int64]]:
        """Return one array of training rows a device, each row on exactly one device; draw from `rng` only."""
        ...


def partition(
    dataset: Dataset,
    rule: str | PartitionRule,
    devices: int,
    rng: np.random.Generator,
    *,
    base_dir: str | Path | None = None,
    **kwargs: Any,
) -> list[Rows]:
    """Return `devices` ascending int64 arrays of training rows: disjoint, none empty, together every row.

    `rule` is ``dirichlet``, ``iid``, ``group``, ``module:function`` (looked for in `base_dir` first) or a
    `PartitionRule` itself; `kwargs` are its own arguments. Raises ConfigError for an unknown rule or argument,
    DataError if the data cannot be divided so or if a user's rule returns anything else.
    """
    if not 1 <= devices <= len(dataset.train_x):
        raise DataError(
            f"partition: got {devices} devices, expected 1 to {len(dataset.train_x)}, the training samples of "
            f"{dataset.name}"
        )
    what = f"partition {rule if isinstance(rule, str) else getattr(rule, '__name__', 'rule')!r}"
    arguments = {"dataset": dataset, "devices": devices, "rng": rng, **kwargs}
    return _checked(plugins.call(_function(rule, base_dir), what, arguments), what, devices, len(dataset.train_x))


def _function(rule: str | PartitionRule, base_dir: str | Path | None) -> Callable[..., Any]:
    if not isinstance(rule, str):
        return rule
    if rule in _RULES:
        return _RULES[rule]
    if ":" in rule:
        return plugins.load_object(rule, base_dir)
    raise ConfigError(
        f"partition: got rule {rule!r}{nearest(rule, _RULES)}, expected {', '.join(_RULES)} or 'module:function'"
    )


def dirichlet(
    dataset: Dataset,
    devices: int,
    rng: np.random.Generator,
    *,
    alpha: float = 1.0,
    min_samples: int = 10,
    level: bool = True,
) -> list[Rows]:
    """Divide each class among the devices in proportions drawn from a symmetric Dirichlet distribution.

    The smaller `alpha`, the fewer classes a device sees. With `level`, as in the authors' demo, a device that already
    has its even share of samples gets none of the next class, which keeps sizes comparable. Drawn again until every
    device has `min_samples`; DataError if that does not happen.
    """
    if not (np.isfinite(alpha) and alpha > 0):
        raise ConfigError(f"partition 'dirichlet': got alpha {alpha}, expected a number above 0")
    if min_samples < 1:
        raise ConfigError(f"partition 'dirichlet': got min_samples {min_samples}, expected 1 or more")
    count = len(dataset.train_y)
    if min_samples * devices <= count:
        class_rows = [np.flatnonzero(dataset.train_y == c) for c in range(dataset.classes)]
        for _ in range(_TRIES):
            device_N = _draw(class_rows, np.full(devices, alpha), rng, level)
            if np.bincount(device_N, minlength=devices).min() >= min_samples:
                return [np.flatnonzero(device_N == k) for k in range(devices)]
    raise DataError(
        f"partition 'dirichlet': no draw in {_TRIES} gave each of {devices} devices {min_samples} of {count} samples "
        f"at alpha {alpha}; use fewer devices, a larger alpha or a smaller min_samples"
    )


def _draw(
    class_rows: list[NDArray[np.intp]], alpha_K: NDArray[np.float64], rng: np.random.Generator, level: bool
) -> NDArray[np.int64]:
    """One draw: the device of every row."""
    devices, count = len(alpha_K), sum(map(len, class_rows))
    device_N = np.zeros(count, np.int64)
    size_K = np.zeros(devices, np.int64)
    for row_N in class_rows:
        share_K = rng.dirichlet(alpha_K)
        if level:
            share_K = share_K * (size_K * devices < count)
        if share_K.sum() == 0:  # a tiny alpha gave all its weight to a device that is full
            share_K = (size_K * devices < count).astype(np.float64)
            if not share_K.any():
                continue  # every device has its share, so this class is empty
        cut_K = (np.cumsum(share_K / share_K.sum())[:-1] * len(row_N)).astype(np.int64)
        for k, part in enumerate(np.split(rng.permutation(row_N), cut_K)):
            device_N[part] = k
            size_K[k] += len(part)
    return device_N


def iid(dataset: Dataset, devices: int, rng: np.random.Generator) -> list[Rows]:
    """Deal all samples out at random; device sizes differ by one at most."""
    return [np.sort(part) for part in np.array_split(rng.permutation(len(dataset.train_y)), devices)]


def by_group(dataset: Dataset, devices: int, rng: np.random.Generator) -> list[Rows]:
    """Give every device whole groups: real people or machines.

    As many groups as devices: device k is the k-th group in order. More groups: they are shuffled and dealt out.
    DataError if there are fewer groups than devices, or none.
    """
    if dataset.group_N is None:
        raise DataError(
            f"partition 'group': data set {dataset.name} has no groups; name its group array, or use 'dirichlet'"
        )
    names, group_N = np.unique(dataset.group_N, return_inverse=True)
    if len(names) < devices:
        raise DataError(
            f"partition 'group': got {devices} devices for {len(names)} groups, expected no more devices than groups; "
            f"use {len(names)} devices, or 'dirichlet'"
        )
    order = np.arange(devices) if len(names) == devices else rng.permutation(len(names))
    device_G = np.empty(len(names), np.int64)
    device_G[order] = np.arange(len(names)) % devices
    return [np.flatnonzero(device_G[group_N] == k) for k in range(devices)]


def _checked(result: Any, what: str, devices: int, count: int) -> list[Rows]:
    """Return a rule's result as ascending int64 arrays; DataError unless it divides all rows among all devices."""
    if not isinstance(result, list | tuple) or len(result) != devices:
        got = f"{len(result)} parts" if isinstance(result, list | tuple) else type(result).__name__
        raise DataError(f"{what}: got {got}, expected a list of {devices} arrays of training rows")
    parts = [_checked_part(part, f"{what}: device {k}", count) for k, part in enumerate(result)]
    times_N = np.bincount(np.concatenate(parts), minlength=count)
    wrong = np.flatnonzero(times_N != 1)
    if len(wrong):
        row = wrong[0]
        raise DataError(f"{what}: row {row} is on {times_N[row]} devices, expected every row on exactly one")
    return parts


def _checked_part(part: Any, what: str, count: int) -> Rows:
    row_N = np.asarray(part)
    if row_N.dtype.kind not in "iu" or row_N.ndim != 1 or len(row_N) == 0:
        raise DataError(f"{what}: got {row_N.dtype} {row_N.shape}, expected one or more whole row numbers")
    if row_N.min() < 0 or row_N.max() >= count:
        raise DataError(f"{what}: got rows {row_N.min()}..{row_N.max()}, expected 0..{count - 1}")
    return np.sort(row_N.astype(np.int64))


_RULES: Mapping[str, Callable[..., list[Rows]]] = {"dirichlet": dirichlet, "iid": iid, "group": by_group}
