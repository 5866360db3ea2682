"""Batch norm's running figures taken anew from given batches, with the weights as they are.

In training they are exponential averages over the last tens of steps, whose weights were others: where the rate is high
they lag behind, and where a late layer sees maps of one pixel they are the figures of some hundred values. Taking them
anew as plain averages over large batches mends both: "precise batch norm", Wu and Johnson, "Rethinking 'Batch' in
BatchNorm", arXiv 2105.07576, section 3. Gradients are not touched by it, because training normalises by the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners.split_norm import SplitNorm

__all__ = ["figures_anew"]


@contextmanager
def figures_anew(module: nn.Module) -> Iterator[None]:
    """Forward passes in the body give all running figures of the module's batch norms anew: averages over these
    batches, each counting alike. All else is as in evaluation; the module is in training mode afterwards.

    Figures of a kind of samples that the body does not show stay, as do counters of batches. If the body raises, or a
    figure is not finite afterwards (LearnerError), all are as they were.
    """
    norms = [m for m in module.modules() if isinstance(m, (SplitNorm, _BatchNorm)) and _has_figures(m)]
    figures = [(b, b.clone()) for m in norms for b in m.buffers(recurse=False)]
    momenta = [m.momentum for m in norms]
    module.eval()
    try:
        for norm in norms:
            norm.train()
            norm.momentum = None  # each batch counts as much as those before it on average
            for buffer in norm.buffers(recurse=False):
                if not buffer.is_floating_point():
                    buffer.zero_()
        with torch.no_grad():
            yield
        if not all(bool(torch.isfinite(now).all()) for now, _ in figures if now.is_floating_point()):
            raise LearnerError(
                "batch norm's figures, taken anew, are infinite or NaN; those before are kept; lower learning_rate, or "
                "check that samples are on the model's input scale"
            )
    except BaseException:
        for now, before in figures:
            now.copy_(before)
        raise
    finally:
        for now, before in figures:
            if not now.is_floating_point():
                now.copy_(before)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.train()


def _has_figures(norm: SplitNorm | _BatchNorm) -> bool:
    return isinstance(norm, SplitNorm) or norm.track_running_stats
