"""The attack that says what embeddings leak: a larger decoder, trained on open data against the frozen encoder. torch.

Whoever sees embeddings has the artefact and open data like the private ones, so leakage is what the better of two
decoders recovers: the shipped one, or this one of at least a million parameters. It sees what the bytes really are, so
where the code is coarse or noisy it learns to undo that. It starts from the best mixture of two reconstructions, the
shipped decoder's and the best linear one (ridge regression), both in closed form, and learns a correction of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedagg_edge.autoencoder.artefact import Artefact
from fedagg_edge.autoencoder.networks import STRIDE
from fedagg_edge.autoencoder.quality import psnr, ssim
from fedagg_edge.autoencoder.report import Audit
from fedagg_edge.autoencoder.separable import fold, unfold
from fedagg_edge.bridge import Bridge, open_bridge
from fedagg_edge.errors import DataError

__all__ = ["LEAST_PARAMETERS", "LEAST_SAMPLES", "Attacker", "Recovered", "audit"]

LEAST_PARAMETERS = 1_000_000
LEAST_SAMPLES = 16
"""Open samples below which nothing is learnt."""

MAX_OPEN, MAX_MEASURED = 20_000, 2_000
"""Samples used at most; more are drawn from with the seed. They bound memory: 20,000 x 3 x 32 x 32 need 0.8 GB."""

_BATCH, _CHUNK, _BLOCKS = 64, 256, 3
_RATE, _LINEAR_RATE = 1e-3, 3e-5  # the ridge solution needs little change
_RIDGE = 0.02  # of the number of samples: features are standardised
_RIDGE_SAMPLES, _SHARE_SAMPLES = 8_000, 1_000  # for the map, and others for its share
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Recovered:
    """A few samples [n, C, ...] in model scale: as they were, by the shipped decoder, by the attacker."""

    original_N: NDArray[np.float32]
    decoder_N: NDArray[np.float32]
    attacker_N: NDArray[np.float32]


class Attacker(nn.Module):
    """Standardised code values [N, K] and shipped reconstructions [N, C, ...] to samples; a million parameters or more.

    A linear map from every value to every sample value, and residual convolutions at a quarter of the resolution on
    both reconstructions.
    """

    def __init__(self, values: int, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        conv: type[nn.Conv1d | nn.Conv2d] = nn.Conv1d if len(sample_shape) == 2 else nn.Conv2d
        self.sample_shape = sample_shape
        self.linear = nn.Linear(values, math.prod(sample_shape))
        self.share = nn.Parameter(torch.zeros(()))  # of the linear reconstruction in the starting point
        axes = len(sample_shape) - 1
        folded = sample_shape[0] * STRIDE**axes
        taps = 3**axes
        missing = max(0, LEAST_PARAMETERS - sum(p.numel() for p in self.parameters()))
        width = max(96, 8 * math.ceil(math.sqrt(missing / (2 * _BLOCKS * taps)) / 8))
        self.stem = conv(2 * folded, width, 3, padding=1)
        self.first = nn.ModuleList([conv(width, width, 3, padding=1) for _ in range(_BLOCKS)])
        self.second = nn.ModuleList([conv(width, width, 3, padding=1) for _ in range(_BLOCKS)])
        self.head = conv(width, folded, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # there is one

    def forward(self, z_NK: Tensor, shipped_N: Tensor) -> Tensor:
        linear_N = self.linear(z_NK).reshape(-1, *self.sample_shape)
        x = self.stem(torch.cat([fold(linear_N - 0.5, STRIDE), fold(shipped_N - 0.5, STRIDE)], 1))
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(torch.relu(first(torch.relu(x))))
        start_N = shipped_N + self.share * (linear_N - shipped_N)
        out: Tensor = start_N + unfold(self.head(torch.relu(x)), STRIDE)
        return out

    @property
    def parameters_count(self) -> int:
        """Numbers that are learnt."""
        return sum(p.numel() for p in self.parameters())


def audit(
    artefact: Artefact,
    data: NDArray[Any],
    open_x: NDArray[Any],
    *,
    epochs: int = 4,
    seconds: float = math.inf,
    seed: int = 0,
    data_name: str = "data",
    open_name: str = "open data",
    progress: Callable[[float, float], None] | None = None,
) -> tuple[Audit, Recovered]:
    """Attack the embeddings of `data`, raw [N, C, ...], with a decoder trained on `open_x`, raw [M, C, ...].

    The two must have no sample in common. At most `MAX_MEASURED` and `MAX_OPEN` samples are used. Training takes
    `epochs` passes, or fewer if `seconds` run out: the rate then falls with the clock and the figure depends on the
    machine, as `attacker_epochs` shows; without a limit the seed decides. `progress` is told the share done and the
    error, twenty times.

    Raises DataError for samples that do not fit the artefact, or too few of them.
    """
    if epochs < 1 or not seconds > 0:
        raise DataError(f"audit: got epochs {epochs} and seconds {seconds}, expected both above 0")
    if len(open_x) < LEAST_SAMPLES or len(data) < 1:
        raise DataError(
            f"audit: got {len(open_x)} open samples and {len(data)} to measure on, expected at least {LEAST_SAMPLES} "
            "and 1"
        )
    if len(artefact.sample_shape) == 1:
        raise DataError(
            f"audit: got an autoencoder of vectors {artefact.sample_shape}, the attack is built for images and "
            "windows; compare bridge samples with the samples themselves"
        )
    bridge = open_bridge(artefact)
    rng = np.random.default_rng(seed)
    open_N, data_N = (
        bridge.scale(x[rng.permutation(len(x))[:most]]) for x, most in ((open_x, MAX_OPEN), (data, MAX_MEASURED))
    )
    view = _View(artefact, bridge, open_N)
    attacker = _new_attacker(view, open_N[-min(_SHARE_SAMPLES, len(open_N) // 5) :], seed)
    steps = _fit(attacker, view, open_N, _Limits(epochs, seconds, seed), progress)
    z_NK, shipped_N = view(data_N)
    found_N = _recover(attacker, z_NK, shipped_N)
    result = Audit(
        decoder_psnr_db=psnr(data_N, shipped_N.numpy()),
        decoder_ssim=ssim(data_N, shipped_N.numpy()),
        attacker_psnr_db=psnr(data_N, found_N),
        attacker_ssim=ssim(data_N, found_N),
        attacker_parameters=attacker.parameters_count,
        attacker_steps=steps,
        attacker_epochs=round(steps * min(_BATCH, len(open_N)) / len(open_N), 3),
        open_data=open_name,
        open_samples=len(open_N),
        data=data_name,
        samples=len(data_N),
        seed=seed,
    )
    return result, Recovered(data_N[:_SHOWN], shipped_N.numpy()[:_SHOWN], found_N[:_SHOWN])


class _View:
    """What an attacker sees of samples: the values of their codes, standardised, and what the shipped decoder makes."""

    def __init__(self, artefact: Artefact, bridge: Bridge, open_N: NDArray[np.float32]) -> None:
        self._bridge, self._layout = bridge, artefact.layout
        ridge_N = open_N[: min(_RIDGE_SAMPLES, len(open_N) * 4 // 5)]
        z_ND = self._layout.decode(bridge.encode(ridge_N))
        spread_D = z_ND.std(axis=0)
        self._used = np.flatnonzero(spread_D > 0)  # what is not sent or never changes tells nothing
        self._mean, self._spread = z_ND.mean(axis=0)[self._used], spread_D[self._used]
        self.sample_shape = artefact.sample_shape
        self.values = max(1, len(self._used))
        self.ridge_z_NK, self.ridge_x_N = self._standardised(z_ND), torch.from_numpy(ridge_N)

    def _standardised(self, z_ND: NDArray[np.float32]) -> Tensor:
        if not len(self._used):
            return torch.zeros(len(z_ND), 1)
        return torch.from_numpy(((z_ND[:, self._used] - self._mean) / self._spread).astype(np.float32))

    def __call__(self, x_N: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        code_NB = self._bridge.encode(x_N)
        return self._standardised(self._layout.decode(code_NB)), torch.from_numpy(self._bridge.decode(code_NB))


def _new_attacker(view: _View, other_N: NDArray[np.float32], seed: int) -> Attacker:
    """Random filters from `seed`, the linear map by ridge regression, its share by least squares on other samples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attacker = Attacker(view.values, view.sample_shape)
    z_NK, x_ND = view.ridge_z_NK, view.ridge_x_N.flatten(1)
    mean_D = x_ND.mean(0)
    gram_KK = (z_NK.T @ z_NK).double() + _RIDGE * len(z_NK) * torch.eye(view.values, dtype=torch.float64)
    weight_KD = torch.linalg.solve(gram_KK, (z_NK.T @ (x_ND - mean_D)).double())
    with torch.no_grad():
        attacker.linear.weight.copy_(weight_KD.T)
        attacker.linear.bias.copy_(mean_D)
        z_NK, shipped_N = view(other_N)
        change_ND = attacker.linear(z_NK) - shipped_N.flatten(1)
        wanted_ND = torch.from_numpy(other_N).flatten(1) - shipped_N.flatten(1)
        share = (change_ND * wanted_ND).sum() / change_ND.square().sum().clamp(min=1e-12)
        attacker.share.copy_(share.clamp(0.0, 1.0))
    return attacker


