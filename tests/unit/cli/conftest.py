"""The command in this process, and a project small enough to run in half a second."""

import signal
import sys
from pathlib import Path

import pytest
import torch
from autoencoder.making import make_artefact

from fedagg_edge.autoencoder import artefact
from fedagg_edge.cli.main import main

torch.set_num_threads(1)

TOML = """
name = "toy"
rounds = 2
evaluation.references = false
[data]
source = "data/bands.npz"
options = { x = "train_x", y = "train_y", layout = "NCHW", classes = 3, input_low = [0], input_high = [16] }
[partition]
rule = "iid"
[autoencoder]
path = "autoencoder.safetensors"
[tree]
model = "mlp"
[[tree.children]]
model = "mlp"
[[tree.children.children]]
model = "mlp"
count = 2
"""


@pytest.fixture
def fedagg(capsys):
    """`fedagg(*words)` gives exit code, standard output and standard error."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*words):
        capsys.readouterr()
        try:
            code = main([str(w) for w in words])
        except SystemExit as stop:  # argparse's way out
            code = stop.code
        return code, *capsys.readouterr()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a configuration and its data; the tests run elsewhere."""
    import numpy as np
    from simulation.worlds import bands

    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    data = bands()
    np.savez(folder / "data/bands.npz", train_x=data.train_x, train_y=data.train_y)
    artefact.save(make_artefact(), folder / "autoencoder.safetensors")
    (folder / "toy.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def command():
    """The words that start `fedagg` in a process of its own."""
    return [sys.executable, "-m", "fedagg_edge"]


@pytest.fixture
def change(project):
    """`change(old, new)` edits the project's configuration and returns its path."""

    def edit(old, new):
        path = Path(project / "toy.toml")
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        return path

    return edit
