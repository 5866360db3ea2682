import sys
from types import ModuleType

import numpy as np
import pytest
from compiled import CLASSES, IMAGE, small_file

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners import tflite_file
from fedagg_edge.learners.tflite_runtime import open_graphs


def test_it_says_which_runtime_it_chose() -> None:
    graphs = open_graphs(tflite_file.loads(small_file()))
    assert graphs.runtime.name == "ai-edge-litert"
    assert graphs.runtime.version[0].isdigit()


def test_the_gradient_is_that_of_the_last_forward_pass_whatever_the_batch_size() -> None:
    file = tflite_file.loads(small_file())
    graphs = open_graphs(file)
    rng = np.random.default_rng(0)
    for rows in (3, 8, 3, 1):
        x_N = rng.random((rows, *IMAGE), np.float32)
        logits_NC, buffers = graphs.forward(x_N, file.weights, {})
        assert buffers is None
        np.testing.assert_allclose(logits_NC, graphs.infer(x_N, file.weights), atol=1e-6)
        gradient = graphs.gradient(x_N, file.weights, np.ones((rows, CLASSES), np.float32))
        np.testing.assert_allclose(gradient[-CLASSES:], np.full(CLASSES, rows), rtol=1e-6)


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
