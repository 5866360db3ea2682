"""The two ends between which every method lies, as methods of their own: devices alone, and all data in one place.

Both train with cross-entropy on real samples, one pass a round, as the references at a run's end do: their accuracy
after the last round is that of `simulation.references`, to the bit.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedagg_edge.baselines.local import own_learner, train_private
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.method import Factories, OnTrain, Trained

__all__ = ["Alone", "Centralised"]


class Alone(Trained):
    """Each device trains its own model on its own samples; nothing is ever sent."""

    name: ClassVar[str] = "alone"
    title: ClassVar[str] = "devices alone"

    def __init__(self, world: World, factories: Factories) -> None:
        super().__init__(world, factories)
        self.learners = {d: own_learner(world, factories, world.tree.places[d]) for d in self.devices}

    def passes(self) -> int:
        """See `Method.passes`."""
        return len(self.learners)

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """One pass on every device."""
        for device, learner in self.learners.items():
            place, rows = self.world.tree.places[device], self.world.arrays.rows_of[device]
            on_train(
                device, train_private(self.world, learner, place, rows, "reference", device, number, number=number)
            )


class Centralised(Trained):
    """The cloud's model trains on all private samples in one place: a bound, not a protocol, so no bytes are
    counted.
    """

    name: ClassVar[str] = "centralised"
    title: ClassVar[str] = "centralised"

    def __init__(self, world: World, factories: Factories) -> None:
        super().__init__(world, factories)
        root = world.tree.root
        self.learners = {root.id: own_learner(world, factories, root)}
        self._rows = np.concatenate(list(world.arrays.rows_of.values()))

    def passes(self) -> int:
        """See `Method.passes`."""
        return 1

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """One pass over everything."""
        root = self.world.tree.root
        loss = train_private(
            self.world, self.learners[root.id], root, self._rows, "reference", root.id, number, number=number
        )
        on_train(root.id, loss)
