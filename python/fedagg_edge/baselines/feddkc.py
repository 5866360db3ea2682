"""FedDKC: FedGKT whose devices' knowledge is made congruent before the cloud distils it.

Wu et al., "Exploring the Distributed Knowledge Congruence in Proxy-data-free Federated Distillation", ACM TIST 2024,
arXiv 2204.07028, with kernel-based refinement (KKR, `baselines.kkr`): every sample's peak probability becomes `peak`.
The FedAgg paper runs it with beta 1.5 and a peak of 0.12 for 10 classes; the default is that share above chance, 1.2
/ C.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from fedagg_edge.baselines.fedgkt import FedGkt
from fedagg_edge.baselines.kkr import refine
from fedagg_edge.config import Hyperparameters
from fedagg_edge.records import Tier
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.method import Factories

__all__ = ["FedDkc"]


class FedDkc(FedGkt):
    """FedGKT with refined teachers for the cloud; refined knowledge is a distribution as it stands, so the cloud's
    temperature is 1. Devices distil from the cloud as in FedGKT.
    """

    name: ClassVar[str] = "feddkc"
    title: ClassVar[str] = "FedDKC"

    def __init__(
        self,
        world: World,
        factories: Factories,
        *,
        beta: float = 1.5,
        temperature: float = 1.0,
        cut: int | None = None,
        peak: float | None = None,
    ) -> None:
        super().__init__(world, factories, beta=beta, temperature=temperature, cut=cut)
        self.peak = 1.2 / world.classes if peak is None else peak
        refine(np.zeros((1, world.classes), np.float32), self.peak)  # a peak that cannot be is refused here

    def hyperparameters(self, tier: Tier) -> Hyperparameters:
        """See `FedGkt.hyperparameters`."""
        own = super().hyperparameters(tier)
        return msgspec.structs.replace(own, temperature=1.0) if tier is Tier.CLOUD else own

    def teacher(self, logits_NC: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `FedGkt.teacher`."""
        return refine(logits_NC, self.peak)
