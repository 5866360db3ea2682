"""Making more of an open set: views of samples for training an autoencoder. torch.

A few hundred open samples do not show a decoder what strokes or motions exist; pasting parts of samples side by side
does: on digits' 256 public images it was worth 2.9 dB (docs/autoencoder.md). Large sets are only mirrored.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SMALL", "mirror", "small_set_view"]

SMALL = 4096
"""A set with fewer samples than this is small: its samples are shifted and pasted, too."""

_SHIFTED, _PASTED, _MIRRORED = 0.5, 0.4, 0.25  # shares of a batch


def mirror(x_N: Tensor, rng: torch.Generator) -> Tensor:
    """Return the batch [N, C, ...] with half of it mirrored along the last axis: left and right, or in time.

    Vectors [N, F] stay as they are: the order of features means nothing.
    """
    if x_N.ndim == 2:
        return x_N
    return _flip(x_N, x_N.ndim - 1, 0.5, rng)


def small_set_view(x_N: Tensor, rng: torch.Generator) -> Tensor:
    """Return the batch [N, C, ...] with shares of it shifted by one position, pasted together and mirrored."""
    for axis in range(2, x_N.ndim):
        x_N = _shift(x_N, axis, rng)
    x_N = _paste(x_N, rng)
    for axis in range(2, x_N.ndim):
        x_N = _flip(x_N, axis, _MIRRORED, rng)
    return x_N


def _chosen(x_N: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """A bool [N, 1, ...] that is true for about `share` of the samples."""
    return (torch.rand(len(x_N), generator=rng) < share).reshape(-1, *(1,) * (x_N.ndim - 1))


def _flip(x_N: Tensor, axis: int, share: float, rng: torch.Generator) -> Tensor:
    return torch.where(_chosen(x_N, share, rng), x_N.flip(axis), x_N)


def _shift(x_N: Tensor, axis: int, rng: torch.Generator) -> Tensor:
    """Move a share by one position either way; what enters is 0, as around a digit."""
    size = x_N.shape[axis]
    zero = torch.zeros_like(x_N.narrow(axis, 0, 1))
    forth = torch.cat([zero, x_N.narrow(axis, 0, size - 1)], axis)
    back = torch.cat([x_N.narrow(axis, 1, size - 1), zero], axis)
    x_N = torch.where(_chosen(x_N, _SHIFTED / 2, rng), forth, x_N)
    return torch.where(_chosen(x_N, _SHIFTED / 2, rng), back, x_N)


def _paste(x_N: Tensor, rng: torch.Generator) -> Tensor:
    """Replace one side of a share of the samples by that side of others; the cut is on a random axis and place."""
    axes = range(2, x_N.ndim)
    for axis in axes:
        size = x_N.shape[axis]
        cut_N = torch.randint(1, size, (len(x_N), *(1,) * (x_N.ndim - 1)), generator=rng)
        place = torch.arange(size).reshape(-1, *(1,) * (x_N.ndim - 1 - axis))
        replaced = (place >= cut_N) & _chosen(x_N, _PASTED / len(axes), rng)
        x_N = torch.where(replaced, x_N.roll(axis, 0), x_N)
    return x_N
