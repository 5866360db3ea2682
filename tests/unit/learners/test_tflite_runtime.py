import sys
from types import ModuleType

import numpy as np
import pytest
from compiled import CLASSES, IMAGE, small_file

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners import objective, tflite_file
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.targets import private_targets
from fedagg_edge.learners.tflite_runtime import open_graphs, refuse_if_none


def test_it_says_which_runtime_it_chose() -> None:
    graphs = open_graphs(tflite_file.loads(small_file()))
    assert graphs.runtime.name == "ai-edge-litert"
    assert graphs.runtime.version[0].isdigit()


def test_a_pass_whatever_the_batch_size() -> None:
    """The last layer's bias has dLoss/dlogits itself as its gradient, summed over the batch: softmax less labels."""
    file = tflite_file.loads(small_file())
    graphs = open_graphs(file)
    rng = np.random.default_rng(0)
    for rows in (3, 8, 3, 1):
        x_N = rng.random((rows, *IMAGE), np.float32)
        batch = Batch(x_N[:0], np.zeros(0, np.int64), None, x_N, np.arange(rows) % CLASSES)
        logits_NC, buffers, gradient = graphs.train(x_N, file.weights, {}, private_targets(batch, CLASSES))
        assert buffers is None
        np.testing.assert_allclose(logits_NC, graphs.infer(x_N, file.weights), atol=1e-6)
        expected_NC = objective.private_loss(logits_NC, batch).gradient_NC
        np.testing.assert_allclose(gradient[-CLASSES:], expected_NC.sum(0), atol=1e-6)


def test_a_runtime_that_can_be_imported_but_not_used_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, **_: object) -> None:
            raise ImportError("numpy.core.multiarray failed to import")

    module = ModuleType("tflite_runtime.interpreter")
    module.Interpreter = Broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tflite_runtime", ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", module)
    file = tflite_file.loads(small_file())
    with pytest.raises(LearnerError, match=r"tflite-runtime cannot make an interpreter: .*multiarray"):
        open_graphs(file, prefer="tflite-runtime")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(LearnerError, match=r"ai-edge-litert.*; tflite-runtime cannot make"):
        open_graphs(file)


def test_an_unknown_runtime() -> None:
    with pytest.raises(LearnerError, match="'torch' is not known"):
        open_graphs(tflite_file.loads(small_file()), prefer="torch")
    with pytest.raises(LearnerError, match="'torch' is not known"):
        refuse_if_none("torch")


def test_a_runtime_is_missed_before_one_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_if_none()
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)  # as if it was not installed
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    missing = r"ai-edge-litert is not installed: pip install 'fedagg-edge\[litert\]'; tflite-runtime is not installed"
    with pytest.raises(LearnerError, match=missing):
        refuse_if_none()
    monkeypatch.setitem(sys.modules, "tflite_runtime", ModuleType("tflite_runtime"))
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(LearnerError, match=r"cannot make an interpreter \(it needs numpy < 2, got 2\.1\.0\)"):
        refuse_if_none("tflite-runtime")
    monkeypatch.setattr(np, "__version__", "1.26.4")
    refuse_if_none()
