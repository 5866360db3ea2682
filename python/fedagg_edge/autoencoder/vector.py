"""`linear-residual`: the autoencoder of samples that are plain vectors, rows of a table or hashed features. torch.

Nothing is known of a vector's neighbours, so nothing convolves: the encoder is one linear map, which a board computes
in features x values multiplications, and the decoder a linear map and a residual branch of one hidden layer that starts
at zero, so that training begins at a linear autoencoder. Operators: matrix product, SiLU, ReLU, add.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ARCHITECTURE", "VectorAutoencoder", "default_embedding"]

ARCHITECTURE = "linear-residual"

_LEAST_EMBEDDING = 4
_MOST_WEIGHTS = 40_000  # in the linear maps; what is left is the residual branch's


def default_embedding(features: int) -> int:
    """Values of an embedding where nobody says how many: a quarter of the features, as for windows, at least 4.

    Wide vectors get fewer, as the two linear maps of `features` x values weights share 50,000 parameters.
    """
    return min(features, max(_LEAST_EMBEDDING, min(-(-features // 4), _MOST_WEIGHTS // (2 * features))))


class _Encoder(nn.Module):
    def __init__(self, features: int, values: int) -> None:
        super().__init__()
        self.transform = nn.Linear(features, values)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.transform(x - 0.5)
        return out


class _Decoder(nn.Module):
    """Embeddings to samples; `forward` is unclipped for training, `bounded` is in [0, 1]."""

    def __init__(self, features: int, values: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(values, features)
        self.hidden = nn.Linear(values, width)
        self.head = nn.Linear(width, features)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.linear(z) + self.head(nn.functional.silu(self.hidden(z))) + 0.5
        return out

    def bounded(self, z: Tensor) -> Tensor:
        """Return the samples clipped to [0, 1], as 1 - relu(1 - relu(x)): every runtime has a ReLU."""
        return 1.0 - torch.relu(1.0 - torch.relu(self.forward(z)))


class VectorAutoencoder(nn.Module):
    """Encoder and decoder; parameters are named as in the artefact.

    `forward` maps samples float32 (N, F) in [0, 1] to their unclipped reconstruction; an embedding has shape (E,).
    """

    def __init__(self, sample_shape: tuple[int, ...], embedding_channels: int, width: int) -> None:
        super().__init__()
        self.encoder = _Encoder(sample_shape[0], embedding_channels)
        self.decoder = _Decoder(sample_shape[0], embedding_channels, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(x))
        return out
