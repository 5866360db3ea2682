"""Training an autoencoder on open samples: mean squared error through a simulated code. torch.

Deterministic per seed on one machine and thread count. Nothing here touches private data: the open set is public.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedagg_edge.autoencoder import networks, separable
from fedagg_edge.autoencoder.artefact import Artefact
from fedagg_edge.autoencoder.augment import SMALL, mirror, small_set_view
from fedagg_edge.autoencoder.layout import UINT8_AFFINE, CodeLayout, Layout
from fedagg_edge.autoencoder.presets import Preset, preset_of
from fedagg_edge.autoencoder.quality import psnr
from fedagg_edge.autoencoder.report import Report
from fedagg_edge.autoencoder.scale import measure_range, range_arrays, to_model_scale
from fedagg_edge.errors import DataError

__all__ = ["LEAST_SAMPLES", "Progress", "train"]

LEAST_SAMPLES = 16
"""An open set below this teaches nothing; the held-out part is a tenth of it, at most 2,000."""

_DEFAULT_STEPS = 2500
_PRESET_RATE, _SMALL_PRESET_RATE = 0.002, 0.004  # only the filter trains
_CHUNK = 256  # samples per forward pass outside training
_MARGIN = 0.02  # of an embedding channel's measured span, added on either side of the code's range


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training run is: epochs done of how many, and the mean training error of the last one."""

    epoch: int
    epochs: int
    mse: float


