"""`export_codec`: an autoencoder's encoder and decoder as a file that a TFLite runtime runs, checked against torch."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedagg_edge.autoencoder import tflite_codec
from fedagg_edge.autoencoder.artefact import Artefact, digest_of
from fedagg_edge.autoencoder.networks import Network
from fedagg_edge.autoencoder.separable import SeparableAutoencoder
from fedagg_edge.autoencoder.torch_bridge import TorchCodec, network_of
from fedagg_edge.errors import ExportError
from fedagg_edge.export.program import write_function
from fedagg_edge.export.tflite import write_file
from fedagg_edge.export.trace import trace_inference
from fedagg_edge.export.writer import ModelWriter
from fedagg_edge.learners import tflite_file

__all__ = ["TOLERANCE", "compile_codec", "export_codec"]

TOLERANCE = 1e-5
"""Largest difference of an embedding or a sample from torch's."""


class _Encode(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x).flatten(1)
        return z


class _Decode(nn.Module):
    def __init__(self, network: Network, embedding_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder = network.decoder
        self.shape = embedding_shape

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder.bounded(z.reshape(-1, *self.shape))


def export_codec(artefact: Artefact, path: str | os.PathLike[str]) -> float:
    """Write the codec of `artefact` to `path`; return the largest difference from torch that was found.

    Raises ExportError if the networks cannot be compiled or the file differs from torch by more than `TOLERANCE`.
    """
    content, difference = compile_codec(artefact)
    write_file(content, Path(path))
    return difference


def compile_codec(artefact: Artefact) -> tuple[bytes, float]:
    """As `export_codec`, into memory."""
    network = network_of(artefact)
    if isinstance(network, SeparableAutoencoder):
        raise ExportError(
            f"the codec of {artefact.architecture!r} cannot be compiled: its code is made of tables, not of one step a "
            "value; nodes without torch need an autoencoder of `fedagg autoencoder train` without --preset"
        )
    size = math.prod(artefact.embedding_shape)
    model = ModelWriter("fedagg-edge codec")
    parts = (
        ("encode", _Encode(network), artefact.sample_shape),
        ("decode", _Decode(network, artefact.embedding_shape), (size,)),
    )
    for name, module, shape in parts:
        values = {n: p.detach().numpy() for n, p in module.named_parameters()}
        write_function(model, name, trace_inference(module, shape), values)
    about = {"format": tflite_codec.FORMAT, "schema": tflite_file.SCHEMA, "autoencoder": digest_of(artefact)}
    content = tflite_file.seal(model.finish({tflite_file.DESCRIPTION: tflite_file.packed(about)}))
    return content, _checked(artefact, content)


def _checked(artefact: Artefact, content: bytes) -> float:
    ours, reference = tflite_codec.TfliteCodec(artefact, content), TorchCodec(artefact)
    x_N = np.random.default_rng(0).random((5, *artefact.sample_shape), np.float32)
    z_ND = reference.encode(x_N)
    with torch.inference_mode():
        pairs = ((ours.encode(x_N), z_ND), (ours.decode(z_ND), reference.decode(z_ND)))
    difference = max(float(np.abs(a - b).max()) for a, b in pairs)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the compiled codec differs from torch's by {difference:.1e}, expected at most {TOLERANCE:.0e}"
        )
    return difference
