"""One training pass and one prediction pass: bridge samples decoded block by block, paired with private samples by id.

Called by a node for a `Train` or `Predict` request. Pure but for the learner it is given; randomness comes in as `rng`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.bridge import Bridge
from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import LearnerError, LocalProtocolError
from fedagg_edge.learners.base import Batch, Learner, MeasuresNorms, StepReport, TellsBridge
from fedagg_edge.views import look

__all__ = [
    "Lesson",
    "TrainReport",
    "batch_rows",
    "bridge_logits",
    "cut_batches",
    "mean_report",
    "measure_norms",
    "pass_batches",
    "train_pass",
]

_BLOCK_BYTES = 32 << 20  # decoded bridge samples held at once
_FEW_ROWS = 4  # a last batch of fewer is not left as it is
_NORM_BATCH = 256  # larger than training's: what normalises the layers below is then near what evaluation has there


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a student trains on, row by row: row i of every array is the same sample.

    `label_N` int64; `code_NB` embeddings, or None for private samples alone; `teacher_NC` float32 logits, or None for
    labels alone; `private_x_N` the private samples (a leaf's), or None; `teacher_weight_N` float32 in [0, 1], how much
    each row's teacher counts (old knowledge counts less), or None for all of it. A label below 0 was held back: that
    row has no cross-entropy. `view_NA` int16: how each row's bridge sample is seen (`views.look`), or None: plainly.
    """

    label_N: NDArray[np.int64]
    code_NB: NDArray[np.uint8] | None
    teacher_NC: NDArray[np.float32] | None
    private_x_N: NDArray[np.float32] | None = None
    teacher_weight_N: NDArray[np.float32] | None = None
    view_NA: NDArray[np.int16] | None = None

    def __post_init__(self) -> None:
        for name in ("code_NB", "teacher_NC", "private_x_N", "teacher_weight_N", "view_NA"):
            array = getattr(self, name)
            if array is not None and len(array) != len(self.label_N):
                raise LocalProtocolError(f"lesson: got {len(array)} rows of {name}, expected {len(self.label_N)}")


@dataclass(frozen=True, slots=True)
class TrainReport:
    """Mean losses of a pass over its rows, and how many rows and steps it took."""

    loss: float
    private_ce: float
    bridge_ce: float
    kl: float
    rows: int
    steps: int


def train_pass(
    learner: Learner, bridge: Bridge, lesson: Lesson, hyperparameters: Hyperparameters, rng: np.random.Generator
) -> TrainReport:
    """Train for `hyperparameters.epochs` passes over the lesson, in a new order each time; then take batch norm's
    figures anew, if `batch_norm_rows` asks for it.

    Errors of the learner (a loss that is not finite) pass through.
    """
    learner.seed(int(rng.integers(2**63)))
    reports: list[tuple[StepReport, int]] = []
    for batch in pass_batches(bridge, lesson, hyperparameters, rng):
        report = learner.step(batch, hyperparameters)
        reports.append((report, batch_rows(batch)))
    measure_norms(learner, bridge, lesson, hyperparameters, rng)
    return mean_report(reports)


def measure_norms(
    learner: Learner, bridge: Bridge | None, lesson: Lesson, hyperparameters: Hyperparameters, rng: np.random.Generator
) -> None:
    """Take batch norm's figures anew on `batch_norm_rows` rows of the lesson, or on all if it has fewer, in batches of
    256: as training does, on a leaf from private and from bridge samples alike.

    Nothing is done for fewer than 2 rows, which have no variance. Raises LearnerError for a learner
    that cannot. `bridge` may be None for a lesson without embeddings.
    """
    if min(hyperparameters.batch_norm_rows, len(lesson.label_N)) < 2:
        return
    if not isinstance(learner, MeasuresNorms):
        raise LearnerError(
            f"batch_norm_rows: got {hyperparameters.batch_norm_rows}, but {type(learner).__name__} has no "
            "measure_norms; leave the option out, or give the learner that method"
        )
    learner.measure_norms(_norm_batches(bridge, lesson, rng.permutation(len(lesson.label_N)), hyperparameters))


def _norm_batches(
    bridge: Bridge | None, lesson: Lesson, order: NDArray[np.int64], hyperparameters: Hyperparameters
) -> Iterator[tuple[NDArray[np.float32], bool]]:
    order = order[: hyperparameters.batch_norm_rows]
    size = min(_NORM_BATCH, len(order))
    for start in range(0, len(order) - size + 1, size):  # whole ones only: each counts alike
        rows = order[start : start + size]
        if lesson.private_x_N is not None:
            yield lesson.private_x_N[rows], False
        if lesson.code_NB is not None and bridge is not None:
            yield _decode(bridge, lesson, rows), True


