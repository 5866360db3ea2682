"""DemLearn: devices organise themselves into a hierarchy of groups by how alike their models are.

Nguyen et al., "Self-organizing Democratized Learning: Towards Large-scale Distributed Learning Systems", IEEE TNNLS
2022, arXiv 2007.03278. A round: every device trains on its own samples with a proximal term towards its group's
model; device models are clustered (average linkage); each group's model is the mean of its members', level by level
up to the root; then each level is mixed into the next one down. All nodes have the devices' model. The clusters take
the place of edges, so edges have no model and only pass messages on.

From the authors' published code where the paper leaves it open: distances are between trained parameters, not batch
norms' running figures; the proximal term draws to the group that a device hangs below, `alpha` is 0.7 on CIFAR-10 and
mu 0.002, groups are re-formed every round. Their amplification of the first rounds' models by 1.15, which they do not
use on CIFAR-10 after round 2, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fedagg_edge.baselines.hierarchy import cluster, generalise, group_tree, specialise
from fedagg_edge.baselines.local import load_weights, route, shared_learner, shared_model, train_private
from fedagg_edge.baselines.proximal import ProximalLearner
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import NodeId
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.method import Factories, OnTrain, Tensors, Trained

__all__ = ["DemLearn"]


class DemLearn(Trained):
    """`levels` of groups below the root, `alpha` the share of the level above in the downward mix, `mu` the proximal
    term's weight (0 leaves it out), `period` rounds between two clusterings.
    """

    name: ClassVar[str] = "demlearn"
    title: ClassVar[str] = "DemLearn"

    def __init__(
        self,
        world: World,
        factories: Factories,
        *,
        model: str | None = None,
        levels: int = 3,
        alpha: float = 0.7,
        mu: float = 0.002,
        period: int = 1,
    ) -> None:
        super().__init__(world, factories)
        if levels < 1 or period < 1 or not 0 <= alpha <= 1 or not mu >= 0:
            raise ConfigError(
                f"methods.{self.name}: got levels {levels}, period {period}, alpha {alpha}, mu {mu}, "
                "expected 1 or more, 1 or more, 0 to 1, 0 or more"
            )
        self.levels, self.alpha, self.mu, self.period = levels, alpha, mu, period
        model = shared_model(world, self.name, model)
        root, places = world.tree.root, world.tree.places
        self.learners = {n: shared_learner(world, factories, places[n], model) for n in (root.id, *self.devices)}
        start_P = self.learners[root.id].state().weights
        if mu:
            ProximalLearner(self.learners[root.id], start_P, mu)  # refuses an optimizer here, not after a round
        for device in self.devices:
            load_weights(self.learners[device], start_P)
        # of each device its group's model; before round 0 the model that all start from, where the term vanishes
        self._parents_KP = np.tile(start_P, (len(self.devices), 1))
        self._merges = np.empty((0, 2), np.int64)
        table = self.learners[root.id].state().table
        self._trained_P = np.repeat([e.trained for e in table], [e.size for e in table])

    def passes(self) -> int:
        """See `Method.passes`."""
        return len(self.devices)

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """Train, cluster, average upwards, mix downwards."""
        for k, device in enumerate(self.devices):
            place, rows = self.world.tree.places[device], self.world.arrays.rows_of[device]
            learner = self.learners[device]
            drawn = ProximalLearner(learner, self._parents_KP[k], self.mu) if self.mu and number else learner
            on_train(device, train_private(self.world, drawn, place, rows, "local", device, number, number=number))
        models_KP = np.stack([self.learners[d].state().weights for d in self.devices])
        if number % self.period == 0:
            # batch norm's counters would outweigh all that was learnt: they put devices of like size together
            self._merges = cluster(models_KP[:, self._trained_P])
        root = generalise(group_tree(self._merges, self.levels), list(models_KP))
        mixed, parents = specialise(root, list(models_KP), self.alpha)
        self._parents_KP = np.stack(parents)
        for device, weights_P in zip(self.devices, mixed, strict=True):
            load_weights(self.learners[device], weights_P)
            self._count(device, weights_P.nbytes, traffic)
        load_weights(self.learners[self.world.tree.root.id], root.weights_P)

    def _count(self, device: NodeId, nbytes: int, traffic: Traffic) -> None:
        """A device's model goes up to the cloud, its group's model comes down: the device mixes it in itself."""
        for link in route(self.world.tree, device):
            traffic.add(link, link.child, nbytes)
            traffic.add(link, link.parent, nbytes)

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        """See `Method.snapshot`: the groups and their models go with the learners."""
        tensors, meta = super().snapshot()
        return {**tensors, "method/parents": self._parents_KP, "method/merges": self._merges}, meta

    def restore(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """See `Method.restore`."""
        super().restore(tensors, meta)
        self._parents_KP, self._merges = tensors["method/parents"], tensors["method/merges"]
