"""The two pictures of a run: learning curves per tier, and private samples beside their bridge samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.records import Tier
from fedagg_edge.simulation.results import SimulationResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_bridge", "draw_curves"]

_COLOUR = {Tier.CLOUD: "#1b5e9e", Tier.EDGE: "#d9822b", Tier.DEVICE: "#3a8f5c"}


def draw_curves(results: SimulationResults, path: Path) -> None:
    """Accuracy by round: a line a tier, the band from its worst to its best node, the references dashed."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure = _figure(7.0, 4.2)
    axes = figure.subplots()
    rounds = results.round_R + 1
    for tier in (Tier.CLOUD, Tier.EDGE, Tier.DEVICE):
        columns = [i for i, t in enumerate(results.tiers) if t is tier]
        if not columns:
            continue
        accuracy = 100 * results.accuracy_RV[:, columns]
        label = tier.value if len(columns) == 1 else f"{tier.value}s (mean of {len(columns)})"
        axes.plot(rounds, accuracy.mean(axis=1), color=_COLOUR[tier], label=label, marker="o", markersize=3)
        if len(columns) > 1:
            axes.fill_between(rounds, accuracy.min(axis=1), accuracy.max(axis=1), color=_COLOUR[tier], alpha=0.15)
    for value, label, style in (
        (results.centralised, "cloud's model, all data in one place", "--"),
        (results.alone, "average device alone", ":"),
    ):
        if value is not None:
            axes.axhline(100 * value, color="0.35", linestyle=style, linewidth=1.2, label=label)
    axes.set_xlabel("round")
    axes.set_ylabel("test accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=130)


def draw_bridge(private_x_N: NDArray[np.float32], bridge_x_N: NDArray[np.float32], path: Path) -> None:
    """Private samples above, what the embedding decodes to below; images, or curves of windows and vectors.

    This picture shows what a parent sees of private data. It is drawn by whoever runs the simulation,
    never by a device.
    """
    count = len(private_x_N)
    figure = _figure(1.1 * count + 1.0, 2.9)
    grid = figure.subplots(2, count, squeeze=False)
    for column in range(count):
        for row, sample in enumerate((private_x_N[column], bridge_x_N[column])):
            _draw_sample(grid[row, column], sample)
    for row, label in enumerate(("private", "bridge")):
        grid[row, 0].set_ylabel(label)
    figure.savefig(path, dpi=130)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415  # no pyplot: no global state, no display

    return Figure(figsize=(width, height), layout="constrained")


def _draw_sample(axes: Any, sample: NDArray[np.float32]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if sample.ndim == 3 and sample.shape[0] in (1, 3):
        image = sample[0] if sample.shape[0] == 1 else np.moveaxis(sample, 0, -1)
        axes.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.plot(sample if sample.ndim == 1 else sample.reshape(sample.shape[0], -1).T, linewidth=0.7)
        axes.set_ylim(0, 1)
