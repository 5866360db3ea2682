"""Accuracy against rounds, a panel a tier, a line a method, like the paper's Figures 5 and 6."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure  # no pyplot: no global state, no display
from matplotlib.ticker import MaxNLocator

from fedagg_edge.reproduce.report import Section, Series, sections, series_of
from fedagg_edge.reproduce.rows import Row
from fedagg_edge.reproduce.tables import METHODS, PRESETS, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["colours", "draw", "draw_section"]

Colour = tuple[float, float, float]
"""Red, green and blue, from 0 to 1."""

_TIERS = ("cloud", "edge", "device")
_COLOUR = dict(zip(METHODS, [f"C{i}" for i in range(10)], strict=False))
_MARKER = dict(zip(PRESETS, "xo^sDvP<>*hpd", strict=True))


def draw(rows: Sequence[Row], out: Path) -> dict[Section, str]:
    """Draw every section below `out`/img; returns the pictures' paths as seen from `out`."""
    found: dict[Section, str] = {}
    (out / "img").mkdir(parents=True, exist_ok=True)
    for section in sections(rows):
        name = f"img/results-{section.slug}.png"
        draw_section(series_of(rows, section), out / name)
        found[section] = name
    return found


def draw_section(series: Sequence[Series], path: Path) -> None:
    """One picture: mean over seeds, the band from the least to the greatest; dashed: the cloud in both views."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 3, sharey=True)
    colour_of = colours([each.variant for each in series])
    for tier, axes in zip(_TIERS, panels, strict=True):
        for each in series:
            for view in ("raw", "both"):
                _plot(axes, each, tier, view, colour_of[each.variant])
        axes.set_title({"cloud": "cloud", "edge": "edges, mean", "device": "devices, mean"}[tier], fontsize=10)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("test accuracy (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    for axes in panels[1:]:
        known |= {k: v for v, k in zip(*axes.get_legend_handles_labels(), strict=True) if k not in known}
    columns = _columns([*known])
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=columns, fontsize=8)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def _columns(labels: Sequence[str]) -> int:
    """How many columns of the legend are no wider than the picture, at most 5."""
    longest = max(map(len, labels), default=0)
    return max(1, min(5, 165 // (longest + 8)))  # 165 letters of its size, and 8 for a line with its marker


def colours(variants: Sequence[Variant]) -> dict[Variant, Colour]:
    """A colour a method; where it is there in several presets, their shades from dark to light."""
    found: dict[Variant, Colour] = {}
    for method in dict.fromkeys(v.method for v in variants):
        own = [v for v in variants if v.method == method]
        plain = np.array(to_rgb(_COLOUR[method]))
        for i, variant in enumerate(own):
            shade = 0.5 * (2 * i + 1 - len(own)) / len(own)  # below 0 towards black, above towards white
            red, green, blue = plain + abs(shade) * ((shade > 0) - plain)
            found[variant] = (float(red), float(green), float(blue))
    return found


def _plot(axes: Axes, series: Series, tier: str, view: str, colour: Colour) -> None:
    curves = list(series.curve(tier, view).values())
    if not curves:
        return
    rounds = sorted(set.intersection(*({*c} for c in curves)))
    values = [[100 * c[r] for c in curves] for r in rounds]
    method, preset = series.variant.method, series.variant.preset
    style: dict[str, Any] = {"color": colour, "linestyle": "-" if view == "raw" else "--"}
    label = f"{METHODS[method]}{'' if preset == 'default' else f', {preset}'}{'' if view == 'raw' else ', both views'}"
    mean = [sum(v) / len(v) for v in values]
    axes.plot(rounds, mean, label=label, marker=_MARKER[preset], markersize=4, **style)
    if len(curves) > 1:
        axes.fill_between(rounds, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.15)
