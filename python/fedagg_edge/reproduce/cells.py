"""Which simulations a table is made of, and the configuration of each. Pure: no file, no clock.

A cell is one simulation. It does not know its table: Tables II and IV, and parts of VI and VIII, share cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedagg_edge.config import SimulationConfig, parse_config
from fedagg_edge.errors import ConfigError, nearest
from fedagg_edge.reproduce.tables import (
    BRIDGED,
    DATASETS,
    PRESETS,
    SMALL_STEM,
    TUNED,
    Setting,
    Table,
    Tuned,
    Variant,
)

__all__ = ["Cell", "Scale", "cells_of", "config_of", "edges_of", "settings_of", "shared"]

WATCHED_DEVICES = 15
"""Devices that are evaluated, evenly spread: the mean of more costs more than it tells."""

_DECODE_CACHE = 1024  # MB: 50,000 samples of CIFAR-10 and its test images take 740
_OWN_CLOUD = frozenset({"fedagg", "bridge-only", "fedgkt", "feddkc", "centralised"})


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of the paper's experiment is run: `rounds`, `share` of devices and training rows, `test` rows (0: all
    of them); and how many training rows are kept from the devices for `validation`."""

    rounds: int
    share: float = 1.0
    test: int = 0
    validation: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"--scale: got {self.share}, expected a number above 0, at most 1")
        if self.rounds < 1 or self.test < 0:
            raise ConfigError(f"got --rounds {self.rounds}, --test {self.test}, expected 1 or more, and 0 or more")
        if self.validation < 0:
            raise ConfigError(f"--validation: got {self.validation}, expected 0 or more")


@dataclass(frozen=True, slots=True)
class Cell:
    """One simulation of one method, on one setting, with one seed."""

    dataset: str
    setting: Setting
    variant: Variant
    seed: int
    scale: Scale

    @property
    def key(self) -> str:
        """The name of its folder: whatever tells two cells apart is in it."""
        s, scale = self.setting, self.scale
        beta = "" if s.beta is None else f"-beta{s.beta:g}"
        validation = f"-v{scale.validation}" if scale.validation else ""
        size = f"x{scale.share:g}-t{scale.test or 'all'}-r{scale.rounds}{validation}"
        row = f"{self.variant.method}-{self.variant.preset}"
        return f"{self.dataset}-k{s.devices}-a{s.alpha:g}-{s.cloud}{beta}-{size}-{row}-seed{self.seed}"

    @property
    def edges(self) -> int:
        """Edges, and devices below each of them."""
        return edges_of(self.setting.devices, self.scale.share)

    @property
    def views(self) -> tuple[str, ...]:
        """How the cloud's model looks at the test set: on bridge samples only if it learnt from them."""
        return ("raw", "bridge", "both") if self.variant.method in BRIDGED else ("raw",)


def edges_of(devices: int, share: float) -> int:
    """Edges at a share of the paper's K devices: sqrt(share * K), the nearest whole number, 2 or more; each has as
    many devices as there are edges, as in the paper."""
    return max(2, round(math.sqrt(share * devices)))


def settings_of(table: Table, names: Sequence[str] | None) -> tuple[Setting, ...]:
    """The table's settings, or those of them that are named; raise ConfigError for a name that is none."""
    if not names:
        return table.settings
    known = {s.name: s for s in table.settings}
    for name in names:
        if name not in known:
            raise ConfigError(f"--columns: got {name!r}{nearest(name, known)}, expected some of {', '.join(known)}")
    return tuple(known[name] for name in names)


def cells_of(
    table: Table,
    scale: Scale,
    seeds: Sequence[int],
    settings: Sequence[Setting],
    variants: Sequence[Variant] | None = None,
) -> tuple[Cell, ...]:
    """The cells of a table: all rows of a seed and setting before the next, so that what is there compares."""
    found: dict[str, Cell] = {}
    for seed in seeds:
        for setting in settings:
            for variant in variants or table.variants:
                cell = Cell(table.dataset, shared(setting, variant), variant, seed, scale)
                found[cell.key] = cell
    return tuple(found.values())


def shared(setting: Setting, variant: Variant) -> Setting:
    """The setting as a method sees it, so that columns which are one to it share a cell: without FedAgg's beta for any
    other, without a cloud's model for one whose cloud has the devices'."""
    if variant.method != "fedagg":
        setting = replace(setting, beta=None)
    return setting if variant.method in _OWN_CLOUD else replace(setting, cloud="resnet18")


def config_of(cell: Cell, data: str, autoencoder: str) -> SimulationConfig:
    """The cell's simulation; `data` and `autoencoder` are absolute paths."""
    dataset, side = DATASETS[cell.dataset], cell.edges
    preset = PRESETS[cell.variant.preset]
    keys: dict[str, Any] = {**preset.keys}
    tuned = TUNED.get(cell.variant.method, Tuned()) if preset.tuned else Tuned()
    training = _training(tuned_training(keys.pop("training", {}), tuned), cell)
    if tuned.options:
        keys["methods"] = {cell.variant.method: dict(tuned.options)}
    return parse_config(
        {
            **keys,
            "name": cell.dataset,
            "seed": cell.seed,
            "rounds": cell.scale.rounds,
            "decode_cache": _DECODE_CACHE,
            "method": cell.variant.method,
            "data": {
                "source": "fedagg_edge.reproduce.arrays:load",
                "options": {
                    "path": data,
                    "arrays": dict(dataset.arrays),
                    "classes": dataset.classes,
                    "share": cell.scale.share,
                    "test": cell.scale.test,
                    "seed": cell.seed,
                    **({"validation": cell.scale.validation} if cell.scale.validation else {}),
                },
            },
            "partition": {"rule": "dirichlet", "options": {"alpha": cell.setting.alpha}},
            "autoencoder": {"path": autoencoder},
            "models": _models(cell.setting.cloud),
            "tree": {
                "model": cell.setting.cloud,
                "children": [{"count": side, "model": "resnet10", "children": [{"count": side, "model": "cnn3"}]}],
            },
            "training": training,
            "evaluation": {"devices": WATCHED_DEVICES, "references": False, "views": list(cell.views)},
        },
        where=cell.key,
    )


def _models(cloud: str) -> dict[str, Any]:
    """``[models]``: the paper's ResNets, and the cloud's where it is another."""
    models = {name: {"builder": name, "options": {"stem": "large"}} for name in ("resnet10", "resnet18")}
    if cloud == SMALL_STEM:
        models[cloud] = {"builder": "resnet18", "options": {"stem": "small"}}
    return models


def tuned_training(training: Mapping[str, Any], tuned: Tuned) -> dict[str, Any]:
    """A preset's ``[training]`` with a method's tuned rates and keys."""
    out: dict[str, Any] = {}
    for key, value in {**training, **tuned.training}.items():
        if isinstance(value, Mapping):
            out[key] = tuned_training(value, Tuned(tuned.rate))
        else:
            out[key] = value * tuned.rate if key == "learning_rate" else value
    if tuned.device:
        out["device"] = {**out.get("device", {}), **tuned.device}
    return out


def _training(own: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """A row's ``[training]`` in a cell: its table's beta goes over every preset's, a tuned one's included."""
    training = dict(own)
    if training.get("learning_rate_schedule", "constant") != "constant":
        training["decay_rounds"] = cell.scale.rounds
    if cell.setting.beta is not None:
        training["beta"] = cell.setting.beta
        for key, own_tier in training.items():
            if isinstance(own_tier, Mapping):
                training[key] = {k: v for k, v in own_tier.items() if k != "beta"}
    return training
