"""Operators that ExecuTorch lacks, runs slowly or gets wrong, written in ones that it gets right. Exact equivalents.

The modules beside this one hold them by family; torch's own decompositions do the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

from fedagg_edge.export import executorch_convolution as convolution
from fedagg_edge.export import executorch_normalisation as normalisation
from fedagg_edge.export import executorch_pooling as pooling

__all__ = ["decompositions"]

_aten = torch.ops.aten


def embedding_backward(gradient: Tensor, indices: Tensor, rows: int, padding_idx: int, by_frequency: bool) -> Tensor:
    """aten.embedding_dense_backward as a product with ones where a row was looked up."""
    if by_frequency:
        return NotImplemented  # type: ignore[no-any-return]  # the operator stays, and is refused
    places = torch.arange(rows, dtype=indices.dtype, device=indices.device).reshape(-1, 1)
    looked_up = places == indices.reshape(1, -1)
    if padding_idx >= 0:
        looked_up = torch.logical_and(looked_up, places != padding_idx)
    return torch.mm(looked_up.to(gradient.dtype), gradient.reshape(-1, gradient.shape[-1]))


_OWN: dict[Any, Callable[..., Any]] = {
    _aten.embedding_dense_backward.default: embedding_backward,
    _aten.native_batch_norm.default: normalisation.batch_norm,
    _aten._native_batch_norm_legit.default: normalisation.batch_norm,
    _aten._native_batch_norm_legit.no_stats: normalisation.batch_norm_no_stats,
    _aten._native_batch_norm_legit_no_training.default: normalisation.batch_norm_no_training,
    _aten.native_batch_norm_backward.default: normalisation.batch_norm_backward,
    _aten.max_pool2d_with_indices.default: pooling.max_pool2d,
    _aten.max_pool2d_with_indices_backward.default: pooling.max_pool2d_backward,
    _aten.avg_pool2d.default: pooling.avg_pool2d,
    _aten.avg_pool2d_backward.default: pooling.avg_pool2d_backward,
    _aten._adaptive_avg_pool2d.default: pooling.adaptive_avg_pool2d,
    _aten._adaptive_avg_pool2d_backward.default: pooling.adaptive_avg_pool2d_backward,
    _aten.convolution.default: convolution.convolution,
    _aten.convolution_backward.default: convolution.convolution_backward,
}

_TORCHS = (
    _aten.hardswish,
    _aten.hardswish_backward,
    _aten.hardsigmoid,
    _aten.hardsigmoid_backward,
    _aten.hardtanh_backward,
    _aten.silu,
    _aten.silu_backward,
    _aten.native_layer_norm_backward,
    _aten.native_group_norm,
    _aten.native_group_norm_backward,
    _aten.slice_backward,
    _aten.select_backward,
    _aten.gelu_backward,
    _aten.leaky_relu_backward,
    _aten.elu_backward,
    _aten.threshold_backward,
    _aten._softmax_backward_data,
    _aten._log_softmax_backward_data,
)


def decompositions() -> dict[Any, Callable[..., Any]]:
    """What to pass to `make_fx`: torch's core decompositions, those of backward operators, and the ones above."""
    table: dict[Any, Callable[..., Any]] = dict(core_aten_decompositions())
    table.update(get_decompositions(_TORCHS))
    return {**table, **_OWN}
