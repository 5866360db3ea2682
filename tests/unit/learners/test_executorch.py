"""The ExecuTorch learner beside torch's: the same steps, states that go to and fro, refusals. Needs ExecuTorch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import CLASSES, DENSE, IMAGE, batch, dense, exported, image

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ArtefactError, LearnerError
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.executorch import ExecutorchLearner
from fedagg_edge.learners.torch import TorchLearner

pytest.importorskip("executorch", reason="ExecuTorch is not installed")

SHAPES = {"dense": DENSE, "image": IMAGE}


def pair(name: str, optimizer: str = "sgd") -> tuple[ExecutorchLearner, TorchLearner]:
    module = {"dense": dense, "image": image}[name]()
    return ExecutorchLearner(exported(name), optimizer), TorchLearner(module, optimizer)


def distance(a: Any, b: Any) -> float:
    return float(np.abs(a.state().weights - b.state().weights).max())


@pytest.mark.parametrize("name", ["dense", "image"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_twenty_steps_are_torchs(name: str, optimizer: str) -> None:
    device, reference = pair(name, optimizer)
    hyperparameters = Hyperparameters(optimizer=optimizer, learning_rate=0.01, weight_decay=1e-3)
    for i in range(20):
        b = batch(SHAPES[name], rows=4 + i % 3, seed=i)
        mine, theirs = device.step(b, hyperparameters), reference.step(b, hyperparameters)
        assert dataclasses.astuple(mine) == pytest.approx(dataclasses.astuple(theirs), abs=1e-4)
        if i == 0:
            assert distance(device, reference) < 1e-5
    assert distance(device, reference) < 2e-4
    x_N = batch(SHAPES[name]).bridge_x_N
    np.testing.assert_allclose(device.logits(x_N), reference.logits(x_N), atol=1e-3)


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_every_batch_size_up_to_its_rows(rows: int) -> None:
    device, reference = pair("dense")
    b = batch(DENSE, rows=rows)
    device.step(b, Hyperparameters())
    reference.step(b, Hyperparameters())
    assert distance(device, reference) < 1e-6


def test_batch_norm_on_two_samples() -> None:
    device, reference = pair("image")
    b = batch(IMAGE, rows=2)
    device.step(b, Hyperparameters())
    reference.step(b, Hyperparameters())
    assert distance(device, reference) < 1e-5


def test_halves_of_a_batch_may_be_missing() -> None:
    whole = batch(IMAGE)
    none = np.empty((0, *IMAGE), np.float32)
    empty = np.empty(0, np.int64)
    parts = [
        batch(IMAGE, leaf=False),
        dataclasses.replace(whole, bridge_x_N=none, bridge_y_N=empty, teacher_NC=None),
        dataclasses.replace(whole, teacher_NC=None),
    ]
    device, reference = pair("image")
    for b in parts:
        mine, theirs = device.step(b, Hyperparameters()), reference.step(b, Hyperparameters())
        assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)
    assert distance(device, reference) < 1e-5


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_node_changes_engine_in_mid_training(optimizer: str) -> None:
    """torch, ExecuTorch, torch: as if torch had gone on, the optimizer's slots included."""
    hyperparameters = Hyperparameters(optimizer=optimizer, learning_rate=0.01)
    batches = [batch(IMAGE, seed=i) for i in range(9)]
    stayed = TorchLearner(image(), optimizer)
    losses = [stayed.step(b, hyperparameters).loss for b in batches]
    first, second, third = TorchLearner(image(), optimizer), *pair("image", optimizer)
    found = [first.step(b, hyperparameters).loss for b in batches[:3]]
    second.load_state(first.state())
    found += [second.step(b, hyperparameters).loss for b in batches[3:6]]
    assert second.state().steps == 6
    third.load_state(second.state())
    found += [third.step(b, hyperparameters).loss for b in batches[6:]]
    assert found == pytest.approx(losses, abs=1e-4)
    for name, slot in stayed.state().slots.items():
        np.testing.assert_allclose(third.state().slots[name], slot, atol=1e-4)


