"""A small artefact with random weights, made without training: what most tests of autoencoder and bridge need."""

from __future__ import annotations

import numpy as np
import torch

from fedagg_edge.autoencoder import networks
from fedagg_edge.autoencoder.artefact import Artefact
from fedagg_edge.autoencoder.layout import UINT8_AFFINE, CodeLayout
from fedagg_edge.autoencoder.report import Report


def make_artefact(
    sample_shape: tuple[int, ...] = (1, 8, 8), embedding_channels: int = 2, **changes: object
) -> Artefact:
    """An artefact of the real architecture with seeded random weights; `changes` replace its fields."""
    arguments = {"embedding_channels": embedding_channels, "width": 8, "blocks": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = networks.build(networks.ARCHITECTURE, sample_shape, arguments)
    channels = sample_shape[0]
    fields: dict[str, object] = {
        "tensors": {name: value.numpy().copy() for name, value in network.state_dict().items()},
        "architecture": networks.ARCHITECTURE,
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
