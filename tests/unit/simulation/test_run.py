import json
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from simulation.worlds import DEVICES, EDGE, bands, toy_config

import fedagg_edge
from fedagg_edge import checkpoint
from fedagg_edge.errors import CheckpointError, ConfigError, DataError, StateInUse
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.lock import StateLock
from fedagg_edge.records import Tier
from fedagg_edge.simulation.experiment import Experiment
from fedagg_edge.simulation.progress import Silent
from fedagg_edge.simulation.run import Resume, simulate


def metrics(folder):
    """The metrics without the time they took."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def last_state(folder):
    return {name: a.tobytes() for name, a in checkpoint.load(folder / "checkpoints").tensors.items()}


def assert_same_run(one, other):
    """Metrics, all weights, optimizer slots and results are the same to the last bit."""
    assert metrics(one) == metrics(other)
    assert last_state(one) == last_state(other)
    results = [json.loads((f / "results.json").read_text()) for f in (one, other)]
    for r in results:
        del r["seconds"], r["folder"]
    assert results[0] == results[1]


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """Pictures are most of the time of runs this short; test_experiment.py draws them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "_draw", lambda self, results, progress: None)
        yield


@pytest.fixture
def go(artefact_path, tmp_path):
    """Run a small configuration with the given changes; `given` are arguments of `simulate`."""

    def run(out, *, given=None, **changes):
        arguments = {"dataset": bands(), **(given or {})}
        return simulate(toy_config(artefact_path, **changes), out=tmp_path / out, **arguments)

    return run


class Killed(Exception):
    """Stands for a SIGKILL at the end of a round."""


class KillAfter(Silent):
    """Stops the run when round `number` is finished, or in the middle of the one after it."""

    def __init__(self, number, passes=0):
        self.number, self.passes, self.armed = number, passes, False

    def finished(self, number, text):
        if number == self.number:
            self.armed = True
            if not self.passes:
                raise Killed

    def trained(self, node):
        if self.armed:
            self.passes -= 1
            if self.passes == 0:
                raise Killed


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(go, tmp_path):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        go(out, seed=seed, evaluation={"references": True})
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/cloud.safetensors").read_bytes() == (tmp_path / "b/cloud.safetensors").read_bytes()
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


def test_two_runs_in_one_folder_are_refused(go, tmp_path):
    with StateLock(tmp_path / "a"), pytest.raises(StateInUse, match=f"process {os.getpid()} owns it"):
        go("a")
    go("a", rounds=1)
    with StateLock(tmp_path / "a"), pytest.raises(StateInUse):
        go("a", given={"resume": True})
    go("a", given={"resume": True})


def test_going_on_with_no_run_leaves_no_folder(go, tmp_path):
    with pytest.raises(CheckpointError, match="no run here to resume"):
        go("a", given={"resume": True})
    assert not (tmp_path / "a").exists()


def test_a_decode_cache_changes_nothing_but_last_bits(go, tmp_path):
    plain, kept = (go(f"cache-{megabytes}", decode_cache=megabytes, workers=2) for megabytes in (0, 64))
    again = go("again", decode_cache=64)
    np.testing.assert_allclose(kept.accuracy_RV, plain.accuracy_RV, atol=0.05)
    np.testing.assert_array_equal(again.accuracy_RV, kept.accuracy_RV)
    assert last_state(tmp_path / "cache-64") == last_state(tmp_path / "again")


def test_what_torchs_generator_did_before_does_not_matter(go, tmp_path):
    def droppy(sample_shape, classes):
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.LazyLinear(9), torch.nn.Dropout(0.5), torch.nn.Linear(9, classes)
        )

    for out, seed in (("a", 1), ("b", 2)):
        torch.manual_seed(seed)
        go(out, given={"models": {"mlp": droppy}})
    assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("changes", [{"knowledge": "f16"}, {"knowledge": "int8"}, {"schedule": "snapshot"}])
def test_every_form_of_knowledge_and_both_schedules_learn(go, tmp_path, trained_path, changes):
    autoencoder = {"path": str(trained_path)}
    plain = go("plain", rounds=1, autoencoder=autoencoder)
    results = go("run", rounds=8, autoencoder=autoencoder, **changes)
    assert np.isfinite(results.accuracy_RV).all()
    assert results.final(Tier.CLOUD) > 0.8  # of three classes
    first = metrics(tmp_path / "run")[0]
    assert first["loss"] != metrics(tmp_path / "plain")[0]["loss"]
    if "knowledge" in changes:
        assert first["bytes"] < plain.bytes_total