def test_dropout_is_seeded_and_absent_from_logits() -> None:
    def trained(seed: int) -> Any:
        learner = ExecutorchLearner(exported("random"))
        learner.seed(seed)
        learner.step(batch(IMAGE), Hyperparameters())
        return learner.state().weights

    assert np.array_equal(trained(1), trained(1))
    assert not np.array_equal(trained(1), trained(2))
    learner, x_N = ExecutorchLearner(exported("random")), batch(IMAGE).bridge_x_N
    np.testing.assert_array_equal(learner.logits(x_N), learner.logits(x_N))


def test_logits_of_any_number_of_samples_change_nothing() -> None:
    device, reference = pair("image")
    before = device.state().weights
    x_N = np.random.default_rng(0).random((21, *IMAGE), np.float32)  # more than the program's rows, not a multiple
    np.testing.assert_allclose(device.logits(x_N), reference.logits(x_N), atol=1e-5)
    assert device.logits(x_N[:0]).shape == (0, CLASSES)
    np.testing.assert_array_equal(device.state().weights, before)


def test_a_state_is_a_copy() -> None:
    device, _ = pair("dense")
    state = device.state()
    before = state.weights.copy()
    device.step(batch(DENSE), Hyperparameters())
    np.testing.assert_array_equal(state.weights, before)
    device.load_state(state)
    device.step(batch(DENSE), Hyperparameters())
    np.testing.assert_array_equal(state.weights, before)


def test_a_loss_that_is_not_finite_keeps_everything() -> None:
    device, _ = pair("image")
    before = device.state()
    bad = batch(IMAGE)
    bad.bridge_x_N[0, 0, 0, 0] = np.nan
    with pytest.raises(LearnerError, match="the weights are those before this step"):
        device.step(bad, Hyperparameters())
    after = device.state()
    np.testing.assert_array_equal(after.weights, before.weights)
    assert (device.rejected_steps, after.steps) == (1, 0)


def test_wrong_samples_and_batches_are_refused() -> None:
    device, _ = pair("dense")
    with pytest.raises(LearnerError, match=r"got float32 \(5, 2, 4, 4\), this training program takes float32 \(N, 6\)"):
        device.step(batch(IMAGE), Hyperparameters())
    with pytest.raises(LearnerError, match="got float64"):
        device.logits(np.zeros((2, 6)))  # type: ignore[arg-type]
    with pytest.raises(LearnerError, match="got 9 samples, this program takes at most 8"):
        device.step(batch(DENSE, rows=9), Hyperparameters())


def test_another_model_and_another_optimizer_are_refused() -> None:
    device, _ = pair("dense")
    with pytest.raises(LearnerError, match=r"this model has '0.weight'"):
        device.load_state(TorchLearner(image()).state())
    with pytest.raises(LearnerError, match="use the optimizer that the state was made with"):
        device.load_state(TorchLearner(dense(), "adam").state())
    with pytest.raises(ArtefactError, match="got a model of 3 classes, expected 4"):
        ExecutorchLearner(exported("dense"), classes=4)
    with pytest.raises(ArtefactError, match="samples of"):
        ExecutorchLearner(exported("dense"), sample_shape=IMAGE)


DAMAGED = """
import sys
from fedagg_edge.errors import ArtefactError
from fedagg_edge.learners.executorch import ExecutorchLearner
content = open(sys.argv[1], "rb").read()
half = len(content) // 2
flipped = bytearray(content)
for place in range(100, len(content), 97):
    flipped[place] ^= 255
for bad in (b"", content[:half], content[half:], bytes(flipped), content + b"x", bytes(len(content))):
    try:
        ExecutorchLearner(bad)
    except ArtefactError as error:
        print(error)
"""


def test_damaged_files_are_errors_and_the_process_lives(tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(exported("dense"))
    done = subprocess.run([sys.executable, "-c", DAMAGED, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6


def test_a_path_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(exported("dense"))
    b: Batch = batch(DENSE)
    np.testing.assert_array_equal(
        ExecutorchLearner(path).logits(b.bridge_x_N), ExecutorchLearner(exported("dense")).logits(b.bridge_x_N)
    )