@dataclass(frozen=True, slots=True)
class _Limits:
    epochs: int
    seconds: float
    seed: int


def _fit(
    attacker: Attacker,
    view: _View,
    open_N: NDArray[np.float32],
    limits: _Limits,
    progress: Callable[[float, float], None] | None,
) -> int:
    """Adam on the mean squared error, batches mirrored half of the time; return the steps made."""
    rng = torch.Generator().manual_seed(limits.seed)
    linear = list(attacker.linear.parameters())
    known = {id(p) for p in linear}
    groups = ((linear, _LINEAR_RATE), ([p for p in attacker.parameters() if id(p) not in known], _RATE))
    optimizer = torch.optim.Adam([{"params": p, "lr": rate} for p, rate in groups], betas=(0.9, 0.99), fused=True)
    batch = min(_BATCH, len(open_N))
    steps = limits.epochs * (len(open_N) // batch)
    began, told = time.monotonic(), 0
    order_N = torch.zeros(0, dtype=torch.int64)
    for step in range(steps):
        done = max(step / steps, (time.monotonic() - began) / limits.seconds)
        if done >= 1.0:
            return step
        for group, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / 50) * 0.5 * (1.0 + math.cos(math.pi * done))
        if len(order_N) < batch:
            order_N = torch.randperm(len(open_N), generator=rng)
        row_B, order_N = order_N[:batch].numpy(), order_N[batch:]
        x_B = open_N[row_B]
        if torch.rand((), generator=rng) < 0.5:
            x_B = np.ascontiguousarray(x_B[..., ::-1])
        error = nn.functional.mse_loss(attacker(*view(x_B)), torch.from_numpy(x_B))
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]  # torch's stub
        optimizer.step()
        if progress is not None and done >= told / 20:
            progress(done, error.item())
            told += 1
    return steps


def _recover(attacker: Attacker, z_NK: Tensor, shipped_N: Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        parts = [
            attacker(z, shipped).clamp(0.0, 1.0)
            for z, shipped in zip(torch.split(z_NK, _CHUNK), torch.split(shipped_N, _CHUNK), strict=True)
        ]
    return torch.cat(parts).numpy()