TREES = {
    "two tiers": ([DEVICES], (0, 2)),
    "three tiers": ([EDGE, EDGE], (2, 4)),
    "four tiers": ([{"model": "mlp", "children": [EDGE]}], (2, 2)),
    "uneven, a device beside edges": (
        [{"model": "mlp"}, EDGE, {"model": "mlp", "children": [EDGE, {"model": "mlp"}]}], (3, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("schedule", ["sequential", "snapshot"])
@pytest.mark.parametrize("name", TREES)
def test_trees_of_any_shape(go, name, schedule):
    children, (edges, devices) = TREES[name]
    results = go("run", rounds=1, schedule=schedule, tree={"model": "mlp", "children": children})
    assert [results.tiers.count(t) for t in (Tier.CLOUD, Tier.EDGE, Tier.DEVICE)] == [1, edges, devices]
    assert results.accuracy_RV.shape == (1, 1 + edges + devices)
    assert np.isfinite(results.accuracy_RV).all()


def test_results_are_arrays_and_the_bound_is_there(go):
    results = go("run", rounds=3, evaluation={"references": True, "every": 2})
    assert (results.round_R.dtype, results.round_R.tolist()) == (np.int64, [1, 2])
    assert (results.accuracy_RV.dtype, results.accuracy_RV.shape) == (np.float64, (2, 4))
    assert results.nodes == ("cloud", "edge-0", "device-000", "device-001")
    gap = (results.final(Tier.CLOUD) - results.alone) / (results.centralised - results.alone or 1)
    assert results.gap_closed is None or results.gap_closed == pytest.approx(gap)
    assert fedagg_edge.simulate is simulate


def test_everything_plugs_in_from_python(go):
    seen = {"models": [], "learners": [], "partition": []}

    def wide(sample_shape, classes, hidden=5):
        seen["models"].append((sample_shape, classes, hidden))
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, hidden), torch.nn.Linear(hidden, classes))

    def own(spec):
        seen["learners"].append((spec.model.builder, spec.seed))
        torch.manual_seed(spec.seed)
        return TorchLearner(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, spec.classes)))

    def halves(dataset, devices, rng):
        seen["partition"].append(devices)
        return np.array_split(np.arange(len(dataset.train_x)), devices)

    results = go(
        "run",
        given={"models": {"wide": wide}, "learners": {"own": own}, "partition": halves},
        models={"wide": {"builder": "not-looked-at", "options": {"hidden": 7}}},
        tree={"model": "wide", "children": [{"model": "own", "children": [DEVICES]}]},
        rounds=1,
    )
    assert seen["models"] == [((1, 8, 8), 3, 7)]
    assert [name for name, _ in seen["learners"]] == ["own"]
    assert seen["partition"] == [2]
    weights = load_file(results.folder / "cloud.safetensors")
    assert weights["1.weight"].shape == (7, 64)


PLUGINS = """
import numpy as np, torch
from fedagg_edge.datasets import Dataset
from fedagg_edge.learners.torch import TorchLearner

def load(count):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 17, (count, 1, 8, 8)).astype(np.uint8), np.arange(count) % 3
    return Dataset(name="mine", classes=3, train_x=x, train_y=y, test_x=x[:9], test_y=y[:9],
                   input_low=(0.0,), input_high=(16.0,))

def deal(dataset, devices, rng, first):
    rows = rng.permutation(len(dataset.train_x))
    return [np.sort(rows[:first]), np.sort(rows[first:])]

def build(sample_shape, classes, hidden):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, hidden), torch.nn.Linear(hidden, classes))

def learner(spec):
    torch.manual_seed(spec.seed)
    return TorchLearner(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, spec.classes)), "adam")
"""

PROJECT = """
name = "mine"
rounds = 1
evaluation.references = false
[data]
source = "my_parts:load"
options = {{ count = 30 }}
[partition]
rule = "my_parts:deal"
options = {{ first = 20 }}
[autoencoder]
path = "{autoencoder}"
[models.big]
builder = "my_parts:build"
options = {{ hidden = 6 }}
[tree]
model = "big"
[[tree.children]]
model = "big"
count = 2
[training.device]
engine = "my_parts:learner"
"""


