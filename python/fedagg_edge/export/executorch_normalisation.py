"""Batch norm and its gradient for ExecuTorch, whose own does not train."""
# ruff: noqa: PLR0917  # the signatures are torch's

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedagg_edge.export.executorch_windows import cut

__all__ = ["batch_norm", "batch_norm_backward", "batch_norm_no_stats", "batch_norm_no_training", "channel_sum"]


def channel_sum(x: Tensor) -> Tensor:
    """Over all axes but the channels': first along each sample, which keeps float32 sums short."""
    return (x if x.dim() == 2 else x.sum(list(range(2, x.dim())))).sum(0)


def _along(x: Tensor, value_C: Tensor) -> Tensor:
    return value_C.reshape(1, -1, *[1] * (x.dim() - 2))


def _count(x: Tensor) -> Tensor:
    """How many values a channel has; as a tensor, because the runtime's own sizes cannot be divided by."""
    return torch.ones_like(cut(x, 1, 0, 1)).sum()


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """aten.native_batch_norm: output, mean, 1 / deviation; in training the running statistics move in place."""
    if training or running_mean is None or running_var is None:
        count = _count(x)
        mean = channel_sum(x) / count
        centred = x - _along(x, mean)
        squares = channel_sum(centred * centred)
        inverse = torch.rsqrt(squares / count + eps)
        if running_mean is not None and running_var is not None:
            running_mean.mul_(1 - momentum).add_(mean * momentum)
            running_var.mul_(1 - momentum).add_(squares / (count - 1) * momentum)
    else:
        mean, inverse = running_mean, torch.rsqrt(running_var + eps)
    scale = inverse if weight is None else inverse * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return x * _along(x, scale) + _along(x, shift), mean, inverse


def batch_norm_no_stats(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """aten._native_batch_norm_legit.no_stats."""
    return batch_norm(x, weight, bias, None, None, True, momentum, eps)


def batch_norm_no_training(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """aten._native_batch_norm_legit_no_training."""
    return batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps)


def batch_norm_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor | None,
    inverse: Tensor | None,
    training: bool,
    eps: float,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """aten.native_batch_norm_backward."""
    if not training and running_mean is not None and running_var is not None:
        mean, inverse = running_mean, torch.rsqrt(running_var + eps)
    assert mean is not None
    assert inverse is not None
    centred = x - _along(x, mean)
    bias_C, dot_C = channel_sum(gradient), channel_sum(centred * gradient)
    scale = inverse if weight is None else inverse * weight
    if training:
        count = _count(x)
        along = centred * _along(x, dot_C * inverse * inverse / count)
        grad_x = (gradient - _along(x, bias_C / count) - along) * _along(x, scale)
    else:
        grad_x = gradient * _along(x, scale)
    return grad_x, dot_C * inverse if output_mask[1] else None, bias_C if output_mask[2] else None
