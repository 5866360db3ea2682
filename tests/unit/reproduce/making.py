"""Rows and a data file for the tests of the reproduced tables. No test lives here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from autoencoder.making import make_artefact

from fedagg_edge.autoencoder import artefact
from fedagg_edge.reproduce.rows import Row

ROWS = 5000
"""Training rows of `data_file`: at the smallest scales, 4 devices, still 25 a device."""

SCALE = 0.02


def row(**changes: Any) -> Row:
    """One figure of FedAgg's cloud."""
    fields: dict[str, Any] = {
        "dataset": "cifar10",
        "devices": 225,
        "alpha": 3.0,
        "cloud": "resnet18",
        "beta": None,
        "method": "fedagg",
        "preset": "default",
        "seed": 0,
        "rounds": 2,
        "scale": 0.1,
        "ran_devices": 25,
        "ran_edges": 5,
        "train_rows": 5000,
        "test_rows": 1000,
        "tier": "cloud",
        "view": "raw",
        "round": 1,
        "accuracy": 0.5,
        "seconds": 90.0,
        "bytes": 2_000_000,
        "commit": "abc",
    }
    return Row(**{**fields, **changes})


def data_file(folder: Path, **changes: Any) -> Path:
    """8x8 colour images whose brightness tells their class, laid out as CIFAR's are."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[Any, Any]:
        y = np.arange(count) % 10
        return (rng.integers(0, 60, (count, 8, 8, 3)) + 19 * y[:, None, None, None]).astype(np.uint8), y

    (x, y), (test_x, test_y), (public_x, _) = draw(ROWS), draw(120), draw(64)
    arrays = {"train_x": x, "train_y": y, "test_x": test_x, "test_y": test_y, "public_x": public_x, **changes}
    path = folder / "arrays.npz"
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]  # numpy's stub
    return path


def ready_autoencoders(runs: Path) -> None:
    """Autoencoders where `fedagg reproduce` looks for them, so that no test has to train one."""
    (runs / "autoencoders").mkdir(parents=True)
    for preset in ("default", "paper"):
        artefact.save(
            make_artefact((3, 8, 8), high_C=np.full(3, 255, np.float32)),
            runs / "autoencoders" / f"cifar10-{preset}.safetensors",
        )
