"""A learner whose loss has a proximal term added, whatever engine is behind it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ConfigError, LearnerError
from fedagg_edge.learners.base import Batch, Learner, LearnerState, MeasuresNorms, StepReport

__all__ = ["ProximalLearner"]


class ProximalLearner:
    """Adds mu / 2 * ||w - centre||^2 over the trained values to every step of `inner`.

    The term's gradient mu * (w - centre), at the weights before the step, is added to SGD's velocity and update after
    it: v' = m v + g + p and w' = w - lr v', exactly what SGD makes of the summed gradient. Other optimizers bend
    gradients, so ConfigError for them. `centre_P` is flat, in the order of the state's table.
    """

    def __init__(self, inner: Learner, centre_P: NDArray[np.float32], mu: float) -> None:
        state = inner.state()
        if set(state.slots) != {"momentum"}:
            raise ConfigError(
                f"proximal term: got an optimizer with slots {sorted(state.slots)}, expected SGD's; "
                'set optimizer = "sgd" in [training.device]'
            )
        self._inner, self._mu = inner, np.float32(mu)
        self._trained_P = np.repeat([e.trained for e in state.table], [e.size for e in state.table])
        self._centre_T = centre_P[self._trained_P]

    def logits(self, x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Learner.logits`."""
        return self._inner.logits(x_N)

    def step(self, batch: Batch, hyperparameters: Hyperparameters) -> StepReport:
        """See `Learner.step`; the report leaves the proximal term out."""
        before_T = self._inner.state().weights[self._trained_P]
        report = self._inner.step(batch, hyperparameters)
        after = self._inner.state()
        pull_T = self._mu * (before_T - self._centre_T)
        weights_P = after.weights
        weights_P[self._trained_P] -= np.float32(hyperparameters.learning_rate) * pull_T
        slots = {"momentum": after.slots["momentum"] + pull_T}
        self._inner.load_state(LearnerState(after.table, weights_P, slots, after.steps))
        return report

    def measure_norms(self, batches: Iterable[tuple[NDArray[np.float32], bool]]) -> None:
        """See `MeasuresNorms.measure_norms`. Raises LearnerError if the learner inside has none."""
        if not isinstance(self._inner, MeasuresNorms):
            raise LearnerError(
                f"batch_norm_rows: {type(self._inner).__name__} has no measure_norms; leave the option out"
            )
        self._inner.measure_norms(batches)

    def state(self) -> LearnerState:
        """See `Learner.state`."""
        return self._inner.state()

    def load_state(self, state: LearnerState) -> None:
        """See `Learner.load_state`."""
        self._inner.load_state(state)

    def seed(self, seed: int) -> None:
        """See `Learner.seed`."""
        self._inner.seed(seed)
