import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import config

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.errors import ExportError
from fedagg_edge.learners import learner_factory
from fedagg_edge.learners.tflite_factory import make_learner
from fedagg_edge.learners.torch import make_learner as make_torch_learner
from fedagg_edge.records import Tier
from fedagg_edge.simulation.run import simulate

SETTINGS: dict[str, Any] = {
    "sample_shape": (1, 8, 8),
    "classes": 4,
    "hyperparameters": Hyperparameters(),
    "base_dir": ".",
}
MLP = ModelConfig(builder="mlp", options={"hidden": [6]})


def test_a_node_starts_with_the_weights_that_torch_would_give_it() -> None:
    assert learner_factory("tflite", ".") is make_learner
    for seed in (1, 2):
        state = make_learner(MLP, seed=seed, **SETTINGS).state()
        expected = make_torch_learner(MLP, seed=seed, **SETTINGS).state()
        assert state.table == expected.table
        np.testing.assert_array_equal(state.weights, expected.weights)


def test_a_model_that_cannot_be_compiled_says_why(tmp_path) -> None:
    (tmp_path / "odd_model.py").write_text(
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last = torch.nn.Linear(64, 4)\n"
        "    def forward(self, x):\n"
        "        return torch.erfinv(self.last(x.flatten(1)))\n"
        "def build(sample_shape, classes):\n"
        "    return Odd()\n",
        encoding="utf-8",
    )
    with pytest.raises(ExportError, match=r"aten\.erfinv\.default .* at odd_model\.py:7"):
        make_learner(ModelConfig(builder="odd_model:build"), seed=0, **{**SETTINGS, "base_dir": str(tmp_path)})


@pytest.mark.slow
def test_a_process_without_torch_stays_without() -> None:
    program = """
import sys
import fedagg_edge.config as c
from fedagg_edge.learners import learner_factory
learner = learner_factory("tflite", ".")(c.ModelConfig(builder="mlp", options={"hidden": [6]}),
    sample_shape=(1, 8, 8), classes=4, hyperparameters=c.Hyperparameters(), seed=2, base_dir=".")
assert "torch" not in sys.modules
print(float(learner.state().weights[0]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = make_torch_learner(MLP, seed=2, **SETTINGS).state().weights[0]
    assert float(done.stdout) == pytest.approx(float(expected), abs=1e-7)


def test_a_simulation_runs_its_devices_on_it(tmp_path: Path) -> None:
    """The same tree, its devices once by torch and once by TFLite, which knows no other weights than torch's.

    One round: rounding errors grow with each.
    """
    found = {}
    for engine in ("torch", "tflite"):
        settings = config(
            name=engine, rounds=1, training={"device": {"engine": engine}}, evaluation={"references": False}
        )
        found[engine] = simulate(settings, out=tmp_path / engine)
    assert found["torch"].nodes == found["tflite"].nodes
    assert (found["torch"].tiers.count(Tier.DEVICE), found["tflite"].round_R[-1]) == (2, 0)
    np.testing.assert_allclose(found["tflite"].accuracy_RV, found["torch"].accuracy_RV, atol=0.02)
