"""What a thing that trains must offer, whatever engine is behind it. No torch here.

A user's own learner is any object with the four methods of `Learner`; `make_learner` in a configuration names the
function that builds it (``engine = "module:function"``). Shape letters: N samples of a batch, C classes, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.errors import ConfigError, LearnerError

__all__ = [
    "Batch",
    "DrawsShared",
    "Entry",
    "Learner",
    "LearnerFactory",
    "LearnerSpec",
    "LearnerState",
    "Looks",
    "MeasuresNorms",
    "StepReport",
    "TellsBridge",
]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees, all arrays on the model's input scale.

    `bridge_x_N` float32 [N, *sample_shape] with labels and teacher logits (float32 [N, C], or None: labels only), and
    on a leaf the private samples with the same ids, row by row. One of the two halves may be missing (length 0).
    `teacher_weight_N` float32 in [0, 1] scales each row's distillation term (None: all 1). A bridge label below 0 was
    held back by a node below: that row has no cross-entropy. Nothing is looked at when one is made: `check` is for an
    engine that was stopped by what it got.
    """

    bridge_x_N: NDArray[np.float32]
    bridge_y_N: NDArray[np.int64]
    teacher_NC: NDArray[np.float32] | None
    private_x_N: NDArray[np.float32] | None = None
    private_y_N: NDArray[np.int64] | None = None
    teacher_weight_N: NDArray[np.float32] | None = None

    def check(self, classes: int) -> None:
        """Raise LearnerError unless arrays fit each other and a model of so many classes; samples are not looked at."""
        bridge, private = len(self.bridge_x_N), 0 if self.private_x_N is None else len(self.private_x_N)
        _check_labels("bridge_y_N", self.bridge_y_N, bridge, classes, least=-1)
        if self.private_x_N is not None:
            _check_labels("private_y_N", self.private_y_N, private, classes, least=0)
        for name, array, shape in (
            ("teacher_NC", self.teacher_NC, (bridge, classes)),
            ("teacher_weight_N", self.teacher_weight_N, (bridge,)),
        ):
            if array is not None and (array.dtype != np.float32 or array.shape != shape):
                raise LearnerError(f"batch: {name}: got {array.dtype} {array.shape}, expected float32 {shape}")


def _check_labels(name: str, y_N: NDArray[np.int64] | None, rows: int, classes: int, *, least: int) -> None:
    if y_N is None or y_N.dtype.kind not in "iu" or y_N.shape != (rows,):
        got = "nothing" if y_N is None else f"{y_N.dtype} {y_N.shape}"
        raise LearnerError(f"batch: {name}: got {got}, expected int64 ({rows},): a label for each sample")
    wrong_N = np.flatnonzero((y_N < least) | (y_N >= classes))
    if len(wrong_N):
        row = int(wrong_N[0])
        raise LearnerError(
            f"batch: {name}: got label {y_N[row]} in row {row}, this model has classes 0 to {classes - 1}"
        )


