import dataclasses
import json
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from simulation.worlds import bands, toy_config

from fedagg_edge import checkpoint
from fedagg_edge.autoencoder import artefact
from fedagg_edge.records import Tier
from fedagg_edge.simulation import build
from fedagg_edge.simulation.evaluate import accuracy, on_own_mix
from fedagg_edge.simulation.experiment import Experiment
from fedagg_edge.simulation.fedagg import FedAgg
from fedagg_edge.simulation.folder import RunFolder
from fedagg_edge.simulation.progress import Silent
from fedagg_edge.simulation.report import table


class Recorder(Silent):
    """A progress that remembers what it heard."""

    def __init__(self):
        self.heard = []

    def stage(self, text):
        self.heard.append(("stage", text))

    def part(self, done, total, text):
        self.heard.append(("part", done, total, text))

    def start(self, first, rounds, passes):
        self.heard.append(("start", first, rounds, passes))

    def trained(self, node):
        self.heard.append(("trained", node))

    def finished(self, number, text):
        self.heard.append(("finished", number, text))


@pytest.fixture
def begin(artefact_path, tmp_path):
    def make(*, data=None, **changes):
        config = toy_config(artefact_path, **changes)
        folder = RunFolder(tmp_path / "run")
        folder.start(config, overwrite=True)
        world = build.build_world(config, bands() if data is None else data, artefact.load(artefact_path))
        experiment = Experiment(folder, world, FedAgg(world, {}), {}, {"data": "d", "autoencoder": "a"})
        experiment.init()
        return experiment

    return make


def lines(experiment):
    return [json.loads(line) for line in experiment.folder.metrics.read_text().splitlines()]


def test_a_round_leaves_a_line_of_metrics(begin):
    experiment = begin()
    at_start = experiment.traffic.total()
    experiment.rounds(Silent())
    rows = lines(experiment)
    assert rows == experiment.rows
    assert [r["round"] for r in rows] == [0, 1]
    for row in rows:
        assert set(row) == {"schema", "round", "accuracy", "own", "loss", "bytes", "seconds"}
        assert set(row["accuracy"]) == set(row["loss"]) == set(experiment.world.nodes)
    assert rows[1]["bytes"] - rows[0]["bytes"] == rows[0]["bytes"] - at_start > 0


def test_views_of_the_cloud_are_in_metrics_and_results(begin):
    experiment = begin(rounds=3, evaluation={"references": False, "every": 2, "views": ["bridge", "raw"]})
    experiment.rounds(Silent())
    rows = lines(experiment)
    assert ["views" in row for row in rows] == [False, True, True]
    world = experiment.world
    test_x_N, test_y_N = world.arrays.test_x_N, world.arrays.test_y_N
    seen_N = world.bridge.decode(world.bridge.encode(test_x_N))
    want = accuracy(world.nodes["cloud"].learner, seen_N, test_y_N)
    assert rows[-1]["views"] == {"bridge": want, "raw": rows[-1]["accuracy"]["cloud"]}
    results = experiment.finish(Silent())
    assert list(results.views_R) == ["bridge", "raw"]
    assert results.views_R["bridge"].tolist() == [row["views"]["bridge"] for row in rows[1:]]
    assert json.loads(experiment.folder.results.read_text())["views"]["bridge"][-1] == round(want, 6)


def test_a_view_is_chosen_on_validation_samples(begin):
    held = bands(seed=5)
    data = dataclasses.replace(bands(), validation_x=held.test_x, validation_y=held.test_y)
    experiment = begin(data=data, evaluation={"references": False, "views": ["raw", "bridge", "both"]})
    experiment.rounds(Silent())
    world, last = experiment.world, lines(experiment)[-1]
    assert sorted(np.concatenate([*world.arrays.rows_of.values()])) == list(range(48))  # no device has them
    want = accuracy(world.nodes["cloud"].learner, held.test_x / np.float32(16), held.test_y)
    assert last["validation"]["raw"] == want
    assert set(last["validation"]) == set(last["views"])
    results = experiment.finish(Silent())
    best = max(last["validation"].values())
    assert last["validation"][results.chosen_view] == best
    assert json.loads(experiment.folder.results.read_text())["chosen_view"] == results.chosen_view
    assert table(results).count("(best on validation samples)") == 1


@pytest.mark.parametrize("schedule", ["sequential", "snapshot"])
def test_progress_hears_of_as_many_passes_as_it_was_promised(begin, schedule):
    experiment, progress = begin(rounds=1, schedule=schedule), Recorder()
    experiment.rounds(progress)
    assert progress.heard[0][:3] == ("start", 0, 1)
    assert progress.heard[0][3] == sum(1 for what, *_ in progress.heard if what == "trained")
    what, number, text = progress.heard[-1]
    assert (what, number) == ("finished", 0)
    scores = experiment.rows[0]["accuracy"]
    devices = 50 * (scores["device-000"] + scores["device-001"])
    assert text == f"cloud {100 * scores['cloud']:.1f}%  edge {100 * scores['edge-0']:.1f}%  device {devices:.1f}%"


