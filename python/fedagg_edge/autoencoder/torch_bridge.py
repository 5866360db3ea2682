"""Running an artefact's networks with torch: embeddings out of samples and samples out of embeddings, no bytes here.

Rows go through in chunks, so memory stays bounded. The encoder's chunks all have the same size, the last one padded,
so that a sample's embedding does not depend on which samples it came with. The decoder, which small batches pass all
the time, is not padded: its output may differ in the last bits between batch sizes. torch's thread count is left alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from fedagg_edge.autoencoder import networks
from fedagg_edge.autoencoder.artefact import Artefact
from fedagg_edge.errors import ArtefactError

__all__ = ["TorchCodec", "network_of"]

_CHUNK_ROWS, _CHUNK_VALUES = 64, 1 << 17
"""Most samples and most sample values per chunk: 64 digits or 42 CIFAR images."""


def network_of(artefact: Artefact) -> networks.Network:
    """Return the artefact's network with its weights, in evaluation mode.

    Raises ArtefactError if the architecture is unknown or the tensors are not exactly the ones it has.
    """
    network = networks.build(artefact.architecture, artefact.sample_shape, artefact.arguments)
    shape_of = {name: tuple(p.shape) for name, p in network.state_dict().items()}
    for name in sorted(shape_of.keys() | artefact.tensors.keys()):
        if name not in artefact.tensors or name not in shape_of:
            what = "missing" if name in shape_of else "not part of"
            raise ArtefactError(f"autoencoder: tensor {name!r} is {what} {artefact.architecture!r}")
        if artefact.tensors[name].shape != shape_of[name]:
            raise ArtefactError(
                f"autoencoder: tensor {name!r}: got shape {artefact.tensors[name].shape}, expected {shape_of[name]}"
            )
    expected = networks.embedding_shape(artefact.architecture, artefact.sample_shape, artefact.arguments)
    if artefact.embedding_shape != expected:
        raise ArtefactError(
            f"autoencoder: got embedding shape {artefact.embedding_shape}, the network makes {expected}"
        )
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in artefact.tensors.items()})
    return network.eval().requires_grad_(False)


class TorchCodec:
    """Encoder and decoder of one artefact, on the CPU.

    Raises ArtefactError if the artefact does not fit its architecture.
    """

    def __init__(self, artefact: Artefact) -> None:
        self._network = network_of(artefact)
        self._sample_shape, self._embedding_shape = artefact.sample_shape, artefact.embedding_shape
        self._rows = max(1, min(_CHUNK_ROWS, _CHUNK_VALUES // math.prod(artefact.sample_shape)))

    def encode(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return embeddings float32 [N, D], flattened in C order, of samples [N, *sample_shape] in [0, 1]."""
        out_ND = np.empty((len(x_N), math.prod(self._embedding_shape)), np.float32)
        chunk = np.zeros((self._rows, *self._sample_shape), np.float32)
        with torch.inference_mode():
            for start in range(0, len(x_N), self._rows):
                part = x_N[start : start + self._rows]
                chunk[: len(part)] = part
                z_N = self._network.encoder(torch.from_numpy(chunk))
                out_ND[start : start + len(part)] = z_N.flatten(1).numpy()[: len(part)]
        return out_ND

    def decode(self, z_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return samples float32 [N, *sample_shape] in [0, 1] of embeddings [N, D]."""
        z_N = np.ascontiguousarray(z_ND, np.float32).reshape(-1, *self._embedding_shape)
        out_N = np.empty((len(z_N), *self._sample_shape), np.float32)
        with torch.inference_mode():
            for start in range(0, len(z_N), self._rows):
                part = torch.from_numpy(z_N[start : start + self._rows])
                out_N[start : start + len(part)] = self._network.decoder.bounded(part).numpy()
        return out_N
