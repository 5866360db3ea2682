"""Every operator and the zoo's models against torch, after one step and after twenty, in both runtimes.

The second runtime lives in an environment of its own (NumPy below 2); FEDAGG_TFLITE_PYTHON names its interpreter, which
must find this package. Where it is not set, its tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fedagg_edge.config import Hyperparameters
from fedagg_edge.export.tflite import export_tflite
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.torch import TorchLearner

sys.path.insert(0, str(Path(__file__).parent))

from cases import CASES, CLASSES, Case, Dropout
from replay import replay

torch.set_num_threads(1)  # more only wait for one another on such small models
STEPS = 20
OTHER = os.environ.get("FEDAGG_TFLITE_PYTHON")

ONE_STEP = 1e-5
LAST_STEP = 1e-4
"""Differences of weights. Rounding errors grow by training; what is wrong differs by more than this at once."""


def samples(case: Case, rng: np.random.Generator, rows: int) -> np.ndarray:
    shape = (rows, *case.shape)
    if case.ties:
        x_N = rng.integers(0, 2, shape).astype(np.float32)
        x_N[rows // 2 :] = x_N[0]  # equal rows
        return x_N
    if case.constant:
        return np.full(shape, rng.integers(1, 5) / 4, np.float32)
    return rng.random(shape, np.float32)


def plan_masks(model: torch.nn.Module, file: Path, rows: int, rng: np.random.Generator) -> None:
    """Give a model's dropout the masks that the device's learner will draw from its seed: private batch, then bridge
    batch, which for one mask a model are the same numbers whether the learner joins the batches or not."""
    layers = [m for m in model.modules() if isinstance(m, Dropout)]
    masks = tflite_file.load(file).masks
    assert len(masks) == len(layers) <= 1
    for layer, mask in zip(layers, masks, strict=True):
        drawn = [rng.random((rows, *mask.shape), np.float32) < mask.keep for _ in range(2)]
        layer.masks = [torch.from_numpy(m.astype(np.float32)) for m in drawn]


KINK = 2e-6
"""How far from 0 inputs of a ReLU must be in the first step: nearer, rounding decides whether a gradient passes, and
torch by itself rounds in several ways, by where its buffers lie. Seen once: 5e-7 off, and weights 5e-5 apart."""


def watch_kinks(model: torch.nn.Module) -> list[float]:
    """A list that gets the distance from 0 of what comes to each ReLU, at every forward pass from now on."""
    seen: list[float] = []

    def note(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(float(inputs[0].detach().abs().min()))

    for module in model.modules():
        if isinstance(module, torch.nn.ReLU | torch.nn.LeakyReLU):
            module.register_forward_pre_hook(note)
    return seen


def make(name: str, folder: Path) -> None:
    """Write a case's file, batches and torch's weights."""
    case = CASES[name]
    model = case.build()
    torch.manual_seed(1)  # cases.py makes its layers when it is imported, from whatever state the generator has then
    for module in model.modules():
        if isinstance(reset := getattr(module, "reset_parameters", None), Callable):
            reset()
    hyperparameters = {"learning_rate": case.learning_rate, "optimizer": case.optimizer, "weight_decay": 1e-3}
    later = {**hyperparameters, "learning_rate": case.later_rate or case.learning_rate}
    stem = folder / name.replace(" ", "-").replace(",", "")
    export_tflite(model, case.shape, CLASSES, stem.with_suffix(".tflite"))
    learner = TorchLearner(model, case.optimizer)
    plan = [hyperparameters] + [later] * (STEPS - 1)
    golden: dict[str, object] = {"plan": json.dumps(plan)}
    rng, masks_rng = np.random.default_rng(case.seed), np.random.default_rng(0)  # 0: a learner's seed from the start
    kinks = watch_kinks(model)
    for i, step in enumerate(plan):
        rows = 6 + i % 3
        x_N, bridge_x_N = samples(case, rng, rows), samples(case, rng, rows)
        y_N, teacher_NC = rng.integers(0, CLASSES, rows), rng.standard_normal((rows, CLASSES), np.float32)
        plan_masks(model, stem.with_suffix(".tflite"), rows, masks_rng)
        learner.step(Batch(bridge_x_N, y_N, teacher_NC, x_N, y_N), Hyperparameters(**step))  # type: ignore[arg-type]
        golden |= {f"x_{i}": x_N, f"bridge_{i}": bridge_x_N, f"y_{i}": y_N, f"teacher_{i}": teacher_NC}
        if i == 0 and not case.ties:
            assert min(kinks, default=1.0) > KINK, f"{name}: {min(kinks)} from a kink; take another seed in cases.py"
        if i in (0, STEPS - 1):
            golden[f"weights_{i}"] = learner.state().weights
    np.savez(stem.with_suffix(".npz"), **golden)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, written."""
    folder = tmp_path_factory.mktemp("golden")
    for name in CASES:
        make(name, folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_litert_stays_with_torch(folder: Path, name: str) -> None:
    first, last = replay(folder / f"{name.replace(' ', '-').replace(',', '')}.tflite", "ai-edge-litert")
    assert first < ONE_STEP
    assert last < LAST_STEP


@pytest.mark.skipif(OTHER is None, reason="FEDAGG_TFLITE_PYTHON is not set")
def test_tflite_runtime_stays_with_torch(folder: Path) -> None:
    command = [str(OTHER), str(Path(__file__).parent / "replay.py"), str(folder), "tflite-runtime"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(CASES)
    assert {n: d for n, (d, _) in found.items() if not d < ONE_STEP} == {}
    assert {n: d for n, (_, d) in found.items() if not d < LAST_STEP} == {}
