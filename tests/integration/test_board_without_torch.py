"""A device that cannot import torch, with files that were exported elsewhere, in a fleet of real processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fedagg_edge.config import parse_config
from fedagg_edge.fleet import up, weights
from fedagg_edge.learners import tflite_file
from fedagg_edge.records import Tier
from fedagg_edge.simulation.progress import Silent

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from support.board import board_config, equip_board, without_torch

ROUNDS = 2


@pytest.mark.slow
def test_it_trains_beside_a_parent_with_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = up.lay_out(
        parse_config(board_config(ROUNDS, 8)),
        tmp_path / "fleet",
        rounds={"target": ROUNDS, "deadline": 600.0},
        progress=Silent(),
    )
    (device,) = (node for node in fleet.nodes if node.place.tier is Tier.DEVICE)
    equip_board(fleet, fleet.home(device), 8)
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
