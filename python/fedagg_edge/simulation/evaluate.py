"""Accuracy of nodes on the common test set, real samples on the model's input scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.learners.base import Learner
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.tree import Tree

__all__ = ["accuracy", "evaluate", "evaluated_nodes"]


def accuracy(learner: Learner, x_N: NDArray[np.float32], y_N: NDArray[np.int64]) -> float:
    """Share of samples whose largest logit is their label's."""
    return float((learner.logits(x_N).argmax(axis=1) == y_N).mean())


def evaluated_nodes(tree: Tree, devices: int) -> tuple[NodeId, ...]:
    """The cloud, all edges and `devices` devices spread evenly over the tree (0: all of them)."""
    everyone = tree.tier(Tier.DEVICE)
    if devices and devices < len(everyone):
        picks: Sequence[int] = np.linspace(0, len(everyone) - 1, devices).round().astype(int).tolist()
        everyone = tuple(everyone[i] for i in picks)
    return (*tree.tier(Tier.CLOUD), *tree.tier(Tier.EDGE), *everyone)


def evaluate(
    learners: Mapping[NodeId, Learner], which: Sequence[NodeId], x_N: NDArray[np.float32], y_N: NDArray[np.int64]
) -> dict[NodeId, float]:
    """Accuracy of each node in `which`."""
    return {n: accuracy(learners[n], x_N, y_N) for n in which}
