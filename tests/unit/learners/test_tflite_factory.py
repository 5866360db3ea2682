import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import config

from fedagg_edge.config import Hyperparameters, ModelConfig
from fedagg_edge.errors import ArtefactError, ConfigError, ExportError, LearnerError
from fedagg_edge.export.tflite import export_tflite
from fedagg_edge.learners import learner_factory
from fedagg_edge.learners.base import LearnerSpec
from fedagg_edge.learners.tflite_factory import make_learner
from fedagg_edge.learners.torch import make_learner as make_torch_learner
from fedagg_edge.learners.torch import seeded_model
from fedagg_edge.records import Tier
from fedagg_edge.simulation.run import simulate

MLP = ModelConfig(builder="mlp", options={"hidden": [6]})


def spec(model: ModelConfig = MLP, seed: int = 0, **changes: Any) -> LearnerSpec:
    return replace(LearnerSpec(model, (1, 8, 8), 4, Hyperparameters(), seed), **changes)


def test_a_node_starts_with_the_weights_that_torch_would_give_it() -> None:
    assert learner_factory("tflite", ".") is make_learner
    for seed in (1, 2):
        state = make_learner(spec(seed=seed)).state()
        expected = make_torch_learner(spec(seed=seed)).state()
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
        make_learner(spec(ModelConfig(builder="odd_model:build"), base_dir=str(tmp_path)))


def test_what_the_engine_does_not_have_is_refused_before_anything_is_compiled() -> None:
    with pytest.raises(ConfigError, match="distillation: got 'decoupled' with engine 'tflite', expected 'classical'"):
        make_learner(spec(hyperparameters=Hyperparameters(distillation="decoupled")))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "small.tflite"
    export_tflite(seeded_model(spec(seed=7)), (1, 8, 8), 4, path)
    return path


def from_file(path: Path, **changes: Any) -> LearnerSpec:
    model = ModelConfig(builder=path.name, options=changes.pop("options", {}))
    return spec(model, base_dir=str(path.parent), **changes)


def test_a_training_file_by_its_path_starts_with_its_own_weights(exported: Path) -> None:
    expected = make_torch_learner(spec(seed=7)).state().weights
    for seed in (1, 2):
        np.testing.assert_array_equal(make_learner(from_file(exported, seed=seed)).state().weights, expected)


def test_a_training_file_of_another_model_or_with_options_is_refused(exported: Path) -> None:
    with pytest.raises(ArtefactError, match="got a model of 4 classes, expected 5"):
        make_learner(from_file(exported, classes=5))
    with pytest.raises(ArtefactError, match=r"got a model for samples of \(1, 8, 8\), expected \(1, 9, 9\)"):
        make_learner(from_file(exported, sample_shape=(1, 9, 9)))
    with pytest.raises(LearnerError, match=r"got options \['hidden'\], but a training file has its options built in"):
        make_learner(from_file(exported, options={"hidden": [6]}))
    with pytest.raises(ArtefactError, match=r"other\.tflite: cannot read the training file: No such file"):
        make_learner(from_file(exported.with_name("other.tflite")))


@pytest.mark.slow
def test_a_process_without_torch_stays_without() -> None:
    program = """
import sys
import fedagg_edge.config as c
from fedagg_edge.learners import base, learner_factory
model = c.ModelConfig(builder="mlp", options={"hidden": [6]})
learner = learner_factory("tflite", ".")(base.LearnerSpec(model, (1, 8, 8), 4, c.Hyperparameters(), 2))
assert "torch" not in sys.modules
print(float(learner.state().weights[0]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = make_torch_learner(spec(seed=2)).state().weights[0]
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
