"""What FedAgg is measured against in every table: the average device alone, and the cloud's model with all data.

Both train on real private samples with cross-entropy alone, with their tier's hyperparameters, and make as many passes
over their data as they would under FedAgg.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.learners.base import LearnerFactory
from fedagg_edge.passes import Lesson, train_pass
from fedagg_edge.records import NodeId
from fedagg_edge.seeds import stream
from fedagg_edge.simulation.build import World, make_learner
from fedagg_edge.simulation.evaluate import hits, on_own_mix
from fedagg_edge.tree import Place

__all__ = ["Alone", "alone", "centralised"]

OnPass = Callable[[], object]


def _nothing() -> None:
    pass


class Alone(NamedTuple):
    """Mean accuracy of devices alone on the `common` test set and on each one's `own` mix of classes (None: the test
    set has no class of theirs)."""

    common: float
    own: float | None


def alone(
    world: World, devices: Sequence[NodeId], factories: Mapping[str, LearnerFactory], on_pass: OnPass = _nothing
) -> Alone:
    """The mean of `devices`, each trained on its own samples alone; `on_pass` is called after each pass."""
    arrays, common, own = world.arrays, [], []
    for device in devices:
        rows = arrays.rows_of[device]
        right_N = _train(world, world.tree.places[device], rows, factories, on_pass)
        common.append(right_N.mean())
        own.append(on_own_mix(right_N, arrays.test_y_N, arrays.train_y_N[rows]))
    known = [share for share in own if share is not None]
    return Alone(float(np.mean(common)), float(np.mean(known)) if known else None)


def centralised(world: World, factories: Mapping[str, LearnerFactory], on_pass: OnPass = _nothing) -> float:
    """Test accuracy of the cloud's model trained on all private samples in one place: the bound."""
    everything = np.concatenate(list(world.arrays.rows_of.values()))
    return float(_train(world, world.tree.root, everything, factories, on_pass).mean())


def _train(
    world: World, place: Place, rows: NDArray[np.int64], factories: Mapping[str, LearnerFactory], on_pass: OnPass
) -> NDArray[np.bool_]:
    """Which test samples the trained model gets right."""
    config, arrays = world.config, world.arrays
    learner = make_learner(config, place, world.bridge.sample_shape, world.classes, factories)
    lesson = Lesson(arrays.train_y_N[rows], None, None, arrays.train_x(rows))
    for number in range(config.rounds):
        rng = stream(config.seed, "reference", place.id, number)
        train_pass(learner, world.bridge, lesson, config.training.of(place.tier).at(number), rng)
        on_pass()
    return hits(learner, arrays.test_x_N, arrays.test_y_N)
