"""DemLearn's self-organised hierarchy: device models clustered into a tree, averaged upwards, mixed downwards. Pure.

Shape letters: K devices, P values of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.baselines.average import average, mix
from fedagg_edge.errors import ConfigError

__all__ = ["Group", "cluster", "generalise", "group_tree", "specialise"]

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the hierarchy: groups or devices, a device being its number."""

    children: tuple[Group | int, ...]


@dataclass(slots=True)
class Generalised:
    """A group with its model, and the number of devices below it."""

    weights_P: Weights
    devices: int
    children: list[Generalised | int]


def cluster(models_KP: NDArray[np.float32]) -> NDArray[np.int64]:
    """The merges [K - 1, 2] of agglomerative clustering with average linkage over Euclidean distances.

    Row i merges two clusters into cluster K + i; below K a cluster is a device. One device alone has no merges.
    """
    if len(models_KP) < 2:
        return np.empty((0, 2), np.int64)
    try:
        from scipy.cluster.hierarchy import linkage  # noqa: PLC0415  heavy, and wanted by this method only
    except ImportError as error:
        raise ConfigError("method demlearn needs scipy; run: pip install 'fedagg-edge[sim]'") from error
    merges: NDArray[np.int64] = linkage(models_KP.astype(np.float64), "average")[:, :2].astype(np.int64)
    return merges


def group_tree(merges: NDArray[np.int64], levels: int) -> Group:
    """The dendrogram cut to `levels` levels of groups below the root: the root's two clusters are groups of level
    `levels`, each splits once a level, and a group of level 1 holds all its devices. A cluster of one is its device.
    """
    count = len(merges) + 1
    if count == 1:
        return Group((0,))
    return Group(tuple(_grow(int(c), merges, levels) for c in merges[-1]))


def _grow(cluster_id: int, merges: NDArray[np.int64], level: int) -> Group | int:
    count = len(merges) + 1
    if cluster_id < count:
        return cluster_id
    if level <= 1:
        return Group(tuple(_leaves(cluster_id, merges)))
    return Group(tuple(_grow(int(c), merges, level - 1) for c in merges[cluster_id - count]))


def _leaves(cluster_id: int, merges: NDArray[np.int64]) -> list[int]:
    """The devices of a cluster, in order; a loop, because a dendrogram may be as deep as there are devices."""
    count, pending, found = len(merges) + 1, [cluster_id], []
    while pending:
        one = pending.pop()
        if one < count:
            found.append(one)
        else:
            pending += [int(c) for c in merges[one - count]]
    return sorted(found)


def generalise(group: Group, models_KP: Sequence[Weights]) -> Generalised:
    """Upwards: each group's model is the mean of its children's, weighted by how many devices they stand for."""
    children: list[Generalised | int] = [c if isinstance(c, int) else generalise(c, models_KP) for c in group.children]
    models = [models_KP[c] if isinstance(c, int) else c.weights_P for c in children]
    counts = [1 if isinstance(c, int) else c.devices for c in children]
    return Generalised(average(models, counts), sum(counts), children)


def specialise(root: Generalised, models_KP: Sequence[Weights], alpha: float) -> tuple[list[Weights], list[Weights]]:
    """Downwards: child = (1 - alpha) child + alpha parent, level by level; the root stays.

    Returns the devices' new models, and of each device the model of the group it hangs below.
    """
    devices, parents = list(models_KP), list(models_KP)
    pending = [root]
    while pending:
        group = pending.pop()
        for child in group.children:
            if isinstance(child, int):
                devices[child] = mix(models_KP[child], group.weights_P, alpha)
                parents[child] = group.weights_P
            else:
                child.weights_P = mix(child.weights_P, group.weights_P, alpha)
                pending.append(child)
    return devices, parents
