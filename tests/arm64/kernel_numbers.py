"""What the kernels make of one pair of logits: make_fixtures.py keeps it, test_numbers.py compares. Needs no torch."""

from __future__ import annotations

import numpy as np

from fedagg_edge import kernels

METHODS = ("mean_logits", "mean_probabilities", "entropy_weighted", "trimmed_mean", "median")


def other_numbers(student_NC: np.ndarray, teacher_NC: np.ndarray) -> dict[str, np.ndarray]:
    """The reverse loss, aggregates and codecs of the same inputs; by name."""
    reverse = kernels.distill_loss(
        student_NC, teacher_NC, ce_weight=0.0, kl_weight=1.0, temperature=3.0, direction="student||teacher"
    )
    half_NC, top = kernels.to_f16(teacher_NC), kernels.encode_top_k(student_NC, 3)
    low, step = student_NC.min(0), np.full(student_NC.shape[1], 0.25, np.float32)
    bits = (np.arange(student_NC.shape[1]) % 9).astype(np.uint8)
    codes = kernels.encode_affine(student_NC, low, step, bits)
    found = {
        "reverse_loss": np.float64(reverse.loss),
        "reverse_gradient": reverse.gradient_NC,
        "confidence": kernels.confidence(student_NC),
        "f16": half_NC,
        "top_classes": top.classes_NK,
        "top_values": top.values_NK,
        "top_rest": top.rest_N,
        "codes": codes,
        "packed": kernels.pack_bits(codes, bits),
    }
    teachers, weights_K = [student_NC, teacher_NC, half_NC], np.array([1, 2, 0.5], np.float32)
    for method in METHODS:
        found[method] = kernels.aggregate_logits(teachers, method=method, weights_K=weights_K)
    return found
