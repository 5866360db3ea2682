"""Lets the tests below import their shared helpers by name, and gives them autoencoders."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def artefact_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder that no test has to train."""
    from autoencoder.making import make_artefact

    from fedagg_edge.autoencoder import artefact

    path = tmp_path_factory.mktemp("autoencoder") / "autoencoder.safetensors"
    artefact.save(make_artefact(), path)
    return path


@pytest.fixture(scope="session")
def trained_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that knows the toy images, where a test needs the tiers above the devices to learn."""
    from simulation.worlds import bands

    from fedagg_edge.autoencoder import artefact
    from fedagg_edge.autoencoder.train import train

    path = tmp_path_factory.mktemp("autoencoder") / "trained.safetensors"
    public_x = bands(public=256).public_x
    assert public_x is not None
    artefact.save(train(public_x, input_low=0.0, input_high=16.0, epochs=12), path)
    return path
