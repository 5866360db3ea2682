"""An autoencoder that no test has to train, and one thread for models this small."""

from pathlib import Path

import pytest
import torch
from autoencoder.making import make_artefact
from simulation.worlds import bands

from fedagg_edge.autoencoder import artefact
from fedagg_edge.autoencoder.train import train

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def artefact_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("autoencoder") / "autoencoder.safetensors"
    artefact.save(make_artefact(), path)
    return path


@pytest.fixture(scope="session")
def trained_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that knows the toy images, where a test needs the tiers above the devices to learn."""
    path = tmp_path_factory.mktemp("autoencoder") / "trained.safetensors"
    public_x = bands(public=256).public_x
    assert public_x is not None
    artefact.save(train(public_x, input_low=0.0, input_high=16.0, epochs=12), path)
    return path