def test_everything_plugs_in_from_the_configurations_folder(artefact_path, tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    (project / "my_parts.py").write_text(PLUGINS)
    shutil.copy(artefact_path, project / "a.safetensors")
    (project / "experiment.toml").write_text(PROJECT.format(autoencoder="a.safetensors"))
    monkeypatch.chdir(tmp_path)
    results = simulate(project / "experiment.toml")
    assert str(results.folder) == "runs/mine"
    saved = checkpoint.load(results.folder / "checkpoints")
    assert saved.meta["nodes"]["device-000"]["slots"] == ["exp_avg", "exp_avg_sq"]
    assert saved.meta["nodes"]["cloud"]["slots"] == ["momentum"]
    assert saved.tensors["cloud/weights"].size == 64 * 6 + 6 + 6 * 3 + 3
    assert saved.tensors["device-000/weights"].size == 64 * 3 + 3


def test_a_mapping_in_the_tomls_shape_will_do(artefact_path, tmp_path):
    raw = {
        "name": "m",
        "rounds": 1,
        "data": {"source": "digits"},
        "autoencoder": {"path": str(artefact_path)},
        "tree": {"model": "mlp", "children": [DEVICES]},
        "evaluation": {"references": False},
    }
    assert simulate(raw, out=tmp_path / "m").round_R.tolist() == [0]


@pytest.mark.parametrize("round_and_passes", [(0, 0), (1, 3)])
def test_queues_of_rectification_survive_a_stop(go, tmp_path, round_and_passes):
    changes = {"rounds": 3, "training": {"rectification": 4, "teacher_trust": "confidence"}}
    go("whole", **changes)
    go("without", rounds=3, training={"teacher_trust": "confidence"})
    assert metrics(tmp_path / "whole") != metrics(tmp_path / "without")
    with pytest.raises(Killed):
        go("cut", given={"progress": KillAfter(*round_and_passes)}, **changes)
    go("cut", given={"resume": True}, **changes)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    saved = checkpoint.load(tmp_path / "cut" / "checkpoints").tensors
    assert saved["cloud/rectifier/count"].sum() > 0


def test_views_of_bridge_samples_change_a_run_and_survive_a_stop(go, tmp_path):
    go("plain")
    go("whole", bridge_views="mirror+shift")
    assert metrics(tmp_path / "whole") != metrics(tmp_path / "plain")
    with pytest.raises(Killed):
        go("cut", given={"progress": KillAfter(0)}, bridge_views="mirror+shift")
    go("cut", given={"resume": True}, bridge_views="mirror+shift")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("round_and_passes", [(0, 0), (0, 3), (1, 0), (1, 1), (3, 0)])
@pytest.mark.parametrize("every", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_end(go, tmp_path, round_and_passes, every):
    changes = {"rounds": 4, "training": {"device": {"optimizer": "adam"}}, "checkpoint_every": every}
    go("whole", **changes)
    with pytest.raises(Killed):
        go("cut", given={"progress": KillAfter(*round_and_passes)}, **changes)
    go("cut", given={"resume": True}, **changes)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@settings(max_examples=6)
@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(1, 6)), min_size=1, max_size=4))
def test_any_number_of_kills(artefact_path, tmp_path_factory, kills):
    base, config = tmp_path_factory.mktemp("kills"), toy_config(artefact_path, rounds=3)
    simulate(config, out=base / "whole", dataset=bands())
    for i, (number, passes) in enumerate(kills):
        watcher = KillAfter(number, passes)
        watcher.armed = number < 0
        try:
            simulate(config, out=base / "cut", dataset=bands(), resume=i > 0, progress=watcher)
        except Killed:
            continue
    simulate(config, out=base / "cut", dataset=bands(), resume=True)
    assert_same_run(base / "whole", base / "cut")


def test_a_finished_run_may_be_given_more_rounds(go, tmp_path):
    go("whole", rounds=4)
    go("more", rounds=2)
    go("more", rounds=4, given={"resume": True})
    assert_same_run(tmp_path / "whole", tmp_path / "more")


