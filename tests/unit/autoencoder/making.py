"""A small artefact with random weights, made without training: what most tests of autoencoder and bridge need."""

from __future__ import annotations

import numpy as np
import torch

from fedagg_edge.autoencoder import networks
from fedagg_edge.autoencoder.artefact import Artefact
from fedagg_edge.autoencoder.layout import UINT8_AFFINE, CodeLayout, TableLayout
from fedagg_edge.autoencoder.report import Audit, Report

AUDIT = Audit(
    decoder_psnr_db=14.0,
    decoder_ssim=0.25,
    attacker_psnr_db=21.5,
    attacker_ssim=0.125,
    attacker_parameters=1_000_001,
    attacker_steps=30,
    attacker_epochs=1.5,
    open_data="open",
    open_samples=100,
    data="private",
    samples=10,
    seed=3,
)


def make_table_layout(shape: tuple[int, ...]) -> TableLayout:
    """Bits 2, 1, 0, 2, 1, 0, ... in C order, scales that differ."""
    size = int(np.prod(shape))
    return TableLayout(
        shape,
        np.resize(np.array([2, 1, 0], np.uint8), size),
        np.linspace(0.5, 1.5, size, dtype=np.float32) * np.resize(np.array([1, 1, 0], np.float32), size)
        + np.resize(np.array([0, 0, 1], np.float32), size),
        {1: np.array([-0.75, 0.75], np.float32), 2: np.array([-1.5, -0.25, 0.5, 1.75], np.float32)},
    )


def make_artefact(
    sample_shape: tuple[int, ...] = (1, 8, 8), embedding_channels: int = 2, **changes: object
) -> Artefact:
    """An artefact of the real architecture with seeded random weights; `changes` replace its fields."""
    architecture = networks.architecture_of(sample_shape)
    arguments = {"embedding_channels": embedding_channels, "width": 8}
    if architecture == networks.ARCHITECTURE:
        arguments["blocks"] = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = networks.build(architecture, sample_shape, arguments)
    channels = sample_shape[0]
    fields: dict[str, object] = {
        "tensors": {name: value.numpy().copy() for name, value in network.state_dict().items()},
        "architecture": architecture,
        "arguments": arguments,
        "sample_shape": sample_shape,
        "low_C": np.zeros(channels, np.float32),
        "high_C": np.full(channels, 16, np.float32),
        "layout": CodeLayout(
            UINT8_AFFINE,
            networks.embedding_shape_of(sample_shape, embedding_channels),
            np.linspace(-1.5, -1.0, embedding_channels, dtype=np.float32),
            np.linspace(0.01, 0.012, embedding_channels, dtype=np.float32),
        ),
        "report": Report(
            psnr_db=20.5,
            psnr_unquantised_db=20.6,
            encoder_parameters=1,
            decoder_parameters=2,
            embedding_bytes=8,
            trained_on="nothing",
            samples=3,
            held_out=1,
            epochs=4,
            seed=5,
        ),
    }
    return Artefact(**(fields | changes))  # type: ignore[arg-type]
