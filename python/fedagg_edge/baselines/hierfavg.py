"""HierFAVG: federated averaging at every inner node of the tree, and FedAvg-per-edge, which stops at the edges.

Liu et al., "Client-Edge-Cloud Hierarchical Federated Learning", ICC 2020, arXiv 1905.06641, Algorithm 1: devices make
kappa_1 local updates, edges average their devices, and after kappa_2 such rounds the cloud averages the edges, always
weighted by numbers of samples; then everybody goes on from the cloud's model. All nodes have the devices' model.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.baselines.average import average
from fedagg_edge.baselines.local import load_weights, shared_learner, shared_model, train_private
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.method import Factories, OnTrain, Trained
from fedagg_edge.tree import Place

__all__ = ["FedAvgPerEdge", "HierFavg"]

Weights = NDArray[np.float32]


class HierFavg(Trained):
    """HierFAVG. `local_passes` is kappa_1, counted in passes over a device's samples (a device here makes one pass a
    round under every method), `edge_rounds` kappa_2, at every inner node between the devices and the cloud.
    """

    name: ClassVar[str] = "hierfavg"
    title: ClassVar[str] = "HierFAVG"

    def __init__(
        self,
        world: World,
        factories: Factories,
        *,
        model: str | None = None,
        local_passes: int = 1,
        edge_rounds: int = 1,
    ) -> None:
        super().__init__(world, factories)
        if local_passes < 1 or edge_rounds < 1:
            raise ConfigError(
                f"methods.{self.name}: got local_passes {local_passes}, edge_rounds {edge_rounds}, expected 1 or more"
            )
        self.local_passes, self.edge_rounds = local_passes, edge_rounds
        self.model = shared_model(world, self.name, model)
        places = world.tree.places
        self.learners = {n: shared_learner(world, factories, places[n], self.model) for n in places}

    def passes(self) -> int:
        """See `Method.passes`."""
        return sum(self.local_passes * self._repeats(d) for d in self.devices)

    def _repeats(self, device: NodeId) -> int:
        """How often a device trains in one round: once for every round of the inner nodes above it."""
        places, count, parent = self.world.tree.places, 1, self.world.tree.places[device].parent
        while parent is not None and places[parent].parent is not None:
            count *= self.edge_rounds
            parent = places[parent].parent
        return count

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """One aggregation at the cloud."""
        root = self.world.tree.root
        self._gather(root, self.learners[root.id].state().weights, (number,), traffic, on_train)

    def _gather(
        self, place: Place, weights_P: Weights, path: tuple[int, ...], traffic: Traffic, on_train: OnTrain
    ) -> tuple[Weights, int]:
        """Hand `weights_P` down to a node's subtree, train and average; the node's new weights, and its samples."""
        if place.tier is Tier.DEVICE:
            return self._train(place, weights_P, path, on_train)
        count = 0
        for repeat in range(1 if place.parent is None else self.edge_rounds):
            parts = []
            for child in place.children:
                traffic.add(place.link_to(child), place.id, weights_P.nbytes)
                parts.append(self._gather(self.world.tree.places[child], weights_P, (*path, repeat), traffic, on_train))
                traffic.add(place.link_to(child), child, weights_P.nbytes)
            counts = [n for _, n in parts]
            weights_P, count = average([w for w, _ in parts], counts), sum(counts)
        load_weights(self.learners[place.id], weights_P)
        return weights_P, count

    def _train(self, place: Place, weights_P: Weights, path: tuple[int, ...], on_train: OnTrain) -> tuple[Weights, int]:
        learner, rows = self.learners[place.id], self.world.arrays.rows_of[place.id]
        load_weights(learner, weights_P)
        for turn in range(self.local_passes):
            loss = train_private(self.world, learner, place, rows, "local", place.id, *path, turn, number=path[0])
            on_train(place.id, loss)
        return learner.state().weights, len(rows)


class FedAvgPerEdge(HierFavg):
    """FedAvg (McMahan et al., arXiv 1602.05629) at each edge over its own devices; edges never meet, the cloud has
    nothing. All edges start from the same weights. Trees whose devices all hang below edges.
    """

    name: ClassVar[str] = "fedavg-per-edge"
    title: ClassVar[str] = "FedAvg per edge"

    def __init__(self, world: World, factories: Factories, *, model: str | None = None, local_passes: int = 1) -> None:
        super().__init__(world, factories, model=model, local_passes=local_passes)
        places = world.tree.places
        for device in self.devices:
            parent = places[device].parent
            if parent is None or places[parent].parent is None:
                raise ConfigError(
                    f"methods.{self.name}: {device} hangs below the cloud, expected every device below an edge; "
                    "use hierfavg for this tree"
                )
        start_P = self.learners[world.tree.root.id].state().weights
        edges = [p for p in places.values() if p.parent is not None and any(c in self.devices for c in p.children)]
        self._edges = tuple(p.id for p in edges)
        self.learners = {n: self.learners[n] for n in (*self._edges, *self.devices)}
        for edge in self._edges:
            load_weights(self.learners[edge], start_P)

    def passes(self) -> int:
        """See `Method.passes`."""
        return self.local_passes * len(self.devices)

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """One aggregation at every edge."""
        for edge in self._edges:
            place = self.world.tree.places[edge]
            weights_P, parts = self.learners[edge].state().weights, []
            for child in (c for c in place.children if c in self.devices):
                traffic.add(place.link_to(child), edge, weights_P.nbytes)
                parts.append(self._train(self.world.tree.places[child], weights_P, (number,), on_train))
                traffic.add(place.link_to(child), child, weights_P.nbytes)
            load_weights(self.learners[edge], average([w for w, _ in parts], [n for _, n in parts]))
