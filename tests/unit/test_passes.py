import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import CLASSES, SHAPE, IdentityBridge, hyperparameters

from fedagg_edge import passes
from fedagg_edge.errors import LearnerError, LocalProtocolError
from fedagg_edge.learners.base import StepReport
from fedagg_edge.passes import Lesson, bridge_logits, cut_batches, train_pass


class Recorder:
    """A learner that remembers its batches; its logits are the sample's first value, so that rows can be told apart."""

    def __init__(self):
        self.batches = []

    def seed(self, seed):
        self.seeded = seed

    def step(self, batch, hp):
        self.batches.append(batch)
        return StepReport(loss=float(len(self.batches)), private_ce=0.0, bridge_ce=1.0, kl=0.5)

    def logits(self, x_N):
        return np.repeat(x_N.reshape(len(x_N), -1)[:, :1], CLASSES, axis=1)


def lesson(n, *, private=True, bridge=True):
    """Rows whose every array holds the row's number."""
    number = np.arange(n)
    return Lesson(
        label_N=number % CLASSES,
        code_NB=np.repeat(number[:, None], 4, axis=1).astype(np.uint8) if bridge else None,
        teacher_NC=np.repeat(number[:, None], CLASSES, axis=1).astype(np.float32) if bridge else None,
        private_x_N=np.broadcast_to(number[:, None, None, None], (n, *SHAPE)).astype(np.float32) if private else None,
    )


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_every_row_is_seen_once_an_epoch_with_its_own_private_sample_and_logits(n, size, epochs, small_blocks):
    learner, hp = Recorder(), hyperparameters(batch_size=size, epochs=epochs)
    with pytest.MonkeyPatch.context() as patch:
        if small_blocks:
            patch.setattr(passes, "_BLOCK_BYTES", 7 * 16)
        report = train_pass(learner, IdentityBridge(), lesson(n), hp, np.random.default_rng(0))
    seen = []
    for batch in learner.batches:
        rows = np.rint(batch.bridge_x_N[:, 0, 0, 0] * 255).astype(int)
        seen += rows.tolist()
        np.testing.assert_array_equal(batch.private_x_N[:, 0, 0, 0], rows)
        np.testing.assert_array_equal(batch.teacher_NC[:, 0], rows)
        np.testing.assert_array_equal(batch.bridge_y_N, rows % CLASSES)
        np.testing.assert_array_equal(batch.private_y_N, batch.bridge_y_N)
        assert len(rows) <= size + 1
    assert sorted(seen) == sorted(list(range(n)) * epochs)
    assert (report.rows, report.steps) == (n * epochs, len(learner.batches))


@given(st.integers(2, 60), st.integers(2, 9))
def test_no_batch_has_one_row(n, size):
    learner = Recorder()
    train_pass(learner, IdentityBridge(), lesson(n), hyperparameters(batch_size=size), np.random.default_rng(0))
    assert min(len(b.bridge_y_N) for b in learner.batches) > 1


@given(st.integers(4, 90), st.integers(6, 40))
def test_no_batch_has_too_few_rows_for_batch_norm_over_one_pixel(n, size):
    lengths = [len(rows) for rows in cut_batches(np.arange(n), size)]
    assert min(lengths) >= 4
    assert sum(lengths) == n
    assert lengths[:-2] == [size] * (len(lengths) - 2)
    if len(lengths) > 1 and 0 < n % size < 4:
        assert abs(lengths[-2] - lengths[-1]) <= 1 or n % size == 1


def test_the_last_rows_share_evenly_in_their_order():
    order = np.arange(34)[::-1]
    batches = cut_batches(order, 16)
    assert [len(rows) for rows in batches] == [16, 9, 9]
    np.testing.assert_array_equal(np.concatenate(batches), order)
    assert [len(rows) for rows in cut_batches(np.arange(33), 16)] == [16, 17]
    assert [len(rows) for rows in cut_batches(np.arange(36), 16)] == [16, 16, 4]
    assert [len(rows) for rows in cut_batches(np.arange(2), 16)] == [2]


