"""A fleet with one device that is a board: a cloud and an edge with torch, a device without, on files exported here.

For benchmarks/ and for the tests of boards (tests/integration, tests/arm64).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from fedagg_edge.autoencoder.artefact import load
from fedagg_edge.export.codec import export_codec
from fedagg_edge.export.tflite import export_tflite
from fedagg_edge.fleet.up import Fleet
from fedagg_edge.learners.zoo import build_model

__all__ = ["CLASSES", "board_config", "equip_board", "without_torch"]

CLASSES = 10


def board_config(rounds: int, hidden: int, **more: Any) -> dict[str, Any]:
    """One device of an MLP on digits, below one edge, below the cloud."""
    return {
        "name": "boards",
        "rounds": rounds,
        "schedule": "snapshot",
        "data": {"source": "digits"},
        "partition": {"rule": "iid"},
        "autoencoder": {"epochs": 1},
        "models": {"d": {"builder": "mlp", "options": {"hidden": [hidden]}}, "e": {"builder": "mlp"}},
        "tree": {"model": "e", "children": [{"model": "e", "children": [{"model": "d"}]}]},
        "evaluation": {"references": False},
    } | more


def equip_board(fleet: Fleet, home: Path, hidden: int, *, samples: int | None = None, **keys: Any) -> int:
    """Give the device at `home` a board's files, made here with torch, and at most so many samples; say so in its
    configuration, and `keys`. How many weights it has."""
    autoencoder = load(fleet.folder / "autoencoder.safetensors")
    export_codec(autoencoder, home / "codec.tflite")
    module = build_model("mlp", autoencoder.sample_shape, CLASSES, hidden=[hidden])
    export_tflite(module, autoencoder.sample_shape, CLASSES, home / "model.tflite")
    first = home / "private" / "first.npz"
    with np.load(first) as whole:
        chosen = {name: whole[name][:samples] for name in ("x", "y")}
    np.savez(first, **chosen)
    path = home / "device.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8")) | keys
    table["training"]["engine"] = "tflite"
    table["models"] = {"d": {"builder": "model.tflite"}}
    table["node"] |= {"model": "d", "codec": "codec.tflite"}
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return sum(p.numel() for p in module.parameters())


def without_torch(folder: Path) -> Path:
    """A folder for PYTHONPATH in which torch is a module that cannot be imported."""
    folder.mkdir()
    (folder / "torch.py").write_text('raise ImportError("a board has no torch")\n', encoding="utf-8")
    return folder
