"""A device's training step: the TFLite engine beside torch on the CPU, one thread, as ratios of CPU time.

    python benchmarks/device_step.py [--quick] [--json]

A step is one update on a private and a bridge batch of equal size. "torch" is the plain way, with cross_entropy,
kl_div, backward and torch.optim.SGD; "torch engine" is this package's own, which shares loss kernel and update with the
TFLite one. The candidates take turns of several steps in one process, the first of a turn, which finds the caches
full of the others' data, not counted; a figure is the ratio of the medians. Memory is the peak of a process that only
trains. --json prints one list of rows: figure, value, unit, goal, holds, machine, date; a figure without a
goal is there to be looked at.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.tflite import TfliteLearner
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.learners.zoo import build_model

CLASSES = 10
SHAPES = {"mlp": (1, 8, 8), "cnn3": (3, 32, 32), "dwcnn": (3, 32, 32), "cnn1d": (6, 128)}
AT_LEAST = {("mlp", 8): 7.0, ("mlp", 32): 7.0, ("cnn3", 32): 1.0, ("dwcnn", 32): 1.0}
"""Goals: how many times as fast as torch."""
MOST_MEGABYTES = {"mlp": 50.0, "cnn3": 75.0, "dwcnn": 75.0}
MOST_KILOBYTES, MOST_SECONDS, MOST_IMPORT_MILLISECONDS = 25.0, 5.0, 150.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; `goal` is the least or, if `most`, the largest that holds."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    most: bool = False

    @property
    def holds(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal


def batch_of(name: str, rows: int) -> Batch:
    rng = np.random.default_rng(0)
    x_N, bridge_x_N = (rng.random((rows, *SHAPES[name]), np.float32) for _ in range(2))
    y_N = rng.integers(0, CLASSES, rows)
    return Batch(bridge_x_N, y_N, rng.standard_normal((rows, CLASSES), np.float32), x_N, y_N)


def plain_step(name: str, rows: int) -> Callable[[], Any]:
    """A training step as one writes it with torch alone."""
    model = build_model(name, SHAPES[name], CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    batch = batch_of(name, rows)
    x_N, bridge_x_N = torch.from_numpy(batch.private_x_N), torch.from_numpy(batch.bridge_x_N)
    y_N, teacher_NC = torch.from_numpy(batch.bridge_y_N), torch.from_numpy(batch.teacher_NC)

    def step() -> float:
        logits_NC = model(bridge_x_N)
        soft = functional.log_softmax(logits_NC / 3, 1), functional.softmax(teacher_NC / 3, 1)
        divergence = functional.kl_div(*soft, reduction="batchmean")
        loss = functional.cross_entropy(model(x_N), y_N) + functional.cross_entropy(logits_NC, y_N) + 9 * divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def steps(name: str, rows: int, file: Path) -> dict[str, Callable[[], Any]]:
    """The candidates for one model and batch size."""
    batch, hyperparameters = batch_of(name, rows), Hyperparameters(learning_rate=1e-3)
    device, engine = TfliteLearner(file), TorchLearner(build_model(name, SHAPES[name], CLASSES))
    return {
        "tflite": lambda: device.step(batch, hyperparameters),
        "torch": plain_step(name, rows),
        "torch engine": lambda: engine.step(batch, hyperparameters),
    }


def cpu_microseconds(candidates: dict[str, Callable[[], Any]], turns: int, length: int) -> dict[str, float]:
    """The median CPU time of each candidate's step; they take turns, so that a busy machine is busy for all."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(turns):
        for name, step in candidates.items():
            step()
            for _ in range(length):
                began = time.process_time_ns()
                step()
                taken[name].append((time.process_time_ns() - began) / 1e3)
    return {name: float(np.median(values)) for name, values in taken.items()}


