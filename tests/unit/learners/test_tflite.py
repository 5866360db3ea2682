import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compiled import CLASSES, IMAGE, batches, small_file, small_model, through
from torch import nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ArtefactError, LearnerError
from fedagg_edge.export.tflite import compile_module
from fedagg_edge.learners.base import Batch, LearnerState
from fedagg_edge.learners.tflite import TfliteLearner
from fedagg_edge.learners.torch import TorchLearner

H = Hyperparameters(learning_rate=0.05, weight_decay=1e-3)


@pytest.fixture(scope="module")
def normed() -> tuple[nn.Module, bytes]:
    torch.manual_seed(0)
    model = through(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    return model, compile_module(model, IMAGE, CLASSES)[0]


def test_importing_and_training_loads_no_torch(tmp_path: Path) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(small_file())
    program = f"""
import sys
import numpy as np
from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.tflite import TfliteLearner
learner = TfliteLearner({str(file)!r})
learner.load_state(learner.state())
assert not {{"ai_edge_litert", "tflite_runtime"}} & set(sys.modules), "the runtime is for what computes"
learner.step(Batch(np.ones((2, *{IMAGE}), np.float32), np.zeros(2, np.int64), None), Hyperparameters())
assert not {{"torch", "tensorflow"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_torch_and_tflite_take_turns(normed: tuple[nn.Module, bytes], optimizer: str) -> None:
    """The engines hand one state to and fro; a learner that was torch's throughout ends with the same weights."""
    model, content = normed
    if optimizer == "adam":  # which takes full steps along a gradient of rounding errors, as before a batch norm
        model = small_model()
        content = small_file()
    hyperparameters = Hyperparameters(learning_rate=0.01, optimizer=optimizer)  # type: ignore[arg-type]
    throughout, turns = TorchLearner(copy.deepcopy(model), optimizer), TorchLearner(copy.deepcopy(model), optimizer)
    device = TfliteLearner(content, optimizer)
    losses = []
    for i, batch in enumerate(batches(IMAGE, 12)):
        expected = throughout.step(batch, hyperparameters)
        one, other = (turns, device) if i % 4 < 2 else (device, turns)
        report = one.step(batch, hyperparameters)
        assert report.loss == pytest.approx(expected.loss, abs=1e-3)
        losses.append(report.loss)
        other.load_state(one.state())
    state, expected_state = device.state(), throughout.state()
    assert state.steps == expected_state.steps == 12
    assert state.table == expected_state.table
    np.testing.assert_allclose(state.weights, expected_state.weights, atol=1e-4)
    for name, slot in state.slots.items():
        np.testing.assert_allclose(slot, expected_state.slots[name], atol=1e-4)


def test_private_and_bridge_rows_are_joined_only_where_rows_are_apart() -> None:
    learner = TfliteLearner(small_file())
    joined = []
    train = learner._graphs.train
    learner._graphs.train = lambda x, *rest: joined.append(len(x)) or train(x, *rest)  # type: ignore[method-assign]
    learner.step(next(batches(IMAGE, 1)), H)
    assert joined == [12]


def test_logits_are_those_of_evaluation_and_change_nothing(normed: tuple[nn.Module, bytes]) -> None:
    model, content = normed
    learner, x_N = TfliteLearner(content), np.random.default_rng(0).random((150, *IMAGE), np.float32)
    before = learner.state().weights
    np.testing.assert_allclose(learner.logits(x_N), TorchLearner(copy.deepcopy(model)).logits(x_N), atol=1e-5)
    np.testing.assert_array_equal(learner.state().weights, before)
    assert learner.logits(x_N[:0]).shape == (0, CLASSES)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_stops_the_step_and_keeps_the_weights(
    normed: tuple[nn.Module, bytes], value: float
) -> None:
    learner = TfliteLearner(normed[1])
    good = next(batches(IMAGE, 1))
    learner.step(good, H)
    before = learner.state()
    bad = Batch(np.full_like(good.bridge_x_N, value), good.bridge_y_N, None, good.private_x_N, good.private_y_N)
    for count in (1, 2):
        with pytest.raises(LearnerError, match="the weights are those before this step"):
            learner.step(bad, H)
        assert learner.rejected_steps == count
    after = learner.state()
    np.testing.assert_array_equal(after.weights, before.weights)
    np.testing.assert_array_equal(after.slots["momentum"], before.slots["momentum"])
    learner.step(good, H)
    assert np.isfinite(learner.state().weights).all()


def test_masks_follow_the_seed() -> None:
    content = compile_module(through(nn.Dropout()), IMAGE, CLASSES)[0]
    states = []
    for seed in (1, 1, 2):
        learner = TfliteLearner(content)
        learner.seed(seed)
        learner.step(next(batches(IMAGE, 1)), H)
        states.append(learner.state().weights)
    np.testing.assert_array_equal(states[0], states[1])
    assert (states[0] != states[2]).any()


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    with pytest.raises(ArtefactError, match="got a model of 5 classes, expected 7"):
        TfliteLearner(small_file(), classes=7)
    with pytest.raises(ArtefactError, match=r"got a model for samples of \(2, 8, 8\), expected \(3, 32, 32\)"):
        TfliteLearner(small_file(), sample_shape=(3, 32, 32))
    with pytest.raises(ArtefactError, match="cannot read"):
        TfliteLearner("/nowhere/model.tflite")
    learner = TfliteLearner(small_file(), classes=CLASSES, sample_shape=IMAGE)
    before = learner.state()
    with pytest.raises(LearnerError, match=r"takes float32 \(N, 2, 8, 8\)"):
        learner.logits(np.zeros((3, 1, 8, 8), np.float32))
    with pytest.raises(LearnerError, match=r"got float32 \(3, 9\)"):
        learner.step(Batch(np.zeros((3, 9), np.float32), np.zeros(3, np.int64), None), H)
    slots = {"exp_avg": before.weights, "exp_avg_sq": before.weights}
    with pytest.raises(LearnerError, match="use the optimizer that the state was made with"):
        learner.load_state(LearnerState(before.table, before.weights, slots))
    with pytest.raises(LearnerError, match="state: got 1 arrays, this model has 4"):
        learner.load_state(LearnerState(before.table[:1], before.weights[: before.table[0].size]))
    np.testing.assert_array_equal(learner.state().weights, before.weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bridge_y_N": np.array([0, 99])},
            rf"bridge_y_N: got label 99 in row 1, this model has classes 0 to {CLASSES - 1}",
        ),
        ({"bridge_y_N": np.array([0, CLASSES])}, rf"bridge_y_N: got label {CLASSES} in row 1"),
        ({"private_y_N": np.array([0, -1])}, "private_y_N: got label -1 in row 1"),
        ({"private_y_N": None}, r"private_y_N: got nothing, expected int64 \(2,\)"),
        ({"bridge_y_N": np.array([0])}, r"bridge_y_N: got int64 \(1,\), expected int64 \(2,\)"),
        ({"bridge_y_N": np.array([0.0, 1.0])}, "bridge_y_N: got float64"),
        ({"teacher_NC": np.zeros((2, CLASSES - 1), np.float32)}, rf"teacher_NC: got float32 \(2, {CLASSES - 1}\)"),
        ({"teacher_NC": np.zeros((1, CLASSES), np.float32)}, r"teacher_NC: got float32 \(1, "),
    ],
)
def test_a_batch_that_does_not_fit_is_named_and_the_next_is_taken(changes: dict[str, Any], message: str) -> None:
    learner = TfliteLearner(small_file())
    x_N, y_N = np.ones((2, *IMAGE), np.float32), np.array([0, 1])
    good = Batch(x_N, y_N, np.zeros((2, CLASSES), np.float32), x_N, y_N)
    before = learner.state()
    with pytest.raises(LearnerError, match=message):
        learner.step(replace(good, **changes), Hyperparameters())
    np.testing.assert_array_equal(learner.state().weights, before.weights)
    learner.step(good, Hyperparameters())
    assert learner.state().steps == 1


def test_a_runtime_that_is_not_there_is_missed_at_once() -> None:
    with pytest.raises(LearnerError, match="no TFLite runtime is usable: 'torch' is not known"):
        TfliteLearner(small_file(), runtime="torch")


def test_distillation_that_the_file_does_not_have_is_refused() -> None:
    x_N, y_N = np.ones((2, *IMAGE), np.float32), np.array([0, 1])
    with pytest.raises(LearnerError, match="distillation: got 'decoupled', a training file has the classical one"):
        TfliteLearner(small_file()).step(Batch(x_N, y_N, None), Hyperparameters(distillation="decoupled"))