@dataclass(frozen=True, slots=True)
class StepReport:
    """Losses of one step before its update, as means over its rows; terms that were not there are 0."""

    loss: float
    private_ce: float
    bridge_ce: float
    kl: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One named array inside a flat buffer; `trained` if the optimizer moves it, not a running mean or counter."""

    name: str
    shape: tuple[int, ...]
    trained: bool

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class LearnerState:
    """Everything needed to go on training elsewhere, in the one canonical format.

    `table` names the entries of `weights` (flat float32, torch's names and layout, in order). `slots` are the
    optimizer's, each flat float32 over the trained entries only, in the table's order. `steps` counts updates so far.
    """

    table: tuple[Entry, ...]
    weights: NDArray[np.float32]
    slots: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        total = sum(e.size for e in self.table)
        trained = sum(e.size for e in self.table if e.trained)
        if self.weights.dtype != np.float32 or self.weights.shape != (total,):
            raise LearnerError(
                f"state: got {self.weights.dtype} {self.weights.shape} weights, expected float32 ({total},)"
            )
        for name, slot in self.slots.items():
            if slot.dtype != np.float32 or slot.shape != (trained,):
                raise LearnerError(
                    f"state: got {slot.dtype} {slot.shape} for slot {name!r}, expected float32 ({trained},)"
                )

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The named arrays, as views into `weights`."""
        out, start = {}, 0
        for e in self.table:
            out[e.name] = self.weights[start : start + e.size].reshape(e.shape)
            start += e.size
        return out


class Learner(Protocol):
    """A model that can be trained and asked."""

    def logits(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [N, C] float32 in evaluation mode; must not change any state."""

    def step(self, batch: Batch, hyperparameters: Hyperparameters) -> StepReport:
        """One update on L_nl (eq. 2), or on L_leaf (eq. 4) where the batch has private samples.

        A loss that is not finite raises LearnerError and leaves the weights as they were.
        """

    def state(self) -> LearnerState:
        """A copy of weights and optimizer slots."""

    def load_state(self, state: LearnerState) -> None:
        """Go on from `state`; raise LearnerError if it is another model's."""

    def seed(self, seed: int) -> None:
        """Set the random state of whatever is random in a training pass (dropout)."""


@runtime_checkable
class Looks(Protocol):
    """What a learner may offer beside `Learner`: its state to write down at once, without a copy."""

    def look(self) -> LearnerState:
        """As `Learner.state`, but the arrays are the learner's own, and change with its next step."""


@runtime_checkable
class TellsBridge(Protocol):
    """What a learner may offer beside `Learner`, where its model sees bridge samples otherwise than others."""

    def bridge_logits(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [N, C] float32 on bridge samples in evaluation mode; must not change any state."""


@runtime_checkable
class MeasuresNorms(Protocol):
    """What a learner may offer beside `Learner`, where its model has batch norms."""

    def measure_norms(self, batches: Iterable[tuple[NDArray[np.float32], bool]]) -> None:
        """Take batch norm's running figures anew from batches of samples [N, *sample_shape], each with whether they are
        bridge samples; weights and optimizer stay. Raises LearnerError, and keeps the old ones, if one is not finite.
        """


@runtime_checkable
class DrawsShared(Protocol):
    """What a learner may offer beside `Learner`, where its training passes may draw from a stream of the process."""

    @property
    def draws_shared(self) -> bool:
        """Whether they do: then no two such learners may train at the same time."""


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """What one node's learner is built from.

    `sample_shape` is a sample's without the batch; the first weights are drawn from `seed`; files and functions that
    `model` names are looked for in the folder `base_dir`.
    """

    model: ModelConfig
    sample_shape: tuple[int, ...]
    classes: int
    hyperparameters: Hyperparameters
    seed: int
    base_dir: str = "."

    def refuse_what_only_torch_has(self, engine: str, *, loss_inside: bool) -> None:
        """Raise ConfigError for an option that `engine` lacks, which it would leave out without a word.

        `loss_inside`: the engine's files have their loss inside, and it is the classical one.
        """
        hyperparameters = self.hyperparameters
        asked: dict[str, tuple[str | int, str | int]] = {
            f"model {self.model.builder!r}: batch_norm": (self.model.batch_norm, "shared"),
            "precision": (hyperparameters.precision, "float32"),
            "batch_norm_rows": (hyperparameters.batch_norm_rows, 0),
        }
        if loss_inside:
            asked["distillation"] = (hyperparameters.distillation, "classical")
        for option, (got, expected) in asked.items():
            if got != expected:
                raise ConfigError(
                    f"{option}: got {got!r} with engine {engine!r}, expected {expected!r}: "
                    'take engine = "torch" for the other'
                )


class LearnerFactory(Protocol):
    """What ``engine = "module:function"`` names: builds one node's learner."""

    def __call__(self, spec: LearnerSpec, /) -> Learner: ...