def speed(files: dict[str, Path], quick: bool) -> Iterator[Figure]:
    torch.set_num_threads(1)
    for name, file in files.items():
        for rows in (8, 32):
            turns = 3 if quick else 12
            found = cpu_microseconds(steps(name, rows, file), turns, 60 if name == "mlp" else 5)
            label = f"{name}, batch {rows}"
            yield Figure(f"{label}: step", found["tflite"], "us")
            goal = AT_LEAST.get((name, rows))
            yield Figure(f"{label}: torch / tflite", found["torch"] / found["tflite"], "x", goal)
            yield Figure(f"{label}: torch engine / tflite", found["torch engine"] / found["tflite"], "x")


TRAINING = """
import numpy as np
from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch
shape, file, engine = {shape}, {file!r}, {engine!r}
if engine == "tflite":
    from fedagg_edge.learners.tflite import TfliteLearner
    learner = TfliteLearner(file)
else:
    from fedagg_edge.learners.torch import TorchLearner
    from fedagg_edge.learners.zoo import build_model
    learner = TorchLearner(build_model({name!r}, shape, 10))
x = np.random.default_rng(0).random((8, *shape), np.float32)
y = np.arange(8)
for _ in range(20):
    learner.step(Batch(x, y, np.zeros((8, 10), np.float32), x, y), Hyperparameters(learning_rate=1e-3))
lines = open("/proc/self/status").read().splitlines()  # getrusage would count the parent's memory in
print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
"""


def memory(files: dict[str, Path]) -> Iterator[Figure]:
    for name, file in files.items():
        for engine in ("tflite", "torch"):
            program = TRAINING.format(shape=SHAPES[name], file=str(file), engine=engine, name=name)
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            goal = MOST_MEGABYTES.get(name) if engine == "tflite" else None
            peak = float(done.stdout.strip().splitlines()[-1])
            yield Figure(f"{name}, batch 8: peak memory, {engine}", peak, "MB", goal, most=True)


def export(name: str, folder: Path) -> tuple[Path, float]:
    """A model's training file, and the seconds that `fedagg export` took."""
    file = folder / f"{name}.tflite"
    shape = [str(size) for size in SHAPES[name]]
    command = [sys.executable, "-m", "fedagg_edge", "export", name, "--out", str(file), "--sample-shape", *shape]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--classes", str(CLASSES)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return file, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


IMPORTING = """
import time
import numpy
began = time.process_time()
import ai_edge_litert.interpreter
import fedagg_edge.learners.tflite
print(1000 * (time.process_time() - began))
"""


def importing() -> Figure:
    found = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=True)
        found.append(float(done.stdout))
    return Figure("imports beyond NumPy, CPU time", float(np.median(found)), "ms", MOST_IMPORT_MILLISECONDS, most=True)


def files_of(folder: Path) -> tuple[dict[str, Path], list[Figure]]:
    files, figures = {}, []
    for name in SHAPES:
        files[name], seconds = export(name, folder)
        beyond = (os.path.getsize(files[name]) - tflite_file.load(files[name]).weights.nbytes) / 1000
        figures.append(Figure(f"{name}: file beyond the weights", beyond, "kB", MOST_KILOBYTES, most=True))
        figures.append(Figure(f"{name}: export, CPU time", seconds, "s", MOST_SECONDS, most=True))
    return files, figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="one list of rows")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files, figures = files_of(Path(folder))
        figures += [importing(), *memory(files), *speed(files, args.quick)]
    stamp = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "date": datetime.date.today().isoformat()}
    if args.json:
        rows = [(f.name, round(f.value, 3), f.unit, f.goal, f.holds) for f in figures]
        print(
            json.dumps([dict(zip(("figure", "value", "unit", "goal", "holds"), r, strict=True)) | stamp for r in rows])
        )
        return 0
    for f in figures:
        verdict = {None: "", True: f"  goal {f.goal:g}: holds" if f.goal else "", False: f"  goal {f.goal}: missed"}
        print(f"{f.name:<46}{f.value:>10.2f} {f.unit}{verdict[f.holds]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
