"""The autoencoder's networks, for images, for sensor windows and for plain vectors. torch.

Vectors have their own, `linear-residual` (`vector.py`). Of images and windows, presets use `separable-postfilter`
(`separable.py`). The other is `lapped-residual`: its encoder is a single convolution with stride 4 whose blocks overlap
(8 wide), a learned lapped transform. It costs a device 49 thousand multiplications for a 3x32x32 image, and a second,
nonlinear layer bought 0.03 dB on CIFAR (docs/autoencoder.md): what limits quality is the decoder. That spends the rest
of the 50,000 parameters on residual blocks at the embedding's resolution and a shuffle of channels into pixels, beside
a linear path. Operators: convolution, SiLU, ReLU, add, reshape and transpose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedagg_edge.autoencoder.artefact import MAX_PARAMETERS
from fedagg_edge.autoencoder.separable import ARCHITECTURE as SEPARABLE
from fedagg_edge.autoencoder.separable import SeparableAutoencoder
from fedagg_edge.autoencoder.vector import ARCHITECTURE as VECTOR
from fedagg_edge.autoencoder.vector import VectorAutoencoder, default_embedding
from fedagg_edge.errors import ArtefactError, DataError, nearest

__all__ = [
    "ARCHITECTURE",
    "SEPARABLE",
    "STRIDE",
    "VECTOR",
    "Autoencoder",
    "Network",
    "architecture_of",
    "build",
    "default_arguments",
    "embedding_shape",
    "embedding_shape_of",
    "separable_arguments",
]

ARCHITECTURE = "lapped-residual"
STRIDE = 4
"""Samples per embedding position, along each axis."""

_WIDTHS, _BLOCKS = (48, 32, 24, 16, 8), 2  # multiples of 8 run fastest
_SEPARABLE_WIDTHS = (32, 24, 16, 8)
_VECTOR_WIDTHS = (64, 32, 16, 8)

_LARGEST = 1024  # of any argument: a file cannot ask for so many layers that counting them takes long


class _Residual(nn.Module):
    """x + conv(silu(conv(x))), the second convolution starting at zero so that the block starts as the identity."""

    def __init__(self, conv: type[nn.Conv1d | nn.Conv2d], width: int) -> None:
        super().__init__()
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(nn.functional.silu(self.first(x)))
        return out


class _Encoder(nn.Module):
    """Samples in [0, 1] to embeddings: one strided convolution over overlapping blocks."""

    def __init__(self, conv: type[nn.Conv1d | nn.Conv2d], channels: int, embedding_channels: int) -> None:
        super().__init__()
        self.transform = conv(channels, embedding_channels, 2 * STRIDE, STRIDE, padding=STRIDE // 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.transform(x - 0.5)
        return out


class _Decoder(nn.Module):
    """Embeddings to samples; `forward` is unclipped for training, `bounded` is in [0, 1]."""

    def __init__(
        self,
        conv: type[nn.Conv1d | nn.Conv2d],
        channels: int,
        embedding_channels: int,
        width: int,
        blocks: int,
    ) -> None:
        super().__init__()
        self.axes = 1 if conv is nn.Conv1d else 2
        pixels = channels * STRIDE**self.axes
        self.stem = conv(embedding_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList([_Residual(conv, width) for _ in range(blocks)])
        self.head = conv(width, pixels, 1)
        self.linear = conv(embedding_channels, pixels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.stem(z)
        for block in self.blocks:
            x = block(x)
        return self._shuffle(self.head(nn.functional.silu(x)) + self.linear(z)) + 0.5

    def bounded(self, z: Tensor) -> Tensor:
        """Return the samples clipped to [0, 1], as 1 - relu(1 - relu(x)): every runtime has a ReLU."""
        return 1.0 - torch.relu(1.0 - torch.relu(self.forward(z)))

    def _shuffle(self, x: Tensor) -> Tensor:
        if self.axes == 2:
            return nn.functional.pixel_shuffle(x, STRIDE)
        n, channels, length = x.shape
        x = x.reshape(n, channels // STRIDE, STRIDE, length)
        return x.transpose(2, 3).reshape(n, channels // STRIDE, length * STRIDE)


class Autoencoder(nn.Module):
    """Encoder and decoder; parameters are named as in the artefact.

    `forward` maps samples float32 (N, C, H, W) or (N, C, L) in [0, 1] to their unclipped reconstruction.
    """

    def __init__(self, sample_shape: tuple[int, ...], embedding_channels: int, width: int, blocks: int) -> None:
        super().__init__()
        conv: type[nn.Conv1d | nn.Conv2d] = nn.Conv1d if len(sample_shape) == 2 else nn.Conv2d
        channels = sample_shape[0]
        self.encoder = _Encoder(conv, channels, embedding_channels)
        self.decoder = _Decoder(conv, channels, embedding_channels, width, blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(x))
        return out


def architecture_of(sample_shape: tuple[int, ...]) -> str:
    """Return the architecture that samples of `sample_shape` get without a preset."""
    return VECTOR if len(sample_shape) == 1 else ARCHITECTURE


def embedding_shape_of(sample_shape: tuple[int, ...], embedding_channels: int) -> tuple[int, ...]:
    """Return (E, H/4, W/4), (E, L/4) or (E,) for a sample of (C, H, W), (C, L) or (F,).

    Raises DataError for a shape that no autoencoder here can take.
    """
    channels, *extent = sample_shape or (0,)
    image = len(extent) == 2
    if len(extent) > 2 or min(channels, *extent, 1) < 1 or any(size % STRIDE for size in extent):
        raise DataError(
            f"autoencoder: got samples of shape {sample_shape}, expected (C, H, W) images or (C, L) windows with "
            f"H, W and L divisible by {STRIDE}, or (F,) vectors; crop or pad them"
        )
    if image and channels not in (1, 3):
        raise DataError(f"autoencoder: got images of {channels} channels, expected 1 or 3")
    if embedding_channels < 1:
        raise DataError(f"autoencoder: got {embedding_channels} embedding channels, expected 1 or more")
    return (embedding_channels, *(size // STRIDE for size in extent))


def default_arguments(sample_shape: tuple[int, ...], embedding_channels: int | None = None) -> dict[str, int]:
    """Return the architecture's arguments for samples of `sample_shape`, as wide as 50,000 parameters allow.

    `embedding_channels` defaults to 4 for images (3x32x32 becomes 4x8x8 = 256 bytes, the paper's), 8 for images of at
    most 16x16, whose few positions would hold too little, and one per channel for sensor windows and a
    quarter of the features for vectors (a quarter of the values).
    Raises DataError for a shape or an embedding that does not fit.
    """
    if embedding_channels is None:
        embedding_channels = _default_channels(sample_shape)
    embedding_shape_of(sample_shape, embedding_channels)
    vector = len(sample_shape) == 1
    kind: type[Network] = VectorAutoencoder if vector else Autoencoder
    for width in _VECTOR_WIDTHS if vector else _WIDTHS:
        arguments = {"embedding_channels": embedding_channels, "width": width} | ({} if vector else {"blocks": _BLOCKS})
        with torch.device("meta"):
            if _parameters(kind(sample_shape, **arguments)) < MAX_PARAMETERS:
                return arguments
    what, codes = ("features", "embedding values") if vector else ("channels", "embedding channels")
    raise DataError(
        f"autoencoder: got {sample_shape[0]} {what} and {embedding_channels} {codes}, which cannot stay "
        f"under {MAX_PARAMETERS} parameters; use fewer"
    )


def _default_channels(sample_shape: tuple[int, ...]) -> int:
    if len(sample_shape) == 1:
        return default_embedding(sample_shape[0])
    if len(sample_shape) == 2:
        return sample_shape[0]
    return 8 if math.prod(sample_shape[1:]) <= 256 else 4


def separable_arguments(sample_shape: tuple[int, ...]) -> dict[str, int]:
    """Return the arguments of `separable.ARCHITECTURE` for samples of `sample_shape`, as wide as the limit allows.

    Raises DataError for a shape that does not fit: the matrices of long axes alone exceed 50,000 parameters.
    """
    embedding_shape_of(sample_shape, 1)
    if len(sample_shape) == 1:
        raise DataError(
            f"autoencoder: got vectors of {sample_shape[0]} features, which have no axis to transform; train without "
            "--preset"
        )
    for width in _SEPARABLE_WIDTHS:
        arguments = {"width": width, "blocks": _BLOCKS}
        with torch.device("meta"):
            count = _parameters(SeparableAutoencoder(sample_shape, **arguments))
        # the layout's scales and levels are learnt too: they count though they are no tensors
        if count + min(math.prod(sample_shape), 2048) + 600 < MAX_PARAMETERS:
            return arguments
    raise DataError(
        f"autoencoder: got samples of shape {sample_shape}, whose transform cannot stay under {MAX_PARAMETERS} "
        "parameters; cut them smaller, or train without --preset"
    )


def build(architecture: str, sample_shape: tuple[int, ...], arguments: Mapping[str, Any]) -> Network:
    """Return a new network; raise ArtefactError for an unknown architecture or arguments, or too many parameters."""
    if architecture not in _KNOWN:
        raise ArtefactError(
            f"autoencoder: got architecture {architecture!r}{nearest(architecture, list(_KNOWN))}, "
            f"this version knows {', '.join(map(repr, _KNOWN))}"
        )
    kind, known = _KNOWN[architecture]
    if set(arguments) != known or any(not 0 < value <= _LARGEST for value in arguments.values()):
        raise ArtefactError(
            f"autoencoder: got arguments {dict(arguments)}, expected {', '.join(sorted(known))}, each 1 to {_LARGEST}"
        )
    embedding_shape_of(sample_shape, arguments.get("embedding_channels", 1))
    if (kind is VectorAutoencoder) != (len(sample_shape) == 1):
        raise ArtefactError(
            f"autoencoder: got samples of shape {sample_shape} for {architecture!r}, which takes others"
        )
    if max(sample_shape) > _LARGEST and kind is SeparableAutoencoder:
        raise ArtefactError(f"autoencoder: got sample shape {sample_shape}, expected sizes of at most {_LARGEST}")
    with torch.device("meta"):  # counted before anything is allocated
        count = _parameters(kind(sample_shape, **arguments))
    if count >= MAX_PARAMETERS:
        raise ArtefactError(f"autoencoder: got {count} parameters, expected fewer than {MAX_PARAMETERS}")
    return kind(sample_shape, **arguments)


Network = Autoencoder | SeparableAutoencoder | VectorAutoencoder
_KNOWN: dict[str, tuple[type[Network], set[str]]] = {
    ARCHITECTURE: (Autoencoder, {"embedding_channels", "width", "blocks"}),
    SEPARABLE: (SeparableAutoencoder, {"width", "blocks"}),
    VECTOR: (VectorAutoencoder, {"embedding_channels", "width"}),
}


def embedding_shape(architecture: str, sample_shape: tuple[int, ...], arguments: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of the embeddings that `build`'s network of the same arguments makes."""
    return (
        sample_shape if architecture == SEPARABLE else embedding_shape_of(sample_shape, arguments["embedding_channels"])
    )


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
