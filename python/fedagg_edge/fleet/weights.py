"""A node's weights on disk: two whole checkpoints, flipped by rename, so that one is always good.

The last checkpoint says which round comes next; nothing else does, so the two can never disagree. Who only predicts
(the application beside a device) reads the same files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedagg_edge import checkpoint
from fedagg_edge.errors import CheckpointError
from fedagg_edge.learners.base import LearnerState
from fedagg_edge.learners.saved import from_arrays, to_arrays

__all__ = ["Saved", "load_newest", "newest_version", "save"]

_NAME = "learner"


@dataclass(frozen=True, slots=True)
class Saved:
    """A learner after its round, per link the newest neighbour's version that it was trained on, and the `row` that
    metrics.jsonl gets for that round: a process that was killed between the two writes it later.

    `version` numbers checkpoints and grows with each; it is the round's, but after passes without a parent, or a move
    to a `parent` whose rounds are behind, `turn` is.
    """

    version: int
    state: LearnerState
    trained: Mapping[str, int] = field(default_factory=dict)
    turn: int | None = None
    parent: str | None = None
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """The version of the turn that it was saved after."""
        return self.version if self.turn is None else self.turn


def save(folder: Path, saved: Saved) -> None:
    """Write a checkpoint; the one before it stays. Its version must be a new one: over another of its number, a kill
    between the two files leaves neither."""
    arrays, facts = to_arrays(saved.state, _NAME)
    meta: dict[str, Any] = {"learner": facts, "trained": dict(saved.trained), "row": dict(saved.row)}
    meta |= {"turn": saved.turn, "parent": saved.parent}
    checkpoint.save(folder, checkpoint.Checkpoint(saved.version, arrays, meta))


def newest_version(folder: Path) -> int | None:
    """The version of the newest checkpoint, without reading it."""
    versions = checkpoint.list_rounds(folder)
    return versions[-1] if versions else None


def load_newest(folder: Path) -> tuple[Saved | None, list[str]]:
    """The newest checkpoint that is whole, None if there is none, and what was wrong with newer ones.

    A node that runs unattended goes on from the one before a damaged one: the round in between is run again.
    """
    problems: list[str] = []
    for version in reversed(checkpoint.list_rounds(folder)):
        try:
            found = checkpoint.load(folder, version)
            state = from_arrays(found.tensors, found.meta["learner"], _NAME)
            meta = found.meta
            trained, row = dict(meta["trained"]), dict(meta.get("row", {}))
            return Saved(version, state, trained, meta.get("turn"), meta.get("parent"), row), problems
        except (CheckpointError, KeyError, TypeError, ValueError) as e:
            problems.append(str(e))
    return None, problems
