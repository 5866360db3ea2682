"""Logits into and out of the form in which they travel, through the C++ codec."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedagg_edge import kernels
from fedagg_edge.records import LogitsFormat, PackedLogits

__all__ = ["pack", "unpack"]


def pack(logits_NC: NDArray[np.float32], form: LogitsFormat) -> PackedLogits:
    """Encode float32 logits [N, C] as `form`; f32 shares their memory."""
    if form is LogitsFormat.F16:
        return PackedLogits(form, kernels.to_f16(logits_NC))
    if form is LogitsFormat.INT8:
        quantised = kernels.quantise_logits(logits_NC)
        return PackedLogits(form, quantised.values_NC, quantised.scale_N)
    return PackedLogits(form, logits_NC)


def unpack(packed: PackedLogits) -> NDArray[np.float32]:
    """Decode to float32 logits [N, C]; f32 shares their memory."""
    value_NC, scale_N = packed.value_NC, packed.scale_N
    if value_NC.dtype == np.float16:
        return kernels.from_f16(value_NC.astype(np.float16, copy=False))
    if value_NC.dtype == np.int8 and scale_N is not None:
        return kernels.dequantise_logits(kernels.QuantisedLogits(value_NC.astype(np.int8, copy=False), scale_N))
    return value_NC.astype(np.float32, copy=False)
