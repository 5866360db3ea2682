"""Batch norm with running figures of private and of bridge samples apart.

A device's private and bridge batches go through its model one by one, so in training each is normalised by its own
figures already; with one set of running figures an evaluation then sees the mixture of both, which fits neither. Here
each kind of sample keeps its own, and scale and shift stay common: the statistics of AdvProp's auxiliary norm (Xie et
al., arXiv 1911.09665) without its second set of parameters, so training's gradients are those of a common norm.

A common norm's figures move twice in a step that sees both kinds. Figures apart move once, so each takes as large a
step as the common ones' two together (`SplitNorm.moves`); otherwise they lag behind the weights twice as far, which in
a short training costs more than what they are apart for (docs/decisions/split-norm-pace.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedagg_edge.errors import ConfigError

__all__ = ["SplitNorm", "norms_of", "on_bridge", "set_moves", "split_norms"]


class SplitNorm(nn.Module):
    """Takes a batch norm's place.

    Its figures, under their names, are those of private samples; ``bridge_*`` are those of bridge samples, for which
    `bridge` is set (`on_bridge`). Figures that have seen no batch yet let the others speak: an inner node trains on
    bridge samples alone and is asked about both. `moves`: how many moves of a common norm one of these stands for, the
    kinds of samples in the step at hand (`set_moves`): figures follow at 1 - (1 - momentum)^moves.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    bridge_mean: Tensor
    bridge_var: Tensor
    bridge_batches: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.eps, self.momentum = norm.eps, norm.momentum
        self.bridge = False
        self.moves = 1
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.register_buffer("bridge_mean", self.running_mean.clone())
        self.register_buffer("bridge_var", self.running_var.clone())
        self.register_buffer("bridge_batches", self.num_batches_tracked.clone())

    def forward(self, x: Tensor) -> Tensor:
        """What batch norm does, with the figures of the samples at hand."""
        private = (self.running_mean, self.running_var, self.num_batches_tracked)
        bridge = (self.bridge_mean, self.bridge_var, self.bridge_batches)
        (mean, var, batches), other = (bridge, private) if self.bridge else (private, bridge)
        if not self.training and not batches and other[2]:
            mean, var, _ = other
        rate = 0.0
        if self.training:
            batches.add_(1)
            rate = 1.0 / float(batches) if self.momentum is None else 1.0 - (1.0 - self.momentum) ** self.moves
        return nn.functional.batch_norm(
            x, mean, var, self.weight, self.bias, training=self.training, momentum=rate, eps=self.eps
        )


def split_norms(module: nn.Module) -> nn.Module:
    """`module` with a `SplitNorm` in the place of every batch norm.

    Raises ConfigError if it has none, or one without running figures.
    """
    found = [(name, m) for name, m in module.named_modules() if isinstance(m, _BatchNorm)]
    if not found:
        raise ConfigError(
            f"batch_norm: got 'split', but the model {type(module).__name__} has no batch norm; leave the option out"
        )
    for name, norm in found:
        if not norm.track_running_stats:
            raise ConfigError(f"batch_norm: got 'split', but the model's {name!r} keeps no running figures to split")
        if norm is module:
            return SplitNorm(norm)
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, SplitNorm(norm))
    return module


def norms_of(module: nn.Module) -> tuple[SplitNorm, ...]:
    """The module's norms that tell bridge samples from others."""
    return tuple(m for m in module.modules() if isinstance(m, SplitNorm))


def set_moves(norms: Sequence[SplitNorm], kinds: int) -> None:
    """Say how many kinds of samples the next step sees."""
    for norm in norms:
        norm.moves = kinds


@contextmanager
def on_bridge(norms: Sequence[SplitNorm]) -> Iterator[None]:
    """What goes through the norms' model meanwhile are bridge samples."""
    for norm in norms:
        norm.bridge = True
    try:
        yield
    finally:
        for norm in norms:
            norm.bridge = False
