"""A device that cannot import torch, with files that were exported elsewhere, in a fleet of real processes."""

from __future__ import annotations

import os
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from fedagg_edge.autoencoder import artefact
from fedagg_edge.config import parse_config
from fedagg_edge.export.codec import export_codec
from fedagg_edge.export.tflite import export_tflite
from fedagg_edge.fleet import up, weights
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.zoo import build_model
from fedagg_edge.records import Tier
from fedagg_edge.simulation.progress import Silent

ROUNDS = 2
CONFIG = {
    "name": "boards",
    "rounds": ROUNDS,
    "schedule": "snapshot",
    "data": {"source": "digits"},
    "partition": {"rule": "iid"},
    "autoencoder": {"epochs": 1},
    "models": {"d": {"builder": "mlp", "options": {"hidden": [8]}}, "e": {"builder": "mlp"}},
    "tree": {"model": "e", "children": [{"model": "e", "children": [{"model": "d", "count": 1}]}]},
    "evaluation": {"references": False},
}


def without_torch(folder: Path) -> Path:
    """A folder for PYTHONPATH in which torch is a module that cannot be imported."""
    folder.mkdir()
    (folder / "torch.py").write_text('raise ImportError("this board has no torch")\n', encoding="utf-8")
    return folder


def equip(fleet: up.Fleet, home: Path) -> None:
    """Give a device the files of a board, and say so in its configuration."""
    autoencoder = artefact.load(fleet.folder / "autoencoder.safetensors")
    export_codec(autoencoder, home / "codec.tflite")
    export_tflite(build_model("mlp", autoencoder.sample_shape, 10, hidden=[8]), (1, 8, 8), 10, home / "model.tflite")
    path = home / "device.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    table["training"]["engine"] = "tflite"
    table["models"] = {"d": {"builder": "model.tflite"}}
    table["node"] |= {"model": "d", "codec": "codec.tflite"}
    path.write_text(tomli_w.dumps(table), encoding="utf-8")


@pytest.mark.slow
def test_it_trains_beside_a_parent_with_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = up.lay_out(
        parse_config(CONFIG), tmp_path / "fleet", rounds={"target": ROUNDS, "deadline": 600.0}, progress=Silent()
    )
    (device,) = (node for node in fleet.nodes if node.place.tier is Tier.DEVICE)
    equip(fleet, fleet.home(device))
    blocked, usual = without_torch(tmp_path / "blocked"), os.environ.get("PYTHONPATH", "")
    try:
        for node in fleet.nodes:
            monkeypatch.setenv("PYTHONPATH", str(blocked) if node is device else usual)
            fleet.start(node)
        for _ in range(1200):
            rows = up.read_metrics(fleet, fleet.cloud)
            if rows and rows[-1]["finished"]:
                break
            fleet.check()
            time.sleep(0.1)
    finally:
        fleet.stop()
    assert [row["version"] for row in rows] == list(range(ROUNDS))
    saved, problems = weights.load_newest(fleet.home(device) / "state" / "weights")
    assert (saved.version, problems) == (ROUNDS - 1, [])
    first = tflite_file.load(fleet.home(device) / "model.tflite").weights
    assert saved.state.weights.shape == first.shape
    assert np.abs(saved.state.weights - first).max() > 1e-3
