"""What a simulation gives back: arrays and figures, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.records import NodeId, Tier

__all__ = ["SimulationResults"]


@dataclass(frozen=True, slots=True)
class SimulationResults:
    """Results of one run; shape letters: R evaluated rounds, V evaluated nodes.

    `method` is the name in the configuration, `title` the one in tables. Only nodes that the method trains are among V.
    `round_R` int64, the rounds after which nodes were evaluated, from 0 as in the paper; `nodes` names the V columns of
    `accuracy_RV` float64, accuracy on the common test set; `tiers` gives each node's tier. `alone` and
    `centralised` are the references (None where the configuration left them out). Bytes are payload, both
    ways, embeddings included. `views_R`: the cloud's accuracy in each configured view (empty: raw alone),
    `validation_R` the same on the data's validation samples (empty: it has none). `own_R` and `alone_own`: the mean
    device's accuracy where test samples count as their classes do among its own (`evaluate.on_own_mix`), under the
    method, [R], NaN where it is not known, and alone.
    """

    folder: Path
    method: str
    title: str
    round_R: NDArray[np.int64]
    nodes: tuple[NodeId, ...]
    tiers: tuple[Tier, ...]
    accuracy_RV: NDArray[np.float64]
    alone: float | None
    centralised: float | None
    bytes_total: int
    bytes_per_device: float
    seconds: float
    views_R: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    validation_R: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    own_R: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    alone_own: float | None = None

    def curve(self, tier: Tier) -> NDArray[np.float64]:
        """Mean accuracy of a tier after each evaluated round, [R]; NaN if the tree has no such tier."""
        columns = [i for i, t in enumerate(self.tiers) if t is tier]
        if not columns:
            return np.full(len(self.round_R), np.nan)
        mean: NDArray[np.float64] = self.accuracy_RV[:, columns].mean(axis=1)
        return mean

    def final(self, tier: Tier) -> float:
        """Mean accuracy of a tier at the end."""
        return float(self.curve(tier)[-1])

    @property
    def final_own(self) -> float | None:
        """The mean device on its own mix of classes at the end; None where it is not known."""
        known = len(self.own_R) and np.isfinite(self.own_R[-1])
        return float(self.own_R[-1]) if known else None

    @property
    def chosen_view(self) -> str | None:
        """The view that is best on validation samples at the end, by which the cloud's model would be used; None
        without such samples."""
        if not self.validation_R:
            return None
        return max(self.validation_R, key=lambda view: float(self.validation_R[view][-1]))

    @property
    def gap_closed(self) -> float | None:
        """How much of the way from the average device alone to the centralised bound the cloud came: 1 is all of it.

        None without references, without a cloud's model, or if there is no gap to close.
        """
        if Tier.CLOUD not in self.tiers:
            return None
        if self.alone is None or self.centralised is None or self.centralised <= self.alone:
            return None
        return (self.final(Tier.CLOUD) - self.alone) / (self.centralised - self.alone)
