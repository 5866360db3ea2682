"""Kernel-based knowledge refinement (KKR): knowledge that peaks at one probability for every sample and device. Pure.

Wu et al., "Exploring the Distributed Knowledge Congruence in Proxy-data-free Federated Distillation", ACM TIST 2024,
arXiv 2204.07028: knowledge is congruent when all devices' peak probabilities agree. With p = softmax(z) over C classes,
its peak M and the wanted peak T, the kernel is affine, p' = ((C T - 1) p + M - T) / (C M - 1), which is p drawn towards
(or pushed away from) the uniform distribution u: p' = s p + (1 - s) u with s = (T - 1/C) / (M - 1/C). A row that this
would make negative, as only s > 1 can, becomes T at its peak and (1 - T) / (C - 1) elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ConfigError

__all__ = ["refine"]

_LEAST = 1e-7  # a probability of 0 has no logarithm


def refine(logits_NC: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    """Return log-probabilities float32 [N, C] whose largest probability is `peak` in every row.

    Where the kernel holds, the classes keep their order and equal largest logits are all at the peak. A flat row has no
    peak to move and stays flat; a row with NaN becomes NaN. Raises ConfigError unless 1/C < peak < 1.
    """
    classes = logits_NC.shape[1]
    if not 1 / classes < peak < 1:
        raise ConfigError(
            f"methods.feddkc.peak: got {peak}, expected more than 1/{classes}, the share of each of {classes} "
            "classes when nothing is known, and less than 1"
        )
    p_NC = _softmax(logits_NC.astype(np.float64))
    above_N1 = p_NC.max(axis=1, keepdims=True) - 1 / classes
    # a flat row is flat under any s, but 0 / 0 is none
    s_N1 = (peak - 1 / classes) / np.where(above_N1 > 0, above_N1, np.inf)
    refined_NC = s_N1 * p_NC + (1 - s_N1) / classes
    rows = np.flatnonzero((refined_NC < 0).any(axis=1))
    refined_NC[rows] = (1 - peak) / (classes - 1)
    refined_NC[rows, p_NC[rows].argmax(axis=1)] = peak
    out_NC: NDArray[np.float32] = np.log(np.maximum(refined_NC, _LEAST)).astype(np.float32)
    return out_NC


def _softmax(z_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    e_NC = np.exp(z_NC - z_NC.max(axis=1, keepdims=True))
    return np.asarray(e_NC / e_NC.sum(axis=1, keepdims=True), np.float64)