def test_not_every_round_is_evaluated_but_the_last_one_is(begin):
    experiment, progress = begin(rounds=5, evaluation={"every": 2, "devices": 1, "references": False}), Recorder()
    experiment.rounds(progress)
    assert [r["accuracy"] is not None for r in lines(experiment)] == [False, True, False, True, True]
    assert set(experiment.rows[-1]["accuracy"]) == {"cloud", "edge-0", "device-000"}
    assert [text for what, _, text in (h for h in progress.heard if h[0] == "finished") if not text] == ["", ""]
    results = experiment.finish(Silent())
    assert results.round_R.tolist() == [1, 3, 4]
    assert results.nodes == ("cloud", "edge-0", "device-000")


def test_devices_are_judged_on_their_own_mixes_too(begin):
    experiment = begin(rounds=2, evaluation={"references": True})
    experiment.rounds(Silent())
    results = experiment.finish(Silent())
    arrays, devices = experiment.world.arrays, experiment.world.tree.tier(Tier.DEVICE)
    hits = experiment.method.hits(devices, arrays.test_x_N, arrays.test_y_N)
    want = {d: on_own_mix(hits[d], arrays.test_y_N, arrays.train_y_N[arrays.rows_of[d]]) for d in devices}
    assert lines(experiment)[-1]["own"] == want
    assert results.final_own == pytest.approx(np.mean([*want.values()]))
    assert results.own_R.shape == (2,)
    assert 0 <= results.alone_own <= 1


def test_rounds_of_an_older_version_have_no_own_mix(begin):
    experiment = begin(rounds=2, evaluation={"references": False})
    experiment.rounds(Silent())
    experiment.rows[0] = {k: v for k, v in experiment.rows[0].items() if k != "own"}
    results = experiment.finish(Silent())
    assert np.isnan(results.own_R[0])
    assert np.isfinite(results.own_R[1])


def test_a_run_cut_short_is_evaluated_at_its_end(begin):
    experiment = begin(rounds=2, evaluation={"every": 5, "references": False})
    experiment.rounds(Silent())
    last = experiment.rows[-1]["accuracy"]
    experiment.rows[-1] = {**experiment.rows[-1], "accuracy": None}
    results = experiment.finish(Silent())
    assert dict(zip(results.nodes, results.accuracy_RV[-1], strict=True)) == last


@pytest.mark.parametrize(("every", "rounds"), [(1, [3, 4]), (2, [3, 4]), (3, [2, 4]), (9, [4])])
def test_checkpoints_come_as_often_as_asked_and_at_the_end(begin, every, rounds):
    experiment = begin(rounds=5, checkpoint_every=every)
    experiment.rounds(Silent())
    assert checkpoint.list_rounds(experiment.folder.checkpoints) == rounds
    saved = checkpoint.load(experiment.folder.checkpoints)
    tensors, nodes = experiment.method.snapshot()
    assert saved.meta["nodes"] == nodes
    assert (saved.meta["data"], saved.meta["autoencoder"]) == ("d", "a")
    assert saved.meta["metrics_length"] == experiment.folder.metrics.stat().st_size
    assert set(saved.tensors) == set(tensors)
    for name, values in tensors.items():
        np.testing.assert_array_equal(saved.tensors[name], values)


def test_a_finished_run_leaves_results_pictures_and_the_clouds_model(begin):
    experiment, progress = begin(evaluation={"references": True}), Recorder()
    experiment.rounds(progress)
    results = experiment.finish(progress)
    folder = experiment.folder
    assert {p.name for p in folder.root.iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoints", "results.json", "cloud.safetensors", "curves.png", "bridge.png",
    }  # fmt: skip
    cloud = experiment.world.nodes["cloud"].learner.state().arrays()
    written = load_file(folder.cloud)
    assert set(written) == set(cloud)
    for name, values in cloud.items():
        np.testing.assert_array_equal(written[name], values)
    said = json.loads(folder.results.read_text())
    assert (said["alone"], said["centralised"]) == (results.alone, results.centralised)
    assert said["final"]["cloud"] == round(results.final(Tier.CLOUD), 6)
    assert ("stage", "references: 2 devices alone, the cloud's model on all private data") in progress.heard
    parts = [h[1:] for h in progress.heard if h[0] == "part"]
    assert parts == [(i, 6, "passes") for i in range(1, 7)]  # two devices and the cloud, two rounds
    assert results.accuracy_RV.shape == (2, 4)
    assert results.tiers == (Tier.CLOUD, Tier.EDGE, Tier.DEVICE, Tier.DEVICE)
    assert results.bytes_total == experiment.traffic.total() == experiment.rows[-1]["bytes"]
    assert results.bytes_per_device == np.mean([experiment.traffic.of(f"device-00{i}") for i in (0, 1)])


def test_the_clouds_model_loads_into_the_same_model(begin):
    import torch

    from fedagg_edge.learners.zoo import build_model

    experiment = begin(rounds=1)
    experiment.rounds(Silent())
    experiment.finish(Silent())
    model = build_model("mlp", (1, 8, 8), 3)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in load_file(experiment.folder.cloud).items()})
    x = experiment.world.arrays.test_x_N
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(logits, experiment.world.nodes["cloud"].learner.logits(x), atol=1e-6)


def test_without_matplotlib_there_are_no_pictures_but_all_the_rest(begin, monkeypatch):
    experiment, progress = begin(rounds=1), Recorder()
    experiment.rounds(progress)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    experiment.finish(progress)
    assert progress.heard[-1] == ("stage", "no pictures: matplotlib is missing; pip install 'fedagg-edge[sim]'")
    assert experiment.folder.results.exists()
    assert not experiment.folder.curves.exists()
