"""A finished run, read again: its configuration, data, tree and a checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fedagg_edge import checkpoint, load_config, simulate
from fedagg_edge.autoencoder import artefact
from fedagg_edge.bridge import Bridge, open_bridge
from fedagg_edge.config import SimulationConfig, parse_config
from fedagg_edge.datasets import Dataset
from fedagg_edge.learners.base import Learner
from fedagg_edge.records import NodeId
from fedagg_edge.simulation import build
from fedagg_edge.simulation.state import restore_learners
from fedagg_edge.tree import Tree, plant

__all__ = ["Finished", "digits", "read"]

DIGITS = Path(__file__).parents[2] / "examples" / "digits.toml"


@dataclass(frozen=True, slots=True)
class Finished:
    """A run after a round."""

    config: SimulationConfig
    data: Dataset
    bridge: Bridge
    tree: Tree
    saved: checkpoint.Checkpoint

    def learner(self, node: NodeId) -> Learner:
        """The node's model as it was then."""
        place = self.tree.places[node]
        learner = build.make_learner(self.config, place, self.bridge.sample_shape, self.data.classes, {})
        restore_learners({node: learner}, self.saved.tensors, {node: self.saved.meta["nodes"][node]})
        return learner


def read(folder: Path, number: int | None = None) -> Finished:
    """The run in `folder` after round `number` (None: the last that is kept). Ends the program if there is none."""
    if not (folder / "config.json").exists():
        raise SystemExit(f"{folder}: no run here; name the folder of one that kept its checkpoints")
    told: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config = parse_config(told, base_dir=told.pop("base_dir", "."))
    bridge = open_bridge(artefact.load(folder / "autoencoder.safetensors"))
    saved = checkpoint.load(folder / "checkpoints", number)
    return Finished(config, build.read_data(config), bridge, plant(config.tree, config.seed), saved)


def digits(folder: Path, rounds: int | None) -> Finished:
    """The demo, run in `folder` now, for as many rounds (None: all of its own)."""
    config = load_config(DIGITS)
    simulate(config if rounds is None else msgspec.structs.replace(config, rounds=rounds), out=folder)
    return read(folder)
