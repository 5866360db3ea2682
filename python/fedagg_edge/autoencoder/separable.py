"""`separable-postfilter`: a separable transform of the whole sample, and a decoder that also filters. torch.

The encoder multiplies a sample by one orthonormal matrix per axis (channels, then height and width, or time): a
Karhunen-Loeve transform of each axis's covariance, fitted in closed form, 206 thousand multiplications for a 3x32x32
image. An embedding is all coefficients; which are sent, and in how many bits, is the layout's (`layout.TableLayout`).
The decoder is the inverse and a residual filter at half the resolution, trained through the code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedagg_edge.autoencoder.layout import TableLayout

__all__ = ["ARCHITECTURE", "SeparableAutoencoder", "allocate_bits", "fit_layout", "fit_transform", "lloyd"]

ARCHITECTURE = "separable-postfilter"

_MAX_BITS = 8
_FIT_SAMPLES = 8000  # enough for 32x32 covariances and for tables of 256 levels
_TABLE_VALUES = 200_000
_LEAST_SCALE = 1e-6
# error of a Lloyd quantiser of 0, 1, 2, ... bits as a share of the variance, between Gaussian and Laplacian up to 3
# bits, then a little more than the 6 dB a bit of the limit
_ERROR_SHARE = np.array([1.0, 0.42, 0.14, 0.045] + [0.045 * 0.29**i for i in range(1, _MAX_BITS - 2)])


class _Transform(nn.Module):
    """Mean and one square matrix per axis of a sample (C, ...)."""

    def __init__(self, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(sample_shape[0]))
        self.axes = nn.ParameterList([nn.Parameter(torch.eye(size)) for size in sample_shape])

    def _mean(self) -> Tensor:
        return self.mean.reshape(-1, *(1,) * (len(self.axes) - 1))


class _Encoder(_Transform):
    def forward(self, x: Tensor) -> Tensor:
        return _rotate(x - self._mean(), list(self.axes))


class _Residual(nn.Module):
    """x + conv(relu(conv(x))), starting as the identity."""

    def __init__(self, conv: type[nn.Conv1d | nn.Conv2d], width: int) -> None:
        super().__init__()
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(torch.relu(self.first(x)))
        return out


class _Decoder(_Transform):
    def __init__(self, sample_shape: tuple[int, ...], width: int, blocks: int) -> None:
        super().__init__(sample_shape)
        conv: type[nn.Conv1d | nn.Conv2d] = nn.Conv1d if len(sample_shape) == 2 else nn.Conv2d
        folded = sample_shape[0] * 2 ** (len(sample_shape) - 1)
        self.stem = conv(folded, width, 3, padding=1)
        self.blocks = nn.ModuleList([_Residual(conv, width) for _ in range(blocks)])
        self.head = conv(width, folded, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # there is one

    def linear(self, z: Tensor) -> Tensor:
        """Return the inverse transform alone."""
        return _rotate(z, [matrix.T for matrix in self.axes]) + self._mean()

    def forward(self, z: Tensor) -> Tensor:
        x = self.linear(z)
        y = self.stem(fold(x - 0.5, 2))
        for block in self.blocks:
            y = block(y)
        return x + unfold(self.head(torch.relu(y)), 2)

    def bounded(self, z: Tensor) -> Tensor:
        """Return the samples clipped to [0, 1]."""
        return self.forward(z).clamp(0.0, 1.0)


class SeparableAutoencoder(nn.Module):
    """Encoder and decoder for samples (C, H, W) or (C, L) with even H, W and L; embeddings have the sample's shape."""

    def __init__(self, sample_shape: tuple[int, ...], width: int, blocks: int) -> None:
        super().__init__()
        self.encoder = _Encoder(sample_shape)
        self.decoder = _Decoder(sample_shape, width, blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(x))
        return out


