"""The state of a running simulation as a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fedagg_edge.errors import CheckpointError
from fedagg_edge.learners.base import Learner, Looks
from fedagg_edge.learners.saved import from_arrays, to_arrays
from fedagg_edge.records import Link, NodeId
from fedagg_edge.simulation.driver import Traffic

__all__ = ["restore_learners", "restore_traffic", "snapshot_learners", "snapshot_traffic"]


def snapshot_learners(learners: Mapping[NodeId, Learner]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """All learners' states: arrays ``<node>/weights`` and ``<node>/slot/<name>``, and their name tables.

    For a checkpoint that is written before anybody trains on: where a learner can be looked at the arrays are its own.
    With copies of all at once a simulation's memory was at its highest here.
    """
    tensors: dict[str, NDArray[Any]] = {}
    meta: dict[str, Any] = {}
    for name, learner in learners.items():
        arrays, meta[name] = to_arrays(learner.look() if isinstance(learner, Looks) else learner.state(), name)
        tensors |= arrays
    return tensors, meta


def restore_learners(learners: Mapping[NodeId, Learner], tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Load every learner's state; raise CheckpointError if the checkpoint is another tree's, LearnerError if another
    model's."""
    if set(meta) != set(learners):
        raise CheckpointError(f"the checkpoint holds {len(meta)} nodes that are not this tree's {len(learners)}")
    for name, learner in learners.items():
        learner.load_state(from_arrays(tensors, meta[name], name))


def snapshot_traffic(traffic: Traffic) -> list[list[Any]]:
    """Rows of child, parent, bytes up, bytes down."""
    links = sorted({*traffic.up, *traffic.down})
    return [[link.child, link.parent, traffic.up.get(link, 0), traffic.down.get(link, 0)] for link in links]


def restore_traffic(rows: list[list[Any]]) -> Traffic:
    """The inverse of `snapshot_traffic`."""
    traffic = Traffic()
    for child, parent, up, down in rows:
        link = Link(child, parent)
        traffic.add(link, child, up)
        traffic.add(link, parent, down)
    return traffic
