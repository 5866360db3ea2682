"""What a way of training a tree must offer, so that one experiment runs them all with the same progress, metrics,
checkpoints, tables and pictures. FedAgg is one of them (`simulation.fedagg`), the others are `fedagg_edge.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.learners.base import Learner, LearnerFactory
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation import state
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.evaluate import Logits, evaluate

__all__ = ["Factories", "Method", "OnTrain", "Tensors", "Trained"]

OnTrain = Callable[[NodeId, float], None]
"""Hears of each training pass: the node that made it and its mean loss."""

Factories = Mapping[str, LearnerFactory]
Tensors = dict[str, NDArray[Any]]


class Method(Protocol):
    """One way of training a world. Rounds are numbered from 0 as in the paper."""

    name: ClassVar[str]
    """What a configuration and ``--method`` call it."""
    title: ClassVar[str]
    """What a table calls it."""
    needs_nodes: ClassVar[bool]
    """Whether it trains `World.nodes`; else they are not built."""

    @property
    def trained(self) -> frozenset[NodeId]:
        """The nodes that have a model of their own under this method: those that can be evaluated."""
        ...

    def passes(self) -> int:
        """Training passes of one round, for the progress bar."""
        ...

    def init(self, traffic: Traffic) -> None:
        """Do what comes before round 0; a resumed run does it again, so it must be deterministic."""
        ...

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """Train one round, counting what goes over each link into `traffic`."""
        ...

    def hits(
        self, which: Sequence[NodeId], x_N: NDArray[np.float32], y_N: NDArray[np.int64]
    ) -> dict[NodeId, NDArray[np.bool_]]:
        """Which samples of the common test set each node in `which`, all of them `trained`, gets right, bool [N]."""
        ...

    def cloud_logits(self) -> Logits | None:
        """The cloud's model as it is now, for test samples; None if the method trains none."""
        ...

    def product(self) -> dict[str, NDArray[np.float32]] | None:
        """The cloud's model as named arrays; None if the method trains none."""
        ...

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        """Everything that the next round depends on: arrays, and facts that fit JSON."""
        ...

    def restore(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Go on from a snapshot; raise CheckpointError or LearnerError if it is another tree's."""
        ...


class Trained:
    """What most methods share: a learner per trained node, which is all their state."""

    name: ClassVar[str]
    title: ClassVar[str]
    needs_nodes: ClassVar[bool] = False

    def __init__(self, world: World, factories: Factories) -> None:
        self.world = world
        self.factories = factories
        self.learners: dict[NodeId, Learner] = {}

    @property
    def trained(self) -> frozenset[NodeId]:
        """See `Method.trained`."""
        return frozenset(self.learners)

    @property
    def devices(self) -> tuple[NodeId, ...]:
        """All devices, in tree order."""
        return self.world.tree.tier(Tier.DEVICE)

    def init(self, traffic: Traffic) -> None:
        """See `Method.init`; most methods have nothing to do."""

    def hits(
        self, which: Sequence[NodeId], x_N: NDArray[np.float32], y_N: NDArray[np.int64]
    ) -> dict[NodeId, NDArray[np.bool_]]:
        """See `Method.hits`."""
        return evaluate(self.learners, which, x_N, y_N, self.world.config.workers)

    def cloud_logits(self) -> Logits | None:
        """See `Method.cloud_logits`."""
        cloud = self.learners.get(self.world.tree.root.id)
        return None if cloud is None else cloud.logits

    def product(self) -> dict[str, NDArray[np.float32]] | None:
        """See `Method.product`."""
        cloud = self.learners.get(self.world.tree.root.id)
        return None if cloud is None else cloud.state().arrays()

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        """See `Method.snapshot`."""
        return state.snapshot_learners(self.learners)

    def restore(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """See `Method.restore`."""
        state.restore_learners(self.learners, tensors, meta)
