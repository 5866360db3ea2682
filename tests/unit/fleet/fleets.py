"""A small fleet for tests: digits, one edge with two devices, two structures. No test lives here."""

from __future__ import annotations

from typing import Any

from fedagg_edge.config import SimulationConfig, parse_config


def experiment(**changes: Any) -> SimulationConfig:
    """A configuration that both the simulator and a fleet run; 20 seconds for three rounds as a fleet."""
    raw: dict[str, Any] = {
        "name": "small",
        "rounds": 3,
        "schedule": "snapshot",
        "data": {"source": "digits"},
        "partition": {"rule": "dirichlet", "options": {"alpha": 0.5, "min_samples": 10}},
        "autoencoder": {"epochs": 2},
        "models": {
            "d0": {"builder": "mlp", "options": {"hidden": [16]}},
            "d1": {"builder": "cnn3", "options": {"widths": [4, 4, 8]}},
            "e": {"builder": "mlp", "options": {"hidden": [24]}},
            "c": {"builder": "mlp", "options": {"hidden": [32]}},
        },
        "tree": {
            "model": "c",
            "children": [{"model": "e", "children": [{"model": {"d0": 0.5, "d1": 0.5}, "count": 2}]}],
        },
        "evaluation": {"references": False},
    }
    return parse_config({**raw, **changes})
