"""An experiment's tree as a fleet on this machine: one configuration a node, each device's private samples.

The same partition, seeds, models and hyperparameters as the simulator takes from the same file, so that the two can be
compared. Nothing is written or started here: `up.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import SimulationConfig
from fedagg_edge.datasets import Dataset
from fedagg_edge.errors import ConfigError
from fedagg_edge.fleet.config import check_norms, check_supported
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation.build import deal_rows
from fedagg_edge.tree import Place, plant

__all__ = ["PlannedNode", "plan"]


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One node: its configuration in the shape of its TOML, and a device's raw samples and labels."""

    place: Place
    table: Mapping[str, Any]
    private: tuple[NDArray[Any], NDArray[np.int64]] | None = None


def plan(
    config: SimulationConfig,
    dataset: Dataset,
    ports: Mapping[NodeId, int],
    *,
    rounds: Mapping[str, Any],
    knowledge: str | None = None,
) -> list[PlannedNode]:
    """All nodes, parents before children. `ports`: where each parent listens on loopback. `rounds`: keys of the
    fleet's ``[rounds]`` that are not each node's own (mode, target, deadline, ...).

    Files are named as `up.py` lays them: beside a node's file its ``state`` and a device's ``private`` folder, above
    them ``autoencoder.safetensors`` and ``test.npz``. Raises ConfigError for a schedule or
    hyperparameters that a fleet cannot have.
    """
    if config.schedule != "snapshot":
        raise ConfigError(
            f"schedule: got {config.schedule!r}, expected 'snapshot': in a fleet children start every exchange, "
            "so siblings cannot take turns"
        )
    if config.bridge_views != "plain":
        raise ConfigError(
            f"bridge_views: got {config.bridge_views!r}, expected 'plain': a fleet's nodes do not agree on "
            "the kind of views yet; leave them to `fedagg simulate`"
        )
    if config.evaluation.views != ("raw",):
        raise ConfigError(
            f"evaluation.views: got {list(config.evaluation.views)}, expected ['raw']: a fleet's nodes measure "
            "themselves on raw samples only, yet; leave the other views to `fedagg simulate`"
        )
    check_norms(config.models, config.name)
    for tier in Tier:
        check_supported(config.training.of(tier), config.name, f"training.{tier.value}")
    tree = plant(config.tree, config.seed)
    rows_of = deal_rows(config, dataset, tree)
    nodes = []
    for place in tree.places.values():
        private = None
        if place.tier is Tier.DEVICE:
            rows = rows_of[place.id]
            private = (dataset.train_x[rows], dataset.train_y[rows])
        table = _common(config, place, rounds) | _of_tier(place, dataset.classes, ports)
        if knowledge is not None:
            table["knowledge"] = knowledge
        nodes.append(PlannedNode(place, table, private))
    return nodes


def _common(config: SimulationConfig, place: Place, rounds: Mapping[str, Any]) -> dict[str, Any]:
    """What every node's file says."""
    own = {k: v for k, v in rounds.items() if place.parent is None or k != "target"}
    if place.children:
        own["children"] = len(place.children)
    training = msgspec.to_builtins(config.training.of(place.tier))
    return {
        "federation": config.name,
        "knowledge": config.knowledge.value,
        "modules": str(Path(config.base_dir).absolute()),
        "node": {
            "id": place.id,
            "state": "state",
            "model": place.model,
            "seed": config.seed,
            "threads": config.threads,
        },
        "models": {place.model: msgspec.to_builtins(config.model(place.model))},
        "training": {k: v for k, v in training.items() if v is not None},  # TOML has no null
        "rounds": own,
    }


def _of_tier(place: Place, classes: int, ports: Mapping[NodeId, int]) -> dict[str, Any]:
    """What only parents, children, devices or the cloud have."""
    table: dict[str, Any] = {}
    if place.children:
        table["listen"] = {"host": "127.0.0.1", "port": ports[place.id]}
        table["evaluation"] = "../test.npz"
    if place.parent is None:
        table |= {"classes": classes, "autoencoder": {"path": "../autoencoder.safetensors"}}
    else:
        table["parent"] = {"url": f"https://127.0.0.1:{ports[place.parent]}", "token_file": "token"}
    if place.tier is Tier.DEVICE:
        table |= {"data": {"source": "folder", "options": {"path": "private"}}, "poll": 1.0}
    return table
