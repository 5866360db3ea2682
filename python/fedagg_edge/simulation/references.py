"""What FedAgg is measured against in every table: the average device alone, and the cloud's model with all data.

Both train on real private samples with cross-entropy alone, with their tier's hyperparameters, and make as many passes
over their data as they would under FedAgg.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.learners.base import LearnerFactory
from fedagg_edge.passes import Lesson, train_pass
from fedagg_edge.records import NodeId
from fedagg_edge.seeds import stream
from fedagg_edge.simulation.build import World, make_learner
from fedagg_edge.simulation.evaluate import accuracy
from fedagg_edge.tree import Place

__all__ = ["alone", "centralised"]

OnPass = Callable[[], object]


def _nothing() -> None:
    pass


def alone(
    world: World, devices: Sequence[NodeId], factories: Mapping[str, LearnerFactory], on_pass: OnPass = _nothing
) -> float:
    """Mean test accuracy of `devices`, each trained on its own samples alone; `on_pass` is called after each pass."""
    rows = [world.arrays.rows_of[d] for d in devices]
    scores = [_train(world, world.tree.places[d], r, factories, on_pass) for d, r in zip(devices, rows, strict=True)]
    return float(np.mean(scores))


def centralised(world: World, factories: Mapping[str, LearnerFactory], on_pass: OnPass = _nothing) -> float:
    """Test accuracy of the cloud's model trained on all private samples in one place: the bound."""
    everything = np.concatenate(list(world.arrays.rows_of.values()))
    return _train(world, world.tree.root, everything, factories, on_pass)


def _train(
    world: World, place: Place, rows: NDArray[np.int64], factories: Mapping[str, LearnerFactory], on_pass: OnPass
) -> float:
    config, arrays = world.config, world.arrays
    learner = make_learner(config, place, world.bridge.sample_shape, world.classes, factories)
    lesson = Lesson(arrays.train_y_N[rows], None, None, arrays.train_x(rows))
    for number in range(config.rounds):
        rng = stream(config.seed, "reference", place.id, number)
        train_pass(learner, world.bridge, lesson, config.training.of(place.tier).at(number), rng)
        on_pass()
    return accuracy(learner, arrays.test_x_N, arrays.test_y_N)
