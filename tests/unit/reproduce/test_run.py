import fcntl
import json
import re
import subprocess
import threading

import pytest
import torch
from reproduce.making import SCALE, data_file, ready_autoencoders, row

from fedagg_edge.autoencoder import artefact
from fedagg_edge.errors import ConfigError, DataError
from fedagg_edge.lock import StateLock
from fedagg_edge.reproduce.cells import Cell, Scale
from fedagg_edge.reproduce.rows import read, write
from fedagg_edge.reproduce.run import Bench, commit_of, finished, obtain_autoencoder, publish, run_cell, run_cells
from fedagg_edge.reproduce.tables import METHODS, Setting, Variant
from fedagg_edge.simulation.folder import RunFolder
from fedagg_edge.simulation.progress import Silent

torch.set_num_threads(1)


class Telling(Silent):
    """Keeps what it was told."""

    def __init__(self, said):
        self.said = said

    def stage(self, text):
        self.said.append(text)


@pytest.fixture
def said():
    return []


@pytest.fixture
def bench(tmp_path, said):
    ready_autoencoders(tmp_path / "runs")
    return Bench(data_file(tmp_path), tmp_path / "runs", tmp_path / "out", lambda: Telling(said), "abc")


def cell(method="alone", *, seed=0, rounds=2, preset="default"):
    return Cell("cifar10", Setting(225, 3.0), Variant(method, preset), seed, Scale(rounds, SCALE, 40))


def test_fedagg_end_to_end(bench):
    assert run_cells([cell("fedagg", rounds=1)], bench) == []
    rows = read(bench.out / "results.json")
    assert [(r.tier, r.view) for r in rows] == [
        ("cloud", "both"),
        ("cloud", "bridge"),
        ("cloud", "raw"),
        ("device", "own"),
        ("device", "raw"),
        ("edge", "raw"),
    ]
    assert {(r.ran_devices, r.ran_edges, r.train_rows, r.test_rows, r.commit) for r in rows} == {(4, 2, 100, 40, "abc")}
    assert all(0 <= r.accuracy <= 1 and r.bytes > 0 for r in rows)
    report = (bench.out / "results.md").read_text()
    assert "4 devices below 2 edges (paper: 225 below 15), 100 training and 40 test images, 1 rounds" in report
    picture = re.search(r"\((img/.*\.png)\)", report)[1]
    assert (bench.out / picture).exists()


