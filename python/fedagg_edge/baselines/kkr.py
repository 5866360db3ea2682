"""Kernel-based knowledge refinement (KKR): logits whose peak probability is the same for every sample and device. Pure.

Wu et al., "Exploring the Distributed Knowledge Congruence in Proxy-data-free Federated Distillation", ACM TIST 2024,
arXiv 2204.07028: knowledge is congruent when all devices' peak probabilities agree, so every row z becomes one with
max softmax = T. The kernel here is the exponential one, softmax(a z) with one factor a per row: it keeps the order of
the classes, all probabilities stay above 0, and max softmax(a z) grows from 1/C to 1 as a does, so exactly one a fits
(docs/decisions: which kernel).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ConfigError

__all__ = ["refine"]

_HALVINGS = 80  # of the bracket: past float64's resolution
_LARGEST = 2.0**40  # a row whose peak would need more is flat


def refine(logits_NC: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    """Return log-probabilities float32 [N, C] whose largest probability is `peak` in every row, the classes' order
    kept.

    A row with several equal largest logits cannot peak above an equal share of them; it gets as near as it can, as does
    a row that is flat. Raises ConfigError unless 1/C < peak < 1.
    """
    classes = logits_NC.shape[1]
    if not 1 / classes < peak < 1:
        raise ConfigError(
            f"methods.feddkc.peak: got {peak}, expected more than 1/{classes}, the share of each of {classes} "
            "classes when nothing is known, and less than 1"
        )
    gap_NC = logits_NC.astype(np.float64)
    gap_NC = gap_NC - gap_NC.max(axis=1, keepdims=True)  # 0 at the peak, below 0 elsewhere
    factor_N = _factors(gap_NC, peak)
    refined_NC = factor_N[:, None] * gap_NC
    refined_NC -= np.log(np.exp(refined_NC).sum(axis=1, keepdims=True))
    out_NC: NDArray[np.float32] = refined_NC.astype(np.float32)
    return out_NC


def _factors(gap_NC: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Per row the factor a with max softmax(a z) = peak, by bisection of log a."""
    spread_N = -gap_NC.min(axis=1)
    spread_N = np.where(spread_N > 0, spread_N, 1.0)  # a flat row stays flat
    scaled_NC = gap_NC / spread_N[:, None]  # the lowest class at -1: one bracket suits all rows
    low_N = np.full(len(gap_NC), -40.0)
    high_N = np.full(len(gap_NC), np.log2(_LARGEST))
    for _ in range(_HALVINGS):
        middle_N = (low_N + high_N) / 2
        flat_N = 1 / np.exp(np.exp2(middle_N)[:, None] * scaled_NC).sum(axis=1) < peak
        low_N, high_N = np.where(flat_N, middle_N, low_N), np.where(flat_N, high_N, middle_N)
    factor_N: NDArray[np.float64] = np.exp2(low_N) / spread_N
    return factor_N
