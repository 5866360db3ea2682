"""The engine `executorch` of a configuration. Needs ExecuTorch."""

from __future__ import annotations

import numpy as np
import pytest

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.learners import learner_factory
from fedagg_edge.learners.base import LearnerSpec

pytest.importorskip("executorch", reason="ExecuTorch is not installed")


def test_weights_are_those_that_torch_would_draw() -> None:
    model = ModelConfig(builder="mlp", options={"hidden": [4]})
    specs = [LearnerSpec(model, (1, 2, 2), 3, Hyperparameters(), seed) for seed in (5, 6)]
    mine = [learner_factory("executorch", ".")(spec) for spec in specs]
    theirs = [learner_factory("torch", ".")(spec) for spec in specs]
    for a, b in zip(mine, theirs, strict=True):
        assert a.state().table == b.state().table
        np.testing.assert_array_equal(a.state().weights, b.state().weights)
    assert mine[0]._file is mine[1]._file  # exported once