def train(
    open_x: NDArray[Any],
    *,
    input_low: float | Sequence[float] | None = None,
    input_high: float | Sequence[float] | None = None,
    preset: str | None = None,
    embedding_channels: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    trained_on: str = "open data",
    progress: Callable[[Progress], None] | None = None,
) -> Artefact:
    """Return an autoencoder for samples like `open_x`, raw uint8 or float [N, C, H, W], [N, C, L] or [N, F].

    `input_low` and `input_high`, numbers or one per channel, are what 0 and 1 of the model scale stand for; without
    them uint8 means 0..255 and floats are measured (`scale.measure_range`). `preset`: a name of `presets.PRESETS`;
    without one the networks are `lapped-residual`, for vectors `linear-residual`. `embedding_channels`, which sets the
    bytes, defaults as in `networks.default_arguments`; `batch_size` and `learning_rate` to 128 and 0.016 for an open
    set of fewer than 4,096 samples, else to 32 and 0.004, with a preset to lower rates; `epochs` to as many as make
    about 2,500 steps, at least 4. A random tenth of the samples, at most 2,000, is held out for the report's PSNR.
    `progress` is called after every epoch.

    Raises DataError for samples or settings that cannot be trained on, ConfigError for an unknown preset.
    torch's global random state is left as it was.
    """
    open_x = np.asarray(open_x)
    if len(open_x) < LEAST_SAMPLES or open_x.ndim not in (2, 3, 4):
        raise DataError(
            f"autoencoder: got open samples {open_x.shape}, expected (N, C, H, W), (N, C, L) or (N, F) "
            f"with N at least {LEAST_SAMPLES}"
        )
    sample_shape = tuple(open_x.shape[1:])
    wanted = None if preset is None else preset_of(preset)
    architecture, arguments = _network_plan(sample_shape, embedding_channels, wanted)
    low_C, high_C = _range(open_x, input_low, input_high)
    row_N = np.random.default_rng(seed).permutation(len(open_x))
    held_out = min(2000, len(open_x) // 10)
    if wanted is not None and learning_rate is None:
        learning_rate = _SMALL_PRESET_RATE if len(open_x) - held_out < SMALL else _PRESET_RATE
    plan = _plan(len(open_x) - held_out, epochs, batch_size, learning_rate, progress)
    held_x, trained_x = (
        torch.from_numpy(to_model_scale(open_x[rows], low_C, high_C, sample_shape))
        for rows in np.split(row_N, [held_out])
    )
    network = _new_network(architecture, sample_shape, arguments, seed)
    rng = torch.Generator().manual_seed(seed)
    layout: Layout
    if not isinstance(network, separable.SeparableAutoencoder):
        _fit(network, trained_x, plan, rng, _code_noise)
        layout = _layout(network.eval(), trained_x)
    else:
        layout = _prepared(network, trained_x, embedding_channels, wanted)
        _fit(network, trained_x, plan, rng, _through(layout))
    network.eval().requires_grad_(False)
    through_code, unquantised = _held_out_psnr(network, layout, held_x)
    return Artefact(
        tensors={name: value.numpy().copy() for name, value in network.state_dict().items()},
        architecture=architecture,
        arguments=arguments,
        sample_shape=sample_shape,
        low_C=low_C,
        high_C=high_C,
        layout=layout,
        report=Report(
            psnr_db=through_code,
            psnr_unquantised_db=unquantised,
            encoder_parameters=_parameters(network.encoder),
            decoder_parameters=_parameters(network.decoder),
            embedding_bytes=layout.sample_bytes,
            trained_on=trained_on,
            samples=len(trained_x),
            held_out=held_out,
            epochs=plan.epochs,
            seed=seed,
        ),
    )


def _range(open_x: NDArray[Any], low: Any, high: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if low is None and high is None:
        return measure_range(open_x)
    if low is None or high is None:
        raise DataError(f"autoencoder: got input_low {low} and input_high {high}, expected both or neither")
    return range_arrays(low, high, open_x.shape[1])


def _network_plan(
    sample_shape: tuple[int, ...], embedding_channels: int | None, preset: Preset | None
) -> tuple[str, dict[str, int]]:
    """The architecture and its arguments."""
    if preset is None:
        return networks.architecture_of(sample_shape), networks.default_arguments(sample_shape, embedding_channels)
    return networks.SEPARABLE, networks.separable_arguments(sample_shape)


def _prepared(
    network: separable.SeparableAutoencoder, x_N: Tensor, embedding_channels: int | None, preset: Preset | None
) -> Layout:
    """Fit the transform and the code in closed form; what is left to train is the decoder's filter."""
    separable.fit_transform(network, x_N)
    sample_shape = tuple(x_N.shape[1:])
    channels = embedding_channels or networks.default_arguments(sample_shape)["embedding_channels"]
    sample_bytes = math.prod(networks.embedding_shape_of(sample_shape, channels))
    return separable.fit_layout(network, x_N, sample_bytes, 0 if preset is None else preset.bits)


def _new_network(
    architecture: str, sample_shape: tuple[int, ...], arguments: dict[str, int], seed: int
) -> networks.Network:
    """Random weights from `seed`, the caller's random state left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return networks.build(architecture, sample_shape, arguments)


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@dataclass(frozen=True, slots=True)
class _Plan:
    epochs: int
    batch_size: int
    learning_rate: float
    progress: Callable[[Progress], None] | None

    def rate(self, step: int, steps: int) -> float:
        """A short warm-up, then half a cosine down to zero."""
        return self.learning_rate * min(1.0, (step + 1) / 100) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _plan(
    count: int,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    progress: Callable[[Progress], None] | None,
) -> _Plan:
    """Fill in what was left open for a training set of `count`; the defaults were tuned on digits and on CIFAR-100."""
    small = count < SMALL
    batch_size = (128 if small else 32) if batch_size is None else batch_size
    learning_rate = (0.016 if small else 0.004) if learning_rate is None else learning_rate
    if batch_size < 1 or not 0 < learning_rate < math.inf or (epochs is not None and epochs < 1):
        raise DataError(
            f"autoencoder: got batch_size {batch_size}, learning_rate {learning_rate}, epochs {epochs}, "
            "expected all above 0"
        )
    batch_size = min(batch_size, count)
    if epochs is None:
        epochs = max(4, math.ceil(_DEFAULT_STEPS / math.ceil(count / batch_size)))
    return _Plan(epochs, batch_size, learning_rate, progress)


Coding = Callable[[Tensor, torch.Generator], Tensor]
"""What the code does to embeddings in training: (z, rng) to what the decoder gets."""


def _fit(network: networks.Network, x_N: Tensor, plan: _Plan, rng: torch.Generator, coding: Coding) -> None:
    """Adam; every batch is full: an epoch's last one is filled up with the epoch's first samples."""
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, plan.learning_rate, betas=(0.9, 0.99), fused=True)
    view = small_set_view if len(x_N) < SMALL else mirror
    per_epoch = math.ceil(len(x_N) / plan.batch_size)
    step = 0
    for epoch in range(1, plan.epochs + 1):
        total = 0.0
        order_N = torch.randperm(len(x_N), generator=rng)
        order_N = torch.cat([order_N, order_N[: per_epoch * plan.batch_size - len(x_N)]])
        for row_B in torch.split(order_N, plan.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(step, plan.epochs * per_epoch)
            step += 1
            total += _step(network, optimizer, view(x_N[row_B], rng), rng, coding)
        if not math.isfinite(total):
            raise DataError(
                f"autoencoder: training diverged in epoch {epoch}; lower learning_rate, got {plan.learning_rate}"
            )
        if plan.progress is not None:
            plan.progress(Progress(epoch, plan.epochs, total / per_epoch))


def _step(
    network: networks.Network, optimizer: torch.optim.Optimizer, x_B: Tensor, rng: torch.Generator, coding: Coding
) -> float:
    error = torch.nn.functional.mse_loss(network.decoder(coding(network.encoder(x_B), rng)), x_B)
    optimizer.zero_grad()
    error.backward()  # type: ignore[no-untyped-call]  # torch's stub
    optimizer.step()
    return error.item()


def _code_noise(z_B: Tensor, rng: torch.Generator) -> Tensor:
    """Uniform noise as wide as one step of a byte over the batch's range: what rounding to the code will do."""
    axes = (0, *range(2, z_B.ndim))
    still_B = z_B.detach()
    step_E = (still_B.amax(axes, keepdim=True) - still_B.amin(axes, keepdim=True)) / 255.0
    return z_B + (torch.rand(z_B.shape, generator=rng) - 0.5) * step_E


def _through(layout: Layout) -> Coding:
    """The code itself; no gradient passes, and the encoder that it would reach is not trained."""

    def coding(z_B: Tensor, rng: torch.Generator) -> Tensor:
        return _coded(layout, z_B.detach())

    return coding


def _coded(layout: Layout, z_N: Tensor) -> Tensor:
    return torch.from_numpy(layout.decode(layout.encode(z_N.flatten(1).numpy()))).reshape(z_N.shape)


def _layout(network: networks.Network, x_N: Tensor) -> CodeLayout:
    """The code's range per embedding channel: what the open samples use, and a little more."""
    with torch.inference_mode():
        z_N = torch.cat([network.encoder(part) for part in torch.split(x_N, _CHUNK)]).double()
    axes = (0, *range(2, z_N.ndim))
    low_E, high_E = z_N.amin(axes), z_N.amax(axes)
    span_E = (high_E - low_E).clamp(min=1e-6)
    step_E = span_E * (1 + 2 * _MARGIN) / 255.0
    return CodeLayout(
        UINT8_AFFINE,
        tuple(z_N.shape[1:]),
        (low_E - _MARGIN * span_E).float().numpy(),
        step_E.float().numpy(),
    )


def _held_out_psnr(network: networks.Network, layout: Layout, x_N: Tensor) -> tuple[float, float]:
    """Return the PSNR in dB of reconstructions through the code and without it."""
    through, without = [], []
    with torch.inference_mode():
        for part in torch.split(x_N, _CHUNK):
            z_N = network.encoder(part)
            without.append(network.decoder.bounded(z_N).numpy())
            through.append(network.decoder.bounded(_coded(layout, z_N)).numpy())
    return psnr(x_N.numpy(), np.concatenate(through)), psnr(x_N.numpy(), np.concatenate(without))
