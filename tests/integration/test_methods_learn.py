"""Every method on a tiny tree of the digits, from the command's entry to its results: it learns, and can be resumed."""

import json

import numpy as np
import pytest

from fedagg_edge import baselines, checkpoint
from fedagg_edge.config import parse_config
from fedagg_edge.datasets import Dataset, digits
from fedagg_edge.records import Tier
from fedagg_edge.simulation.progress import Silent
from fedagg_edge.simulation.run import simulate

ROUNDS = 8
CLOUDLESS = {"alone", "fedavg-per-edge"}


class Killed(Exception):
    pass


class KillAfter(Silent):
    def __init__(self, number):
        self.number = number

    def finished(self, number, text):
        if number == self.number:
            raise Killed


def some_digits() -> Dataset:
    """A third of the digits' training images, half of the test images."""
    whole = digits()
    return Dataset(
        name="some", classes=10, train_x=whole.train_x[::3], train_y=whole.train_y[::3], test_x=whole.test_x[::2],
        test_y=whole.test_y[::2], public_x=whole.public_x, input_low=(0.0,), input_high=(16.0,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    from fedagg_edge.autoencoder import artefact
    from fedagg_edge.autoencoder.train import train

    path = tmp_path_factory.mktemp("digits") / "autoencoder.safetensors"
    artefact.save(train(digits().public_x, input_low=0.0, input_high=16.0, epochs=40), path)
    return path


def config(method, autoencoder):
    device = {"model": "cnn", "count": 2}
    return parse_config(
        {
            "name": "some-digits", "rounds": ROUNDS, "method": method, "data": {"source": "given"},
            "partition": {"rule": "dirichlet", "options": {"alpha": 1.0}}, "autoencoder": {"path": str(autoencoder)},
            "models": {
                "cnn": {"builder": "cnn3", "options": {"widths": [8, 12, 16]}},
                "cloud": {"builder": "cnn3", "options": {"widths": [16, 24, 32]}},
            },
            "tree": {"model": "cloud", "children": [{"model": "cnn", "count": 2, "children": [device]}]},
            "training": {"learning_rate": 0.03}, "evaluation": {"references": False}, "schedule": "snapshot",
        }
    )  # fmt: skip


def last_state(folder):
    return {name: a.tobytes() for name, a in checkpoint.load(folder / "checkpoints").tensors.items()}


@pytest.mark.parametrize("method", baselines.METHODS)
def test_a_method_learns_and_goes_on_where_it_stopped(method, autoencoder, tmp_path):
    settings, data = config(method, autoencoder), some_digits()
    whole = simulate(settings, out=tmp_path / "whole", dataset=data)
    best = Tier.CLOUD if method not in CLOUDLESS else Tier.DEVICE
    assert whole.final(best) > 0.35, method  # of ten classes
    assert whole.curve(best)[-1] > whole.curve(best)[0]
    assert (Tier.CLOUD in whole.tiers) == (method not in CLOUDLESS)
    assert (whole.folder / "cloud.safetensors").exists() == (method not in CLOUDLESS)
    assert (whole.folder / "curves.png").exists()
    assert json.loads((whole.folder / "results.json").read_text())["method"] == method
    with pytest.raises(Killed):
        simulate(settings, out=tmp_path / "cut", dataset=data, progress=KillAfter(ROUNDS - 3))
    resumed = simulate(settings, out=tmp_path / "cut", dataset=data, resume=True)
    np.testing.assert_array_equal(resumed.accuracy_RV, whole.accuracy_RV)
    assert resumed.bytes_total == whole.bytes_total
    assert last_state(tmp_path / "cut") == last_state(tmp_path / "whole")
