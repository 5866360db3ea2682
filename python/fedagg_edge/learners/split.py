"""The lower part of a torch learner's model as an extractor of features, for methods that split a model (FedGKT)."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.base import Learner
from fedagg_edge.learners.torch import TorchLearner

__all__ = ["Extractor", "default_cut"]

_EVAL_ROWS = 512
_POOLING = (
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


class Extractor:
    """The first `cut` modules of a learner's sequential model (None: see `default_cut`), sharing its weights.

    Raises ConfigError for an engine other than torch, a model that is no sequence, or a cut outside of it.
    """

    def __init__(self, learner: Learner, cut: int | None, sample_shape: tuple[int, ...]) -> None:
        if not isinstance(learner, TorchLearner):
            raise ConfigError(f'cut: got a {type(learner).__name__}, expected a model trained by engine = "torch"')
        module = learner.module
        if not isinstance(module, nn.Sequential):
            raise ConfigError(
                f"cut: got a {type(module).__name__}, expected torch.nn.Sequential, to cut it between two modules"
            )
        cut = default_cut(module) if cut is None else cut
        if not 1 <= cut < len(module):
            raise ConfigError(f"cut: got {cut}, expected 1 to {len(module) - 1} of the model's {len(module)} modules")
        self._module = module
        self._lower = module[:cut]
        self.feature_shape = self.features(np.zeros((2, *sample_shape), np.float32)).shape[1:]

    @property
    def structure(self) -> Hashable:
        """Equal for extractors of the same layers."""
        return repr(self._lower), tuple((name, t.shape) for name, t in self._lower.state_dict().items())

    def start_from(self, other: Extractor) -> None:
        """Take the weights and running figures of an extractor of the same `structure`."""
        self._lower.load_state_dict(other._lower.state_dict())

    def features(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features float32 [N, *feature_shape] in evaluation mode; changes no state."""
        self._module.eval()
        try:
            with torch.inference_mode():
                starts = range(0, max(1, len(x_N)), _EVAL_ROWS)
                parts = [self._lower(_tensor(x_N[i : i + _EVAL_ROWS])).numpy() for i in starts]
        finally:
            self._module.train()
        return np.ascontiguousarray(np.concatenate(parts))


def default_cut(module: nn.Sequential) -> int:
    """How many leading modules come before the first pooling and before the second module with weights."""
    weighted = 0
    for i, child in enumerate(module):
        weighted += any(p.ndim > 1 for p in child.parameters())
        if weighted and (isinstance(child, _POOLING) or weighted > 1):
            return i
    return len(module)


def _tensor(array: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.require(array, requirements=["W"]))
