"""The specification of every kernel: a few obvious lines of NumPy each, in float64.

What lives here: formulas, with the paper's equation numbers (arXiv 2312.11489). What does not: speed, checks, any
use of the C++ core. Tests compare every instruction set with this module, never only with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "aggregate_logits",
    "confidence",
    "decode_affine",
    "dequantise_logits",
    "distill_loss",
    "encode_affine",
    "encode_top_k",
    "log_softmax",
    "pack_bits",
    "quantise_logits",
    "sgd_step",
]

Float64 = NDArray[np.float64]


def log_softmax(z_NC: NDArray[Any], temperature: float = 1.0) -> Float64:
    """Return log tau(z / T) for every row."""
    z = np.asarray(z_NC, np.float64) / temperature
    z = z - z.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)), np.float64)


def distill_loss(
    student_NC: NDArray[Any],
    teacher_NC: NDArray[Any] | None = None,
    labels_N: NDArray[Any] | None = None,
    *,
    ce_weight: float = 1.0,
    kl_weight: float = 0.0,
    temperature: float = 3.0,
    teacher_temperature: float | None = None,
    direction: str = "teacher||student",
    weights_N: NDArray[Any] | None = None,
) -> tuple[float, float, float, Float64]:
    """Return loss, ce, kl and d loss / d student: eq. 2's bracket, beta T^2 being kl_weight in Hinton's form.

    `weights_N` is what mask and row weights amount to; rows of weight 0 are left out.
    """
    n, c = student_NC.shape
    w = np.ones(n) if weights_N is None else np.asarray(weights_N, np.float64)
    kept = w > 0
    gradient = np.zeros((n, c))
    if not kept.any():
        return 0.0, 0.0, 0.0, gradient
    w = w[kept] / w[kept].sum()
    ce = kl = 0.0
    g = np.zeros((int(kept.sum()), c))
    if labels_N is not None:
        log_p = log_softmax(student_NC[kept])
        one_hot = np.eye(c)[labels_N[kept]]
        ce = float(w @ -log_p[one_hot == 1])
        g += ce_weight * (np.exp(log_p) - one_hot)
    if teacher_NC is not None:
        log_s = log_softmax(student_NC[kept], temperature)
        log_t = log_softmax(teacher_NC[kept], teacher_temperature or temperature)
        s, t = np.exp(log_s), np.exp(log_t)
        if direction == "teacher||student":
            kl = float(w @ _expectation(t, log_t - log_s))
            g += kl_weight / temperature * (s - t)
        else:
            kl_N = _expectation(s, log_s - log_t)
            kl = float(w @ kl_N)
            g += kl_weight / temperature * np.where(s == 0, 0, s * (log_s - log_t - kl_N[:, None]))
    gradient[kept] = w[:, None] * g
    loss = (ce_weight * ce if ce_weight else 0.0) + (kl_weight * kl if kl_weight else 0.0)
    return loss, ce, kl, gradient


def _expectation(p_NC: Float64, x_NC: Float64) -> Float64:
    """Return sum_c p x with 0 * anything = 0, as in 0 log 0."""
    return np.asarray(np.where(p_NC == 0, 0, p_NC * x_NC).sum(axis=1), np.float64)


def confidence(z_NC: NDArray[Any]) -> Float64:
    """Return exp(-H(softmax(z))) for every row."""
    log_p = log_softmax(z_NC)
    return np.exp(_expectation(np.exp(log_p), log_p))


def aggregate_logits(
    teachers: Sequence[NDArray[Any]], method: str, weights_KN: NDArray[Any] | None = None, trim: float = 0.25
) -> Float64:
    """Return the aggregate of K teachers; `weights_KN` is the product of all weights and masks."""
    z = np.stack([np.asarray(t, np.float64) for t in teachers])
    w = np.ones(z.shape[:2]) if weights_KN is None else np.asarray(weights_KN, np.float64)
    if method == "entropy_weighted":
        w = w * np.stack([confidence(t) for t in z])
    if method in {"trimmed_mean", "median"}:
        return np.stack([_middle(z[w[:, n] > 0, n], None if method == "median" else trim) for n in range(z.shape[1])])
    w = (w / w.sum(axis=0))[:, :, None]
    if method in {"mean_logits", "entropy_weighted"}:
        return np.asarray(np.where(w == 0, 0, w * z).sum(axis=0), np.float64)
    log_p = np.stack([log_softmax(t) for t in z])
    with np.errstate(divide="ignore"):
        x = np.where(w == 0, -np.inf, np.log(w) + log_p)
    return np.asarray(np.logaddexp.reduce(x, axis=0), np.float64)


def _middle(z_KC: Float64, trim: float | None) -> Float64:
    """Return, per class, the median (no trim) or the mean without floor(trim * K) values at either end."""
    if trim is None:
        return np.asarray(np.median(z_KC, axis=0), np.float64)
    cut = int(trim * len(z_KC))
    return np.asarray(np.sort(z_KC, axis=0)[cut : len(z_KC) - cut].mean(axis=0), np.float64)


def quantise_logits(x_NC: NDArray[np.float32]) -> tuple[NDArray[np.int8], Float64]:
    """Return bytes and row scales: scale = max|x| / 127, byte = round_half_even(x / scale)."""
    x = x_NC.astype(np.float64)
    scale = np.abs(x).max(axis=1, initial=0) / 127
    values = np.rint(x / np.where(scale > 0, scale, 1)[:, None])
    return values.astype(np.int8), scale


def dequantise_logits(values_NC: NDArray[np.int8], scale_N: NDArray[Any]) -> Float64:
    """Return values * scale."""
    return values_NC.astype(np.float64) * np.asarray(scale_N, np.float64)[:, None]


def encode_affine(x_ND: NDArray[Any], low_D: NDArray[Any], step_D: NDArray[Any]) -> NDArray[np.uint8]:
    """Return clamp(round_half_even((x - low) / step), 0, 255)."""
    x, low, step = (np.asarray(a, np.float64) for a in (x_ND, low_D, step_D))
    return np.clip(np.rint((x - low) / step), 0, 255).astype(np.uint8)


def encode_top_k(x_NC: NDArray[Any], k: int) -> tuple[NDArray[np.int64], Float64]:
    """Return the kept classes and the rest: the log of the mean of exp(x) over the other classes."""
    x = np.asarray(x_NC, np.float64)
    order = np.argsort(-x, axis=1, kind="stable")
    others = np.take_along_axis(x, order[:, k:], axis=1)
    with np.errstate(divide="ignore"):
        rest = np.logaddexp.reduce(others, axis=1, initial=-np.inf) - np.log(max(x.shape[1] - k, 1))
    return order[:, :k], np.asarray(rest, np.float64)


def pack_bits(codes_ND: NDArray[np.uint8], bits_D: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the codes as bits, lowest first, each row padded to whole bytes."""
    bits = np.unpackbits(codes_ND[:, :, None], axis=2, bitorder="little")
    kept = np.concatenate([bits[:, d, :b] for d, b in enumerate(bits_D)], axis=1)
    return np.packbits(kept, axis=1, bitorder="little")


def sgd_step(
    parameters: NDArray[Any],
    gradient: NDArray[Any],
    velocity: NDArray[Any],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> tuple[Float64, Float64]:
    """Return parameters and velocity after one step (torch.optim.SGD without dampening)."""
    p, g, v = (np.asarray(a, np.float64) for a in (parameters, gradient, velocity))
    g = g + weight_decay * p
    v = momentum * v + g
    return p - learning_rate * (g + momentum * v if nesterov else v), v


def decode_affine(codes_ND: NDArray[np.uint8], low_D: NDArray[Any], step_D: NDArray[Any]) -> Float64:
    """Return low + code * step."""
    return np.asarray(low_D, np.float64) + codes_ND * np.asarray(step_D, np.float64)
