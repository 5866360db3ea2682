"""`fedagg simulate` in a process of its own, killed at many moments, ends as if nothing had happened.

Moments are waited for by what the process writes, never by the clock alone: a seeded number of milliseconds after a
sign of life spreads the kills, and whichever code they hit, the result must be the same.
"""

import contextlib
import io
import json
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedagg_edge.cli.main import main

TOML = """
name = "killed"
rounds = 5
seed = 3
[data]
source = "bands:load"
[partition]
rule = "iid"
[autoencoder]
epochs = 2
[tree]
model = "mlp"
[[tree.children]]
model = "mlp"
[[tree.children.children]]
model = { mlp = 0.5, "bands:droppy" = 0.5 }
count = 2
[training.device]
optimizer = "adam"
learning_rate = 0.01
"""

# data, and a model with dropout: resuming must bring back what is random, too
PARTS = """
import os, sys, time
import numpy as np
from torch import nn
from fedagg_edge.datasets import Dataset

def load():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 17, (120, 1, 8, 8)).astype(np.uint8), np.arange(120) % 3
    return Dataset(name="bands", classes=3, train_x=x[:60], train_y=y[:60], test_x=x[60:80], test_y=y[60:80],
                   public_x=x[80:], input_low=(0.0,), input_high=(16.0,))

def droppy(sample_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes))
"""

# stops for good at the N-th call of one function, as a machine does that loses its power there
STOPPED = """
import signal, sys, time
import importlib
from fedagg_edge.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
module, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
owner = importlib.import_module(module)
for part in name.split(".")[:-1]:
    owner = getattr(owner, part)
last = name.split(".")[-1]
kept, seen = getattr(owner, last), [0]
def stop(*args, **kwargs):
    seen[0] += 1
    if seen[0] == count:
        print("HERE", file=sys.stderr, flush=True)
        time.sleep(600)
    return kept(*args, **kwargs)
setattr(owner, last, stop)
sys.exit(main(sys.argv[4:]))
"""

PATIENCE = 120  # seconds; nothing here takes more than a few


