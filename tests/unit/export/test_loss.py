"""dLoss/dlogits as a graph computes it, against the kernel's."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fedagg_edge.config import Hyperparameters
from fedagg_edge.export.loss import write_upstream
from fedagg_edge.export.writer import ModelWriter
from fedagg_edge.learners import objective
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.targets import bridge_targets

N, C = 6, 5


def graph() -> Interpreter:
    model = ModelWriter("a test")
    g = model.graph("loss")
    logits = g.input("logits", (-1, C))
    g.finish("loss", {"upstream": write_upstream(g, logits)})
    return Interpreter(model_content=model.finish({}))


@pytest.mark.parametrize("kl", ["teacher||student", "student||teacher"])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_both_directions_also_where_the_softmax_is_all_but_one_hot(kl: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    logits_NC = scale * rng.standard_normal((N, C), np.float32)
    teacher_NC, y_N = scale * rng.standard_normal((N, C), np.float32), rng.integers(0, C, N)
    batch = Batch(np.zeros((N, 1), np.float32), y_N, teacher_NC)
    hyperparameters = Hyperparameters(kl=kl, temperature=2.0)  # type: ignore[arg-type]
    expected_NC = objective.bridge_loss(logits_NC, batch, hyperparameters).gradient_NC
    targets, settings = bridge_targets(batch, hyperparameters, C)
    got_NC = graph().get_signature_runner("loss")(logits=logits_NC, targets=targets, settings=settings)["upstream"]
    np.testing.assert_allclose(got_NC, expected_NC, atol=1e-6 * scale)


def test_nan_logits_give_a_nan_gradient() -> None:
    batch = Batch(np.zeros((N, 1), np.float32), np.zeros(N, np.int64), None)
    logits_NC = np.zeros((N, C), np.float32)
    logits_NC[2, 3] = np.nan
    targets, settings = bridge_targets(batch, Hyperparameters(), C)
    got_NC = graph().get_signature_runner("loss")(logits=logits_NC, targets=targets, settings=settings)["upstream"]
    assert np.isnan(got_NC[2]).any()
    assert np.isfinite(np.delete(got_NC, 2, 0)).all()
