"""What baselines do on one node: make its learner, train it on real samples with labels, or with a teacher's logits
too.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.base import Batch, Learner, LearnerState
from fedagg_edge.passes import Lesson, cut_batches, measure_norms, train_pass
from fedagg_edge.records import Link, NodeId, Tier
from fedagg_edge.seeds import stream
from fedagg_edge.simulation.build import World, make_learner
from fedagg_edge.simulation.method import Factories
from fedagg_edge.tree import Place, Tree

__all__ = ["load_weights", "own_learner", "route", "shared_learner", "shared_model", "taught_pass", "train_private"]


def own_learner(world: World, factories: Factories, place: Place) -> Learner:
    """The learner that the tree gives this place, with the weights that FedAgg would start it from."""
    return make_learner(world.config, place, world.bridge.sample_shape, world.classes, factories)


def shared_model(world: World, method: str, wanted: str | None) -> str:
    """The one model of a method that averages weights: `wanted`, or the one that all devices have.

    Raises ConfigError if devices have several and none is wanted.
    """
    models = sorted({world.tree.places[d].model for d in world.tree.tier(Tier.DEVICE)})
    if wanted is None and len(models) > 1:
        raise ConfigError(
            f"methods.{method}.model: this method averages weights, so all nodes need one model, but the devices have "
            f"{', '.join(models)}; name one of them here, or give all devices the same"
        )
    return models[0] if wanted is None else wanted


def shared_learner(world: World, factories: Factories, place: Place, model: str) -> Learner:
    """A learner of the shared device model for a place of any tier, trained with the devices' hyperparameters."""
    return own_learner(world, factories, dataclasses.replace(place, tier=Tier.DEVICE, model=model))


def load_weights(learner: Learner, weights_P: NDArray[np.float32]) -> None:
    """Set a learner's weights; its optimizer starts anew, as that of a client which received a model."""
    learner.load_state(LearnerState(learner.state().table, weights_P))


def train_private(
    world: World, learner: Learner, place: Place, rows: NDArray[np.int64], *path: str | int, number: int = 0
) -> float:
    """One pass of cross-entropy over the training rows `rows`, in an order drawn from `path`; the mean loss.

    `number`: the round, for the learning rate's schedule.
    """
    lesson = Lesson(world.arrays.train_y_N[rows], None, None, world.arrays.train_x(rows))
    rng = stream(world.config.seed, *path)
    return train_pass(learner, world.bridge, lesson, world.config.training.of(place.tier).at(number), rng).loss


def taught_pass(
    learner: Learner,
    x_N: NDArray[np.float32],
    y_N: NDArray[np.int64],
    teacher_NC: NDArray[np.float32] | None,
    *,
    hyperparameters: Hyperparameters,
    rng: np.random.Generator,
) -> float:
    """Passes over samples of any shape on CE + beta * KL against `teacher_NC` (None: CE alone); the mean loss.

    The loss is the bridge loss's (eq. 2's form), here on samples that are no bridge samples. Batches are cut as in
    `train_pass`.
    """
    learner.seed(int(rng.integers(2**63)))
    losses: list[tuple[float, int]] = []
    for _ in range(hyperparameters.epochs):
        for rows in cut_batches(rng.permutation(len(y_N)), hyperparameters.batch_size):
            teacher = None if teacher_NC is None else teacher_NC[rows]
            report = learner.step(Batch(x_N[rows], y_N[rows], teacher), hyperparameters)
            losses.append((report.loss, len(rows)))
    measure_norms(learner, None, Lesson(y_N, None, None, x_N), hyperparameters, rng)
    return sum(loss * count for loss, count in losses) / sum(count for _, count in losses)


def route(tree: Tree, node: NodeId) -> tuple[Link, ...]:
    """The links from a node up to the cloud: what a message of a two-tier method goes over."""
    links = []
    link = tree.places[node].link
    while link is not None:
        links.append(link)
        link = tree.places[link.parent].link
    return tuple(links)