def write_project(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bands.py").write_text(PARTS)
    (folder / "killed.toml").write_text(TOML)
    return folder


class Run:
    """One process of `fedagg simulate` in a project's folder, its streams in files beside it."""

    def __init__(self, project: Path, *flags: str, stop: tuple[str, str, int] | None = None) -> None:
        words = ["simulate", "killed.toml", *flags]
        start = ["-m", "fedagg_edge"] if stop is None else ["-c", STOPPED, *map(str, stop)]
        self.out, self.err = project / "out.txt", project / "err.txt"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen([sys.executable, *start, *words], cwd=project, stdout=out, stderr=err)

    def until(self, sign: str) -> bool:
        """Wait for a line on standard error that begins with `sign`; False if the process ended before."""
        for _ in range(100 * PATIENCE):
            over = self.process.poll() is not None
            if any(line.startswith(sign) for line in self.err.read_text().splitlines()):
                return True
            if over:
                return False
            time.sleep(0.01)
        self.end(signal.SIGKILL)
        return False

    def end(self, number: int | None = None) -> tuple[int, str, str]:
        """Send a signal, if any; return exit code and both streams."""
        if number is not None:
            self.process.send_signal(number)
        try:
            self.process.wait(timeout=PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
        return self.process.returncode, self.out.read_text(), self.err.read_text()


def outcome(project: Path) -> tuple[list[dict], dict, bytes]:
    """Metrics, results and the cloud's model without what depends on the clock."""
    run = project / "runs/killed"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((run / "results.json").read_text())
    for record in (*rows, results):
        del record["seconds"]
    return rows, results, (run / "cloud.safetensors").read_bytes()


def finish(project: Path) -> None:
    """Resume to the end, in this process: torch is here already."""
    before, said = signal.getsignal(signal.SIGTERM), io.StringIO()
    try:
        with contextlib.chdir(project), contextlib.redirect_stdout(said):
            assert main(["simulate", "killed.toml", "--resume", "--quiet"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "test accuracy" in said.getvalue()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What an uninterrupted run ends with."""
    project = write_project(tmp_path_factory.mktemp("whole"))
    code, _, err = Run(project).end()
    assert code == 0, err
    rows, results, cloud = outcome(project)
    assert [r["round"] for r in rows] == [0, 1, 2, 3, 4]
    return rows, results, cloud


# where the process stands when it is killed: a function and which call of it
MOMENTS = {
    "before the configuration is there": ("fedagg_edge.files", "os.fsync", 1),
    "before the autoencoder is trained": ("fedagg_edge.autoencoder.train", "train", 1),
    "in the autoencoder's training": ("fedagg_edge.autoencoder.train", "_step", 2),
    "before the autoencoder is written": ("fedagg_edge.autoencoder.artefact", "write_atomic", 1),
    "in init": ("fedagg_edge.node", "Node._encode", 2),
    "in the first round": ("fedagg_edge.node", "train_pass", 2),
    "in the middle of a training pass": ("fedagg_edge.learners.torch", "TorchLearner.step", 130),
    "between a round's end and its metrics": ("fedagg_edge.simulation.folder", "RunFolder.append_metrics", 3),
    "between metrics and checkpoint": ("fedagg_edge.checkpoint", "save", 3),
    "with tensors written and not renamed": ("fedagg_edge.checkpoint", "hashlib.file_digest", 3),
    "with tensors renamed and no manifest": ("fedagg_edge.checkpoint", "write_atomic", 3),
    "with the manifest renamed and the folder not synced": ("fedagg_edge.files", "sync_folder", 5),
    "between a manifest and its tensors going": ("fedagg_edge.checkpoint", "_remove", 2),
    "in the references": ("fedagg_edge.simulation.references", "train_pass", 4),
    "before the results are there": ("fedagg_edge.simulation.report", "as_json", 1),
    "before the cloud's model is there": ("fedagg_edge.simulation.experiment", "Experiment._write_cloud", 1),
    "before the pictures are there": ("fedagg_edge.simulation.pictures", "draw_curves", 1),
}


# the rest take another minute
OFTEN = {
    "before the configuration is there",
    "in the autoencoder's training",
    "in the middle of a training pass",
    "between metrics and checkpoint",
    "with tensors renamed and no manifest",
    "between a manifest and its tensors going",
    "before the cloud's model is there",
}


@pytest.mark.parametrize("moment", [pytest.param(m, marks=[] if m in OFTEN else [pytest.mark.slow]) for m in MOMENTS])
def test_killed_at_a_chosen_moment(tmp_path, expected, moment):
    project = write_project(tmp_path / "p")
    run = Run(project, stop=MOMENTS[moment])
    assert run.until("HERE"), "the process never came there"
    assert run.end(signal.SIGKILL)[0] == -signal.SIGKILL
    if not (project / "runs/killed/config.json").exists():
        code, _, err = Run(project, "--resume").end()
        assert (code, err.count("\n")) == (1, 1)
        assert "no run here to resume; start it without --resume" in err
        assert Run(project).end()[0] == 0
    else:
        finish(project)
    assert outcome(project) == expected


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_killed_again_and_again_at_any_moment(tmp_path, expected, seed):
    project, chance = write_project(tmp_path / "p"), random.Random(seed)
    for attempt in range(5):
        run = Run(project, *(["--resume"] if (project / "runs/killed/config.json").exists() else []))
        run.until(chance.choice(["training", "round 1", "round", "resumed", "round", "references"]))
        time.sleep(chance.random() / 4)
        code, _, err = run.end(signal.SIGKILL)
        assert code in (0, -signal.SIGKILL), f"attempt {attempt}: {err}"
    if not (project / "runs/killed/config.json").exists():
        assert Run(project).end()[0] == 0
    finish(project)
    assert outcome(project) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["in the autoencoder's training", "in the middle of a training pass"])
def test_stopped_politely(tmp_path, expected, number, moment):
    project = write_project(tmp_path / "p")
    run = Run(project, stop=MOMENTS[moment])
    assert run.until("HERE")
    code, out, err = run.end(number)
    assert (code, out) == (130, "")
    assert err.endswith("\nHERE\n\nfedagg: stopped; go on with: fedagg simulate killed.toml --resume\n")
    command = shlex.split(re.search(r"go on with: (.*)", err)[1])
    code, _, err = Run(project, *command[3:]).end()
    assert code == 0, err
    assert outcome(project) == expected


def test_a_checkpoint_cut_in_half_after_a_kill(tmp_path, expected):
    project = write_project(tmp_path / "p")
    run = Run(project, stop=("fedagg_edge.checkpoint", "save", 5))
    assert run.until("HERE")
    run.end(signal.SIGKILL)
    path = project / "runs/killed/checkpoints/round-000003.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, err = Run(project, "--resume").end()
    assert code == 1
    remedy = re.search(r"use (--resume \d)$", err.strip())[1]
    code, _, err = Run(project, *remedy.split()).end()
    assert code == 0, err
    assert outcome(project) == expected