def pass_batches(
    bridge: Bridge, lesson: Lesson, hyperparameters: Hyperparameters, rng: np.random.Generator
) -> Iterator[Batch]:
    """The batches of a pass in order, as `train_pass` steps through them once it has drawn the learner's seed.

    Raises LocalProtocolError for a lesson without rows.
    """
    if not len(lesson.label_N):
        raise LocalProtocolError("lesson: got no rows to train on")
    for _ in range(hyperparameters.epochs):
        order = rng.permutation(len(lesson.label_N))
        yield from _batches(bridge, lesson, order, hyperparameters.batch_size)


def bridge_logits(
    learner: Learner, bridge: Bridge, code_NB: NDArray[np.uint8], view_NA: NDArray[np.int16] | None = None
) -> NDArray[np.float32]:
    """Logits [N, C] of the learner on the bridge samples of `code_NB` as `view_NA` sees them, in evaluation mode.

    A learner that tells bridge samples from others is asked by its `bridge_logits`.
    """
    rows = block_rows(bridge)
    ask = learner.bridge_logits if isinstance(learner, TellsBridge) else learner.logits
    parts = []
    for i in range(0, len(code_NB), rows):
        x_N = bridge.decode(code_NB[i : i + rows])
        parts.append(ask(x_N if view_NA is None else look(x_N, view_NA[i : i + rows])))
    return np.concatenate(parts)


def block_rows(bridge: Bridge) -> int:
    """How many decoded samples fit into a block."""
    return max(1, _BLOCK_BYTES // (4 * int(np.prod(bridge.sample_shape))))


def _batches(bridge: Bridge, lesson: Lesson, order: NDArray[np.int64], size: int) -> Iterator[Batch]:
    for group in _groups(cut_batches(order, size), block_rows(bridge)):
        bridge_x_N = _decode(bridge, lesson, np.concatenate(group))
        start = 0
        for rows in group:
            yield _batch(lesson, rows, bridge_x_N[start : start + len(rows)])
            start += len(rows)


def cut_batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Row numbers in batches of `size`. A last batch of one row joins the one before it, one of two or three rows
    shares evenly with it: batch norm over a map of one pixel cannot train on one row, and two or three that happen to
    be near each other in a channel have a gradient large enough to ruin the weights (docs/decisions/0003-last-batch.md)
    """
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    if len(batches) > 1 and len(batches[-1]) < min(_FEW_ROWS, size):
        parts = 1 if len(batches[-1]) == 1 else 2
        batches[-2:] = np.array_split(np.concatenate(batches[-2:]), parts)
    return batches


def _groups(batches: list[NDArray[np.int64]], rows: int) -> Iterator[list[NDArray[np.int64]]]:
    """Batches whose samples are decoded together: at most `rows` of them, but at least one batch."""
    group: list[NDArray[np.int64]] = []
    for batch in batches:
        if group and sum(map(len, group)) + len(batch) > rows:
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def _decode(bridge: Bridge, lesson: Lesson, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    if lesson.code_NB is None:
        return np.empty((0, *bridge.sample_shape), np.float32)
    x_N = bridge.decode(lesson.code_NB[rows])
    return x_N if lesson.view_NA is None else look(x_N, lesson.view_NA[rows])


def _batch(lesson: Lesson, rows: NDArray[np.int64], bridge_x_N: NDArray[np.float32]) -> Batch:
    label_N = lesson.label_N[rows]
    private = lesson.private_x_N is not None
    return Batch(
        bridge_x_N=bridge_x_N,
        bridge_y_N=label_N[: len(bridge_x_N)],
        teacher_NC=None if lesson.teacher_NC is None else lesson.teacher_NC[rows],
        private_x_N=None if lesson.private_x_N is None else lesson.private_x_N[rows],
        private_y_N=label_N if private else None,
        teacher_weight_N=None if lesson.teacher_weight_N is None else lesson.teacher_weight_N[rows],
    )


def batch_rows(batch: Batch) -> int:
    """How many samples a batch stands for: a private sample and its bridge sample are one."""
    return max(len(batch.bridge_y_N), 0 if batch.private_y_N is None else len(batch.private_y_N))


def mean_report(reports: list[tuple[StepReport, int]]) -> TrainReport:
    """A pass's report from those of its steps, each weighted by its rows."""
    rows = sum(n for _, n in reports)
    share = [(r, n / rows) for r, n in reports]
    return TrainReport(
        loss=sum(r.loss * s for r, s in share),
        private_ce=sum(r.private_ce * s for r, s in share),
        bridge_ce=sum(r.bridge_ce * s for r, s in share),
        kl=sum(r.kl * s for r, s in share),
        rows=rows,
        steps=len(reports),
    )
