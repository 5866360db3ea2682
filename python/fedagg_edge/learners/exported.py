"""What the learners of exported files share: the state in one flat array, and what is refused. No torch here."""

from __future__ import annotations

import math
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ArtefactError, LearnerError
from fedagg_edge.learners.base import Entry, LearnerState, StepReport
from fedagg_edge.learners.optimizers import make_optimizer

__all__ = ["ExportedFile", "ExportedLearner"]

Array = NDArray[np.float32]


class ExportedFile(Protocol):
    """What a file says of its model; `table` is in the order of the flat `weights`."""

    @property
    def table(self) -> tuple[Entry, ...]: ...
    @property
    def weights(self) -> Array: ...
    @property
    def classes(self) -> int: ...
    @property
    def sample_shape(self) -> tuple[int, ...]: ...


File = TypeVar("File", bound=ExportedFile)


class ExportedLearner(Generic[File]):
    """State, seed and checks of a learner that starts from the weights of a file; `logits` and `step` are the engine's.

    `kind` is what errors call the file. Raises ArtefactError if it is another model's.
    """

    kind = "training file"

    def __init__(
        self, file: File, optimizer: str, *, classes: int | None, sample_shape: tuple[int, ...] | None
    ) -> None:
        if classes not in (None, file.classes):
            raise ArtefactError(f"{self.kind}: got a model of {file.classes} classes, expected {classes}")
        if sample_shape not in (None, file.sample_shape):
            raise ArtefactError(f"{self.kind}: got a model for samples of {file.sample_shape}, expected {sample_shape}")
        self._file = file
        self._weights = file.weights.copy()
        self._trained = sum(e.size for e in file.table if e.trained)
        self._optimizer = make_optimizer(optimizer, self._trained)
        self._seed = 0
        self._drawn: np.random.Generator | None = None
        self.rejected_steps = 0

    def state(self) -> LearnerState:
        """See `Learner.state`."""
        slots = {name: array.copy() for name, array in self._optimizer.slots.items()}
        return LearnerState(self._file.table, self._weights.copy(), slots, self._optimizer.steps)

    def load_state(self, state: LearnerState) -> None:
        """See `Learner.load_state`."""
        if state.table != self._file.table:
            raise LearnerError(_table_difference(state, self._file.table))
        if state.slots and set(state.slots) != set(self._optimizer.slots):
            raise LearnerError(
                f"state: got optimizer slots {sorted(state.slots)}, this learner has {sorted(self._optimizer.slots)}; "
                "use the optimizer that the state was made with"
            )
        self._weights[:] = state.weights
        for name, slot in self._optimizer.slots.items():  # a state without slots starts with empty ones
            slot[:] = state.slots.get(name, 0.0)
        self._optimizer.steps = state.steps

    def seed(self, seed: int) -> None:
        """See `Learner.seed`."""
        self._seed, self._drawn = seed, None

    @property
    def _rng(self) -> np.random.Generator:
        """Made when something is drawn: a device that only waits does without the generators, 2 MB."""
        if self._drawn is None:
            self._drawn = np.random.default_rng(self._seed)
        return self._drawn

    def _check_samples(self, x_N: NDArray[Any]) -> None:
        if x_N.dtype != np.float32 or x_N.shape[1:] != self._file.sample_shape:
            expected = ", ".join(map(str, ("N", *self._file.sample_shape)))
            raise LearnerError(f"samples: got {x_N.dtype} {x_N.shape}, this {self.kind} takes float32 ({expected})")

    def _check_finite(self, report: StepReport, gradient: Array, buffers: Array) -> None:
        """Count and refuse a step whose loss, gradient or new buffers are not all numbers."""
        if math.isfinite(report.loss) and math.isfinite(float(gradient.sum()) + float(buffers.sum())):
            return
        self.rejected_steps += 1
        raise LearnerError(
            f"the loss became {report.loss}, or its gradient infinite or NaN, after {self._optimizer.steps} steps; "
            "the weights are those before this step; lower learning_rate, or check that samples are on the model's "
            "input scale"
        )


def _table_difference(state: LearnerState, table: tuple[Entry, ...]) -> str:
    """Say where two models' tables part."""
    for got, own in zip(state.table, table, strict=False):
        if got != own:
            return f"state: got {got.name!r} {got.shape}, this model has {own.name!r} {own.shape} in its place"
    return f"state: got {len(state.table)} arrays, this model has {len(table)}"
