"""The engine `executorch` of a configuration. Needs ExecuTorch."""

from __future__ import annotations

import numpy as np
import pytest

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.learners import learner_factory

pytest.importorskip("executorch", reason="ExecuTorch is not installed")


def test_weights_are_those_that_torch_would_draw() -> None:
    model = ModelConfig(builder="mlp", options={"hidden": [4]})
    arguments = {"sample_shape": (1, 2, 2), "classes": 3, "hyperparameters": Hyperparameters(), "base_dir": "."}
    mine = [learner_factory("executorch", ".")(model, seed=s, **arguments) for s in (5, 6)]
    theirs = [learner_factory("torch", ".")(model, seed=s, **arguments) for s in (5, 6)]
    for a, b in zip(mine, theirs, strict=True):
        assert a.state().table == b.state().table
        np.testing.assert_array_equal(a.state().weights, b.state().weights)
    assert mine[0]._file is mine[1]._file  # exported once