class Measuring(Recorder):
    """Remembers what its batch norms were shown, and how many batches it had trained on by then."""

    def measure_norms(self, batches):
        self.shown = [(x_N[:, 0, 0, 0].copy(), is_bridge) for x_N, is_bridge in batches]
        self.trained = len(self.batches)


@given(st.integers(2, 40), st.integers(2, 50), st.integers(2, 9), st.sampled_from(["private", "bridge", "both"]))
def test_batch_norms_see_whole_batches_of_the_lessons_rows_after_the_pass(n, count, size, kinds):
    private, bridge = kinds != "bridge", kinds != "private"
    learner, given_lesson = Measuring(), lesson(n, private=private, bridge=bridge)
    hp = hyperparameters(batch_size=4, batch_norm_rows=count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_NORM_BATCH", size)
        train_pass(learner, IdentityBridge(), given_lesson, hp, np.random.default_rng(0))
    assert learner.trained == len(learner.batches) > 0
    wanted = min(n, count)
    for kind, there in ((False, private), (True, bridge)):
        parts = [x for x, is_bridge in learner.shown if is_bridge is kind]
        scale = 255 if kind else 1
        seen = [round(float(v) * scale) for x in parts for v in x]
        assert {len(x) for x in parts} <= {min(size, wanted)}
        assert len(seen) == len({*seen}) == (wanted // min(size, wanted) * min(size, wanted) if there else 0)
        assert {*seen} <= {*range(n)}


def test_batch_norms_that_stay_or_cannot_be_measured():
    learner = Measuring()
    train_pass(learner, IdentityBridge(), lesson(9), hyperparameters(), np.random.default_rng(0))
    asked = hyperparameters(batch_norm_rows=8)
    train_pass(learner, IdentityBridge(), lesson(1), asked, np.random.default_rng(0))  # one row has no variance
    train_pass(learner, IdentityBridge(), lesson(9), hyperparameters(batch_norm_rows=1), np.random.default_rng(0))
    assert not hasattr(learner, "shown")
    with pytest.raises(LearnerError, match="batch_norm_rows: got 8, but Recorder has no measure_norms"):
        train_pass(Recorder(), IdentityBridge(), lesson(9), asked, np.random.default_rng(0))


def test_private_samples_alone_and_bridge_samples_alone():
    for private, bridge in ((True, False), (False, True)):
        learner = Recorder()
        rows = lesson(5, private=private, bridge=bridge)
        report = train_pass(learner, IdentityBridge(), rows, hyperparameters(), np.random.default_rng(0))
        batch = learner.batches[0]
        assert (batch.private_x_N is not None, len(batch.bridge_x_N) > 0) == (private, bridge)
        assert len(batch.bridge_y_N) == len(batch.bridge_x_N)
        assert report.rows == 5


def test_the_report_weighs_batches_by_their_rows():
    learner = Recorder()
    report = train_pass(learner, IdentityBridge(), lesson(9), hyperparameters(batch_size=5), np.random.default_rng(0))
    assert report.loss == pytest.approx((1.0 * 5 + 2.0 * 4) / 9)


def test_rows_that_do_not_match_and_no_rows():
    good = lesson(3)
    with pytest.raises(LocalProtocolError, match="got 2 rows of code_NB, expected 3"):
        Lesson(good.label_N, good.code_NB[:2], good.teacher_NC)
    with pytest.raises(LocalProtocolError, match="no rows to train on"):
        train_pass(Recorder(), IdentityBridge(), lesson(0), hyperparameters(), np.random.default_rng(0))


def test_logits_come_in_order_block_by_block(monkeypatch):
    monkeypatch.setattr(passes, "_BLOCK_BYTES", 3 * 16)
    logits_NC = bridge_logits(Recorder(), IdentityBridge(), lesson(8).code_NB)
    np.testing.assert_array_equal(np.rint(logits_NC[:, 0] * 255), np.arange(8))
