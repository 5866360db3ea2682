"""Answers for the application beside a device: always from the last good weights, never from half a step.

It reads the checkpoints that the agent leaves, so it works inside the agent, in another thread, or in a process of its
own, and an agent that is stopped in the middle of a round changes nothing for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.bridge import Bridge
from fedagg_edge.errors import LearnerError
from fedagg_edge.fleet import weights
from fedagg_edge.learners.base import Learner

__all__ = ["Predictor"]


class Predictor:
    """Classifies raw samples with a node's model. Safe to call from several threads.

    `make_learner` builds a learner of the node's model (its weights are replaced), `folder` holds the checkpoints.
    """

    def __init__(self, folder: Path, bridge: Bridge, make_learner: Callable[[], Learner]) -> None:
        self._folder, self._bridge, self._make = folder, bridge, make_learner
        self._learner: Learner | None = None
        self._version = -1
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """The round whose weights answered last; -1 before the first answer."""
        return self._version

    def predict(self, raw_N: NDArray[Any]) -> NDArray[np.int64]:
        """The class of each raw sample [N, *sample_shape], in the sensor's own units, as int64 [N].

        Raises DataError for samples of another shape, LearnerError before the node has weights to answer with.
        """
        best_N: NDArray[np.int64] = np.argmax(self.logits(raw_N), axis=1)
        return best_N

    def logits(self, raw_N: NDArray[Any]) -> NDArray[np.float32]:
        """Logits float32 [N, C] of raw samples [N, *sample_shape]; raises as `predict` does."""
        x_N = self._bridge.scale(raw_N)
        with self._lock:
            self._refresh()
            if self._learner is None:
                raise LearnerError(
                    f"{self._folder}: no weights yet; the node has to finish a round first (see `fedagg status`)"
                )
            return self._learner.logits(x_N)

    def _refresh(self) -> None:
        """Take the newest whole checkpoint if it is not the one in use; what is damaged is passed over."""
        if weights.newest_version(self._folder) in (None, self._version):
            return
        saved, _ = weights.load_newest(self._folder)
        if saved is None:
            return
        self._learner = self._learner or self._make()
        self._learner.load_state(saved.state)
        self._version = saved.version