def test_a_finished_run_resumed_gives_the_same_results(go, tmp_path):
    first = go("run")
    again = go("run", given={"resume": True})
    np.testing.assert_array_equal(first.accuracy_RV, again.accuracy_RV)
    assert again.bytes_total == first.bytes_total


def test_fewer_rounds_than_are_done_are_refused(go):
    go("run", rounds=3)
    with pytest.raises(ConfigError, match=r"rounds: got 2, but the checkpoint in .* is of 3 finished rounds"):
        go("run", rounds=2, given={"resume": True})
    assert go("run", rounds=2, given={"resume": Resume(1)}).round_R.tolist() == [0, 1]


def test_a_run_is_not_started_over_by_mistake(go, tmp_path):
    go("run", rounds=1)
    before = metrics(tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run already"):
        go("run", rounds=1)
    assert metrics(tmp_path / "run") == before
    go("run", rounds=1, seed=3, given={"overwrite": True})
    assert metrics(tmp_path / "run") != before


def test_resuming_with_another_configuration_names_the_keys(go):
    go("run")
    with pytest.raises(ConfigError, match="made with another schedule, seed;"):
        go("run", seed=4, schedule="snapshot", given={"resume": True})


def test_resuming_with_other_data_is_refused(go):
    go("run")
    with pytest.raises(CheckpointError, match="the data is not what this run was started with"):
        go("run", given={"resume": True, "dataset": bands(seed=7)})


def test_resuming_what_never_began(go, tmp_path):
    with pytest.raises(CheckpointError, match="no run here to resume"):
        go("run", given={"resume": True})
    assert not (tmp_path / "run").exists()


def test_resuming_before_the_first_checkpoint_starts_from_the_beginning(go, tmp_path):
    go("whole")
    with pytest.raises(Killed):
        go("cut", checkpoint_every=2, given={"progress": KillAfter(0)})
    assert checkpoint.list_rounds(tmp_path / "cut/checkpoints") == []
    assert len(metrics(tmp_path / "cut")) == 1
    go("cut", checkpoint_every=2, given={"resume": True})
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_leads_to_the_same_end(go, tmp_path, suffix):
    go("whole", rounds=5)
    with pytest.raises(Killed):
        go("cut", rounds=5, given={"progress": KillAfter(3)})
    path = tmp_path / f"cut/checkpoints/round-000003.{suffix}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="round 2 is whole: use --resume 2"):
        go("cut", rounds=5, given={"resume": True})
    go("cut", rounds=5, given={"resume": Resume(2)})
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_going_back_and_being_killed_at_once_can_still_be_resumed(go, tmp_path):
    go("whole", rounds=4)
    with pytest.raises(Killed):
        go("cut", rounds=4, given={"progress": KillAfter(2)})
    back = KillAfter(-1, passes=1)
    back.armed = True
    with pytest.raises(Killed):
        go("cut", rounds=4, given={"resume": Resume(1), "progress": back})
    go("cut", rounds=4, given={"resume": True})
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_round_without_a_checkpoint_is_named(go):
    go("run", rounds=4)
    with pytest.raises(CheckpointError, match="no checkpoint of round 0; there are 2, 3"):
        go("run", rounds=4, given={"resume": Resume(0)})


def test_a_changed_autoencoder_is_refused(go, tmp_path):
    from autoencoder.making import make_artefact

    from fedagg_edge.autoencoder import artefact
    from fedagg_edge.errors import ArtefactError

    go("run")
    artefact.save(make_artefact(embedding_channels=1), tmp_path / "run/autoencoder.safetensors")
    with pytest.raises(ArtefactError, match="digest"):
        go("run", given={"resume": True})


def test_a_run_that_fails_early_closes_its_progress_and_leaves_nothing_half_done(go, tmp_path):
    closed = []
    watcher = Silent()
    watcher.close = lambda: closed.append(True)
    with pytest.raises(DataError, match="partition"):
        go("run", tree={"model": "mlp", "children": [{"model": "mlp", "count": 49}]}, given={"progress": watcher})
    assert closed == [True]
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_the_number_of_threads_is_the_configurations(go):
    go("run", rounds=1, threads=2)
    assert torch.get_num_threads() == 2
    go("again", rounds=1)
    assert torch.get_num_threads() == 1