@pytest.mark.parametrize("preset", ["paper", "tuned"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_under_its_presets(bench, method, preset):
    """`tuned` has all that `default` has: a preset that some learner cannot follow is told here, not after an hour."""
    assert run_cells([cell(method, rounds=1, preset=preset)], bench) == []
    assert {r.method for r in read(bench.out / "results.json")} == {method}


def test_what_is_finished_is_not_run_again(bench, said):
    run_cells([cell(), cell("hierfavg")], bench)
    before = (bench.out / "results.json").read_bytes()
    assert len(said) == 2
    said.clear()
    (bench.out / "results.json").unlink()
    assert run_cells([cell(), cell("hierfavg")], bench) == []
    assert said == []
    assert (bench.out / "results.json").read_bytes() == before


def test_checkpoints_go_with_the_end_unless_they_are_to_stay(bench):
    run_cell(cell(), bench, "")
    checkpoints = RunFolder(bench.runs / cell().key).checkpoints
    assert not checkpoints.exists()
    kept = Bench(bench.data, bench.runs, bench.out, bench.progress, "abc", keep=True)
    run_cell(cell(seed=1), kept, "")
    assert RunFolder(bench.runs / cell(seed=1).key).checkpoints.exists()


def test_a_run_with_other_settings_is_never_taken_for_this_one(bench):
    run_cell(cell(), bench, "")
    path = RunFolder(bench.runs / cell().key).config
    other = json.loads(path.read_text())
    other["training"]["device"]["learning_rate"] = 0.5
    path.write_text(json.dumps(other))
    with pytest.raises(ConfigError, match=r"seed0: holds a run with another training; give --data and --runs as then"):
        run_cell(cell(), bench, "")


def test_a_cell_that_another_process_is_at_is_left_to_it(bench):
    folder = bench.runs / cell().key
    with (bench.runs / f"{folder.name}.lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run_cells([cell(), cell(seed=1)], bench) == [cell()]
    assert {r.seed for r in read(bench.out / "results.json")} == {1}


def test_a_cell_whose_folder_a_simulation_owns_is_left_to_it(bench):
    with StateLock(bench.runs / cell().key):
        assert run_cells([cell(), cell(seed=1)], bench) == [cell()]
    assert {r.seed for r in read(bench.out / "results.json")} == {1}


def test_a_finished_cell_of_a_version_without_decode_cache_is_not_run_again(bench):
    rows = run_cell(cell(), bench, "")
    path = RunFolder(bench.runs / cell().key).config
    old = json.loads(path.read_text())
    del old["decode_cache"]
    path.write_text(json.dumps(old))
    assert run_cell(cell(), bench, "") == rows


def test_a_run_that_went_on_under_another_commit_names_both(bench, monkeypatch):
    from fedagg_edge.simulation.experiment import Experiment

    def killed(self, progress):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run_cell(cell(), bench, "")
    later = Bench(bench.data, bench.runs, bench.out, bench.progress, "def")
    assert {r.commit for r in run_cell(cell(), later, "")} == {"abc, def"}


def test_half_a_line_of_metrics_is_no_round(tmp_path):
    folder = RunFolder(tmp_path)
    assert finished(folder, 1) is None
    folder.metrics.write_text('{"round": 0}\n{"round": 1}\n')
    assert finished(folder, 2) is None  # no results yet: the end has not been reached
    folder.results.write_text("{}")
    assert finished(folder, 2) == [{"round": 0}, {"round": 1}]
    assert finished(folder, 3) is None


def test_an_autoencoder_is_trained_once_and_used_from_then_on(bench, said):
    path = bench.runs / "autoencoders" / "cifar10-default.safetensors"
    path.unlink()
    assert obtain_autoencoder(cell(), bench) == path
    made = artefact.load(path)
    assert made.report.trained_on == "public_x of arrays.npz"
    assert said == ["training the autoencoder cifar10-default.safetensors on 64 open samples"]
    assert obtain_autoencoder(cell(), bench) == path
    assert len(said) == 1


def test_no_open_data_and_no_autoencoder(bench, tmp_path):
    data_file(tmp_path, public_x=None)
    (bench.runs / "autoencoders" / "cifar10-paper.safetensors").unlink()
    with pytest.raises(DataError, match=r"no array 'public_x'.*or put an autoencoder at .*cifar10-paper.safetensors"):
        run_cell(cell("fedagg", preset="paper"), bench, "")


def test_publishing_keeps_what_is_there_and_takes_notes_in(tmp_path):
    publish([row()], tmp_path)
    (tmp_path / "results-notes.md").write_text("Ran on a laptop.")
    publish([row(seed=1)], tmp_path)
    assert [r.seed for r in read(tmp_path / "results.json")] == [0, 1]
    assert "Ran on a laptop." in (tmp_path / "results.md").read_text()


def test_a_foreign_results_file_is_left_alone(tmp_path):
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(DataError, match="not the results of"):
        publish([row()], tmp_path)
    assert (tmp_path / "results.json").read_text() == "[1]"
    write(tmp_path / "results.json", [])
    publish([row()], tmp_path)


def test_the_commit_is_gits_or_the_version(monkeypatch):
    import fedagg_edge

    assert re.fullmatch(rf"[0-9a-f]{{10}}\+?|{re.escape(fedagg_edge.__version__)}", commit_of())

    def missing(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert commit_of() == fedagg_edge.__version__


def test_who_publishes_waits_for_who_is_at_it(bench):
    bench.runs.mkdir(exist_ok=True)
    with (bench.runs / "lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        worker = threading.Thread(target=run_cells, args=([cell()], bench))
        worker.start()
        while not RunFolder(bench.runs / cell().key).results.exists():
            worker.join(0.05)
        worker.join(0.5)
        assert worker.is_alive()
        assert not (bench.out / "results.json").exists()
    worker.join()
    assert len(read(bench.out / "results.json")) == 4  # two rounds, in two views
