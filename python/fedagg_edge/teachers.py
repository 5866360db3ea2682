"""What a student makes of its teachers' logits before it trains on them: how much each row counts, and what is mended.

Called by a node for a `Train` request, on knowledge that is already checked. No learner, no link.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import kernels
from fedagg_edge.errors import CheckpointError

__all__ = ["Ensemble", "Rectifier", "Trust", "ensemble", "trust_weights"]

Trust = Literal["equal", "confidence", "correct"]
Ensemble = Literal["mean", "entropy"]

_CERTAIN = 1 - 2.0**-24  # a probability of 1 would leave nothing, and a logit of -inf, to the other classes


def trust_weights(
    teacher_NC: NDArray[np.float32], label_N: NDArray[np.int64], rule: Trust
) -> NDArray[np.float32] | None:
    """How much each row's distillation term counts, float32 [N] in [0, 1]; None if all count fully.

    ``confidence``: exp(-entropy(softmax(z))), from 1 / C to 1. ``correct``: 1 where the largest logit is the label's,
    else 0; a label that was held back (below 0) says nothing against its row, which counts fully.
    """
    if rule == "equal":
        return None
    if rule == "confidence":
        confidence_N = kernels.confidence(np.ascontiguousarray(teacher_NC))
        np.minimum(confidence_N, np.float32(1), out=confidence_N)  # rounding may have gone above
        return confidence_N
    counts_N: NDArray[np.bool_] = (teacher_NC.argmax(axis=1) == label_N) | (label_N < 0)
    return counts_N.astype(np.float32)


def ensemble(
    teacher_NC: NDArray[np.float32], others: Sequence[tuple[NDArray[np.bool_], NDArray[np.float32]]], rule: Ensemble
) -> NDArray[np.float32]:
    """The logits float32 [N, C] of several teachers as one, by the C++ aggregation.

    `others`: which of the N rows a further teacher speaks of, bool [N], and its logits on those, in order. ``mean``:
    the log of the mean of the teachers' softmax. ``entropy``: the mean of their logits, each weighted by its row's
    exp(-entropy(softmax(z))). Rows of one teacher alone keep its bits.
    """
    shared_N = np.zeros(len(teacher_NC), np.bool_)
    for has_N, _ in others:
        shared_N |= has_N
    rows = np.flatnonzero(shared_N)
    if not len(rows):
        return teacher_NC
    teachers, mask_KN = [teacher_NC[rows]], np.ones((1 + len(others), len(rows)), np.bool_)
    for k, (has_N, logits_MC) in enumerate(others, 1):
        spoken_N = has_N[rows]
        filled_NC = np.zeros_like(teachers[0])
        filled_NC[spoken_N] = logits_MC
        teachers.append(filled_NC)
        mask_KN[k] = spoken_N
    method: kernels.AggregationMethod = "mean_probabilities" if rule == "mean" else "entropy_weighted"
    out_NC = teacher_NC.copy()
    out_NC[rows] = kernels.aggregate_logits(teachers, method=method, mask_KN=mask_KN)
    return out_NC


class Rectifier:
    """Self-knowledge rectification (SKR) of FedEEC (arXiv 2501.00693): one node's memory of teachers that were right.

    Per class it keeps the true-class probabilities softmax(z)_y of the last `length` correct predictions. A wrong
    prediction whose class has any gets their mean as its true-class probability, and its other probabilities are scaled
    so that all sum to 1. Probabilities are those at temperature 1; the result is handed on as logits, so that the
    loss softens it like any other teacher's.
    """

    def __init__(self, classes: int, length: int) -> None:
        self._values_CL = np.zeros((classes, length), np.float32)
        self._count_C = np.zeros(classes, np.int64)

    def rectify(self, teacher_NC: NDArray[np.float32], label_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits float32 [N, C] to train on; rows that stay as they are keep their bits.

        First all correct rows enter their queues, in order, then all wrong rows are mended, so that within one
        knowledge the order of rows does not decide which of them are. Rows whose label was held back (below 0), and
        wrong rows of a class whose queue is empty, stay as they are.
        """
        z_NC = teacher_NC.astype(np.float64)
        z_NC -= z_NC.max(axis=1, keepdims=True)
        log_p_NC = z_NC - np.log(np.exp(z_NC).sum(axis=1, keepdims=True))
        right_N = teacher_NC.argmax(axis=1) == label_N
        true_N = np.exp(log_p_NC[np.arange(len(label_N)), np.maximum(label_N, 0)])
        for c in np.unique(label_N[right_N]):
            self._remember(int(c), true_N[right_N & (label_N == c)])
        wrong_N = ~right_N & (label_N >= 0)
        wrong_N[wrong_N] = self._count_C[label_N[wrong_N]] > 0
        rows = np.flatnonzero(wrong_N)
        if not len(rows):
            return teacher_NC
        y_N = label_N[rows]
        mean_N = self._means()[y_N]
        mended_NC = log_p_NC[rows] + (np.log1p(-mean_N) - np.log1p(-true_N[rows]))[:, None]
        mended_NC[np.arange(len(rows)), y_N] = np.log(mean_N)
        out_NC = teacher_NC.copy()
        out_NC[rows] = mended_NC
        return out_NC

    def _remember(self, c: int, probability_N: NDArray[np.float64]) -> None:
        length = self._values_CL.shape[1]
        kept_N = probability_N[-length:]
        start = self._count_C[c] + len(probability_N) - len(kept_N)
        self._values_CL[c, (start + np.arange(len(kept_N))) % length] = kept_N
        self._count_C[c] += len(probability_N)

    def _means(self) -> NDArray[np.float64]:
        """The mean of each class's queue, in (0, 1); of an empty one it means nothing."""
        held_C = np.minimum(self._count_C, self._values_CL.shape[1])
        # slots that were never written are 0 and add nothing
        mean_C = self._values_CL.sum(axis=1, dtype=np.float64) / np.maximum(held_C, 1)
        clipped_C: NDArray[np.float64] = np.clip(mean_C, 1 - _CERTAIN, _CERTAIN)
        return clipped_C

    def state(self) -> dict[str, NDArray[Any]]:
        """A copy of the queues, for a checkpoint: `values` float32 [C, length], `count` int64 [C] of what entered."""
        return {"values": self._values_CL.copy(), "count": self._count_C.copy()}

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Go on from `state`; raise CheckpointError if it is that of other classes or another length."""
        for name, own in (("values", self._values_CL), ("count", self._count_C)):
            given = arrays.get(name)
            if given is None or given.shape != own.shape or given.dtype != own.dtype:
                got = "nothing" if given is None else f"{given.dtype} {given.shape}"
                raise CheckpointError(f"rectification: got {got} as {name}, expected {own.dtype} {own.shape}")
            own[:] = given