def _rotate(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    for axis, matrix in enumerate(matrices, start=1):
        x = (x.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return x


def fold(x: Tensor, factor: int) -> Tensor:
    """Return [N, C, ...] with every axis shorter by `factor` and the parts in channels."""
    if x.ndim == 4:
        return nn.functional.pixel_unshuffle(x, factor)
    n, channels, length = x.shape
    return x.reshape(n, channels, length // factor, factor).transpose(2, 3).reshape(n, -1, length // factor)


def unfold(x: Tensor, factor: int) -> Tensor:
    """Undo `fold`."""
    if x.ndim == 4:
        return nn.functional.pixel_shuffle(x, factor)
    n, channels, length = x.shape
    return x.reshape(n, channels // factor, factor, length).transpose(2, 3).reshape(n, -1, length * factor)


def fit_transform(network: SeparableAutoencoder, x_N: Tensor) -> None:
    """Set both transforms to the eigenvectors of each axis's covariance over `x_N` [N, C, ...], largest first.

    They stop being trained: orthonormal matrices keep the code's error the sample's error.
    """
    x_N = x_N[:_FIT_SAMPLES].double()
    mean_C = x_N.mean((0, *range(2, x_N.ndim)))
    x_N = x_N - mean_C.reshape(-1, *(1,) * (x_N.ndim - 2))
    for part in (network.encoder, network.decoder):
        part.mean.requires_grad_(False).copy_(mean_C)
    for axis in range(1, x_N.ndim):
        rows = x_N.movedim(axis, -1).reshape(-1, x_N.shape[axis])
        matrix = torch.linalg.eigh(rows.T @ rows / len(rows)).eigenvectors.flip(1)
        x_N = (x_N.movedim(axis, -1) @ matrix).movedim(-1, axis)
        for part in (network.encoder, network.decoder):
            part.axes[axis - 1].requires_grad_(False).copy_(matrix)


def fit_layout(network: SeparableAutoencoder, x_N: Tensor, sample_bytes: int, bits: int) -> TableLayout:
    """Return the code of at most `sample_bytes` bytes that suits `x_N` [N, C, ...]; `bits` as in `presets.Preset`."""
    with torch.inference_mode():
        z_ND = network.encoder(x_N[:_FIT_SAMPLES]).flatten(1).numpy()
    variance_D = np.square(z_ND, dtype=np.float64).mean(axis=0)
    bits_D = allocate_bits(variance_D, 8 * sample_bytes, bits)
    scale_D = np.maximum(np.sqrt(variance_D), _LEAST_SCALE).astype(np.float32)
    tables = {}
    for count in np.unique(bits_D[bits_D > 0]).tolist():
        places = bits_D == count
        value_M = (z_ND[:, places] / scale_D[places]).ravel()
        tables[count] = lloyd(value_M[:: math.ceil(len(value_M) / _TABLE_VALUES)], count)
    return TableLayout(tuple(x_N.shape[1:]), bits_D, scale_D, tables)


def allocate_bits(variance_D: NDArray[np.float64], budget: int, bits: int = 0) -> NDArray[np.uint8]:
    """Return uint8 bits per coefficient, together at most `budget`.

    With `bits` above 0 the coefficients of largest variance get that many each; with 0 every bit in turn goes where it
    lowers the expected squared error most (greedy, optimal for convex error; Gersho and Gray, 1992, section 8.3).
    """
    bits_D = np.zeros(len(variance_D), np.uint8)
    if bits:
        bits_D[np.argsort(-variance_D, kind="stable")[: budget // bits]] = bits
        return bits_D
    gain_B = np.append(_ERROR_SHARE[:-1] - _ERROR_SHARE[1:], 0.0)
    gain_D = variance_D * gain_B[0]
    for _ in range(min(budget, _MAX_BITS * len(variance_D))):
        place = int(gain_D.argmax())
        bits_D[place] += 1
        gain_D[place] = variance_D[place] * gain_B[bits_D[place]] if bits_D[place] < _MAX_BITS else -1.0
    return bits_D


def lloyd(value_M: NDArray[np.float32], bits: int, iterations: int = 30) -> NDArray[np.float32]:
    """Return 2**bits rising levels that quantise `value_M` with little squared error (Lloyd, 1982), float32."""
    value_M = np.sort(value_M.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(value_M)])
    level = value_M[((np.arange(2**bits) + 0.5) / 2**bits * len(value_M)).astype(int)]
    for _ in range(iterations):
        cut = np.concatenate([[0], np.searchsorted(value_M, (level[1:] + level[:-1]) / 2), [len(value_M)]])
        count = np.diff(cut)
        level = np.where(count > 0, np.diff(sums[cut]) / np.maximum(count, 1), level)
    return np.asarray(level, np.float32)
