from dataclasses import dataclass, field

import numpy as np
import pytest

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ArtefactError, LearnerError
from fedagg_edge.learners.base import Entry, LearnerState, StepReport
from fedagg_edge.learners.exported import ExportedLearner


@dataclass
class Toy:
    table: tuple[Entry, ...] = (Entry("w", (2, 2), trained=True), Entry("mean", (2,), trained=False))
    weights: np.ndarray = field(default_factory=lambda: np.arange(6, dtype=np.float32))
    classes: int = 3
    sample_shape: tuple[int, ...] = (4,)


def learner(**given) -> ExportedLearner[Toy]:
    return ExportedLearner(Toy(), "sgd", **{"classes": None, "sample_shape": None, **given})


def test_a_state_is_a_copy_and_one_without_slots_starts_with_empty_ones() -> None:
    one, other = learner(), learner()
    one._optimizer.update(one._weights[:4], [np.ones(4, np.float32)], Hyperparameters())
    state = one.state()
    one._weights[:] = 0
    other.load_state(state)
    np.testing.assert_array_equal(other.state().weights, state.weights)
    np.testing.assert_array_equal(other.state().slots["momentum"], np.ones(4))
    assert other.state().steps == 1
    other.load_state(LearnerState(state.table, state.weights))
    np.testing.assert_array_equal(other.state().slots["momentum"], np.zeros(4))


def test_another_models_file_state_or_samples_are_refused() -> None:
    with pytest.raises(ArtefactError, match="training file: got a model of 3 classes, expected 4"):
        learner(classes=4)
    with pytest.raises(ArtefactError, match=r"got a model for samples of \(4,\), expected \(5,\)"):
        learner(sample_shape=(5,))
    with pytest.raises(LearnerError, match=r"got 'v' \(6,\), this model has 'w' \(2, 2\) in its place"):
        learner().load_state(LearnerState((Entry("v", (6,), trained=True),), np.zeros(6, np.float32)))
    with pytest.raises(LearnerError, match=r"got float64 \(2, 4\), this training file takes float32 \(N, 4\)"):
        learner()._check_samples(np.zeros((2, 4)))


@pytest.mark.parametrize(("loss", "gradient", "buffer"), [(np.nan, 0, 0), (0, np.inf, 0), (0, 0, np.nan)])
def test_what_is_no_number_is_counted(loss: float, gradient: float, buffer: float) -> None:
    one = learner()
    given = np.full(4, gradient, np.float32), np.full(2, buffer, np.float32)
    with pytest.raises(LearnerError, match="the weights are those before this step"):
        one._check_finite(StepReport(loss, 0, 0, 0), *given)
    assert one.rejected_steps == 1
    one._check_finite(StepReport(1.0, 0, 0, 0), np.ones(4, np.float32), np.zeros(2, np.float32))
    assert one.rejected_steps == 1
