"""Accuracy of nodes on the common test set, real samples on the model's input scale; a device's on its own mix too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.bridge import Bridge
from fedagg_edge.learners.base import Learner
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation.crew import Crew
from fedagg_edge.tree import Tree

__all__ = ["Logits", "accuracy", "evaluate", "evaluated_nodes", "hits", "on_own_mix", "view_accuracies"]

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A model: samples [N, *sample_shape] on the model's input scale -> logits [N, C]."""


def hits(learner: Learner, x_N: NDArray[np.float32], y_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each sample's largest logit is its label's, bool [N]."""
    right_N: NDArray[np.bool_] = learner.logits(x_N).argmax(axis=1) == y_N
    return right_N


def accuracy(learner: Learner, x_N: NDArray[np.float32], y_N: NDArray[np.int64]) -> float:
    """Share of samples whose largest logit is their label's."""
    return float(hits(learner, x_N, y_N).mean())


def on_own_mix(hits_N: NDArray[np.bool_], y_N: NDArray[np.int64], own_y_M: NDArray[np.int64]) -> float | None:
    """Accuracy on a test set whose classes had the shares that they have among a device's own labels `own_y_M`: the
    mean of each class's accuracy in `hits_N`, weighted by those. Classes without a test sample do not count; None
    if the device has no other."""
    size = int(max(y_N.max(), own_y_M.max())) + 1
    tested_C = np.bincount(y_N, minlength=size)
    right_C = np.bincount(y_N, weights=hits_N, minlength=size)
    share_C = np.where(tested_C > 0, np.bincount(own_y_M, minlength=size), 0)
    if not share_C.any():
        return None
    return float((share_C * right_C / np.maximum(tested_C, 1)).sum() / share_C.sum())


def evaluated_nodes(tree: Tree, devices: int) -> tuple[NodeId, ...]:
    """The cloud, all edges and `devices` devices spread evenly over the tree (0: all of them)."""
    everyone = tree.tier(Tier.DEVICE)
    if devices and devices < len(everyone):
        picks: Sequence[int] = np.linspace(0, len(everyone) - 1, devices).round().astype(int).tolist()
        everyone = tuple(everyone[i] for i in picks)
    return (*tree.tier(Tier.CLOUD), *tree.tier(Tier.EDGE), *everyone)


def evaluate(
    learners: Mapping[NodeId, Learner],
    which: Sequence[NodeId],
    x_N: NDArray[np.float32],
    y_N: NDArray[np.int64],
    workers: int = 1,
) -> dict[NodeId, NDArray[np.bool_]]:
    """The `hits` of each node in `which`, of up to `workers` at a time."""

    def measure(node: NodeId) -> tuple[NodeId, NDArray[np.bool_]]:
        return node, hits(learners[node], x_N, y_N)

    found: dict[NodeId, NDArray[np.bool_]] = {}
    with Crew[tuple[NodeId, NDArray[np.bool_]]](workers) as crew:
        for node in which:
            crew.give(partial(measure, node))
        while crew.busy:
            node, value = crew.next()
            found[node] = value
    return {node: found[node] for node in which}


def view_accuracies(
    logits: Logits, bridge: Bridge, x_N: NDArray[np.float32], y_N: NDArray[np.int64], views: Sequence[str]
) -> dict[str, float]:
    """Accuracy of one model in each of `views`: ``raw`` samples, their ``bridge`` samples dec(enc(x)), or ``both``, the
    class of the largest mean of the two's probabilities."""
    p_VNC = {}
    if {"raw", "both"} & {*views}:
        p_VNC["raw"] = _softmax(logits(x_N))
    if {"bridge", "both"} & {*views}:
        p_VNC["bridge"] = _softmax(logits(bridge.decode(bridge.encode(x_N))))
    if "both" in views:
        p_VNC["both"] = p_VNC["raw"] + p_VNC["bridge"]
    return {view: float((p_VNC[view].argmax(axis=1) == y_N).mean()) for view in views}


def _softmax(z_NC: NDArray[np.float32]) -> NDArray[np.float64]:
    e_NC = np.exp(z_NC.astype(np.float64) - z_NC.max(axis=1, keepdims=True))
    return np.asarray(e_NC / e_NC.sum(axis=1, keepdims=True), np.float64)
