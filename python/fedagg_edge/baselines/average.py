"""Weighted means of models, the heart of every method that averages: float32 in and out, sums in float64. Pure.

A model is one flat array in the canonical format (`LearnerState.weights`), so running means of batch norms are averaged
with the weights, as federated averaging does it, and batch counters too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError

__all__ = ["average", "mix"]

Weights = NDArray[np.float32]


def average(models_P: Sequence[Weights], counts: Sequence[int]) -> Weights:
    """sum_k n_k w_k / sum_k n_k: FedAvg's mean (McMahan et al., AISTATS 2017, arXiv 1602.05629, Algorithm 1).

    `models_P` flat float32 of one length, `counts` how many samples stand behind each. Raises DataError if there is
    nothing to average.
    """
    total = sum(counts)
    if len(models_P) != len(counts) or total <= 0:
        raise DataError(f"average: got {len(models_P)} models of {total} samples, expected as many counts, above 0")
    mean = np.zeros(models_P[0].shape, np.float64)
    for model_P, count in zip(models_P, counts, strict=True):
        mean += model_P * np.float64(count / total)
    return mean.astype(np.float32)


def mix(own_P: Weights, other_P: Weights, share: float) -> Weights:
    """(1 - share) * own + share * other."""
    return ((1.0 - share) * own_P.astype(np.float64) + share * other_P.astype(np.float64)).astype(np.float32)
