"""Small things that several tests need: an identity bridge, a linear model, a tree by hand. No test lives here."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedagg_edge.config import Hyperparameters, NodeGroup, SimulationConfig, parse_config
from fedagg_edge.records import Embeddings, NodeId, SampleSet, counters
from fedagg_edge.tree import Tree, plant

CLASSES = 3
SHAPE = (1, 2, 2)


class IdentityBridge:
    """A bridge whose embedding is the sample itself in 256 steps: decode(encode(x)) is x rounded."""

    digest = "0" * 64
    sample_shape = SHAPE
    embedding_bytes = 4

    def scale(self, raw_N: Any) -> Any:
        return np.asarray(raw_N, np.float32)

    def encode(self, x_N: Any) -> Any:
        return np.rint(255 * x_N).astype(np.uint8).reshape(len(x_N), -1)

    def decode(self, code_NB: Any) -> Any:
        return (code_NB.astype(np.float32) / np.float32(255)).reshape(-1, *SHAPE)


def embeddings(origin: str, count: int, *, start: int = 0, seed: int = 0) -> Embeddings:
    rng = np.random.default_rng([seed, start, *origin.encode()])
    samples = SampleSet.of(NodeId(origin), counters(start, count))
    return Embeddings(samples, rng.integers(0, 256, (count, 4), np.uint8), rng.integers(0, CLASSES, count))


def hyperparameters(**changes: Any) -> Hyperparameters:
    return Hyperparameters(**{"learning_rate": 0.1, "batch_size": 4, **changes})


def small_tree() -> Tree:
    """Four nodes: cloud, edge-0, device-000, device-001."""
    leaf = NodeGroup(model="linear", count=2)
    return plant(NodeGroup(model="linear", children=(NodeGroup(model="linear", children=(leaf,)),)), 0)


def config(**changes: Any) -> SimulationConfig:
    """A configuration of one edge with two devices on the digits."""
    raw = {
        "name": "toy",
        "rounds": 2,
        "data": {"source": "digits"},
        "partition": {"rule": "iid"},
        "autoencoder": {"epochs": 1},
        "tree": {"model": "mlp", "children": [{"model": "mlp", "children": [{"model": "mlp", "count": 2}]}]},
    }
    return parse_config({**raw, **changes})
