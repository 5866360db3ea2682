"""A learner's state as named arrays and a few facts, the form in which checkpoints keep it, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import CheckpointError
from fedagg_edge.learners.base import Entry, LearnerState

__all__ = ["from_arrays", "to_arrays"]


def to_arrays(state: LearnerState, name: str) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Arrays ``<name>/weights`` and ``<name>/slot/<slot>``, and the facts beside them, which fit JSON."""
    arrays = {f"{name}/weights": state.weights}
    arrays |= {f"{name}/slot/{slot}": values for slot, values in state.slots.items()}
    table = [[e.name, list(e.shape), e.trained] for e in state.table]
    return arrays, {"steps": state.steps, "slots": sorted(state.slots), "table": table}


def from_arrays(arrays: Mapping[str, Any], facts: Mapping[str, Any], name: str) -> LearnerState:
    """The inverse of `to_arrays`; raise CheckpointError if something is not there, LearnerError if it does not fit."""
    try:
        table = tuple(Entry(n, tuple(shape), trained) for n, shape, trained in facts["table"])
        slots = {slot: arrays[f"{name}/slot/{slot}"] for slot in facts["slots"]}
        return LearnerState(table, arrays[f"{name}/weights"], slots, facts["steps"])
    except (KeyError, TypeError, ValueError) as e:
        raise CheckpointError(f"the checkpoint does not hold the state of {name!r}: {type(e).__name__} {e}") from None
