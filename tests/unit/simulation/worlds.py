"""Small data, configurations and nodes for the tests of the simulator. No test lives here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from toys import CLASSES, SHAPE, IdentityBridge

from fedagg_edge.config import Hyperparameters, SimulationConfig, parse_config
from fedagg_edge.datasets import Dataset
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.node import Node
from fedagg_edge.records import LogitsFormat, NodeId, Tier
from fedagg_edge.samples import PrivateSamples
from fedagg_edge.simulation.results import SimulationResults
from fedagg_edge.store import MemoryStore
from fedagg_edge.tree import Tree

ROWS = 6

DEVICES = {"model": "mlp", "count": 2}
EDGE = {"model": "mlp", "children": [DEVICES]}


def bands(train: int = 48, test: int = 18, public: int = 32, seed: int = 0, **changes: Any) -> Dataset:
    """8x8 images 0..16 of three classes: which third of the columns is bright."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> tuple[Any, Any]:
        y = np.arange(count) % 3
        x = rng.integers(0, 7, (count, 1, 8, 8))
        x[np.arange(8) // 3 == y[:, None, None, None] * np.ones((1, 1, 8, 1), int)] += 9
        return x.astype(np.uint8), y.astype(np.int64)

    (x, y), (test_x, test_y), (public_x, _) = draw(train), draw(test), draw(public)
    fields = {
        "name": "bands",
        "classes": 3,
        "train_x": x,
        "train_y": y,
        "test_x": test_x,
        "test_y": test_y,
        "public_x": public_x,
        "input_low": (0.0,),
        "input_high": (16.0,),
    }
    return Dataset(**{**fields, **changes})


def toy_config(artefact: Path | None = None, **changes: Any) -> SimulationConfig:
    """One edge with two devices below a cloud, two rounds, no references."""
    raw: dict[str, Any] = {
        "name": "toy",
        "rounds": 2,
        "data": {"source": "given-from-python"},
        "partition": {"rule": "iid"},
        "autoencoder": {"epochs": 1} if artefact is None else {"path": str(artefact)},
        "tree": {"model": "mlp", "children": [EDGE]},
        "evaluation": {"references": False},
    }
    return parse_config({**raw, **changes})


def toy_nodes(tree: Tree, hp: Hyperparameters, form: LogitsFormat = LogitsFormat.F32) -> dict[NodeId, Node]:
    """A node per place with a linear model over the identity bridge."""
    nodes = {}
    for place in tree.places.values():
        rng = np.random.default_rng(list(place.id.encode()))
        linear = torch.nn.Linear(4, CLASSES)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(rng.normal(size=(CLASSES, 4)).astype(np.float32)))
            linear.bias.zero_()
        samples = None
        if place.tier is Tier.DEVICE:
            x_N = rng.random((ROWS, *SHAPE), np.float32)
            samples = PrivateSamples(place.id, CLASSES, x_N, rng.integers(0, CLASSES, ROWS))
        learner = TorchLearner(torch.nn.Sequential(torch.nn.Flatten(), linear))
        nodes[place.id] = Node(place, "toy", CLASSES, 3, learner, IdentityBridge(), MemoryStore(), hp, form, samples)
    return nodes


def bits(nodes: Mapping[NodeId, Node]) -> dict[str, bytes]:
    """All weights, to the last bit."""
    return {name: node.learner.state().weights.tobytes() for name, node in nodes.items()}


def some_results(folder: Path = Path("runs/toy"), **changes: Any) -> SimulationResults:
    """Results of a cloud, an edge and two devices after rounds 0, 1 and 3."""
    fields: dict[str, Any] = {
        "folder": folder,
        "method": "fedagg",
        "title": "FedAgg",
        "round_R": np.array([0, 1, 3]),
        "nodes": ("cloud", "edge-0", "device-000", "device-001"),
        "tiers": (Tier.CLOUD, Tier.EDGE, Tier.DEVICE, Tier.DEVICE),
        "accuracy_RV": np.array([[0.1, 0.2, 0.3, 0.5], [0.4, 0.3, 0.4, 0.6], [0.8, 0.5, 0.4, 0.7]]),
        "alone": 0.5,
        "centralised": 0.9,
        "bytes_total": 123456,
        "bytes_per_device": 640.25,
        "seconds": 1.2345,
    }
    return SimulationResults(**{**fields, **changes})
