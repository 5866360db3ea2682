import json

import pytest
from simulation.worlds import toy_config

from fedagg_edge.errors import CheckpointError, ConfigError
from fedagg_edge.simulation.folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "runs" / "toy")
    made.start(toy_config(), overwrite=False)
    return made


def test_a_run_begins_with_its_whole_configuration(folder):
    written = json.loads(folder.config.read_text())
    assert (written["name"], written["rounds"], written["training"]["edge"]["beta"]) == ("toy", 2, 1.0)
    assert [p.name for p in folder.root.iterdir()] == ["config.json"]


def test_a_run_is_not_started_over(folder):
    with pytest.raises(ConfigError, match=r"holds a run already; go on with it \(--resume\), replace it"):
        folder.start(toy_config(), overwrite=False)


def test_overwriting_removes_the_runs_files_and_no_others(folder):
    folder.checkpoints.mkdir()
    (folder.checkpoints / "round-000000.json").write_text("{}")
    for path in (folder.metrics, folder.results, folder.cloud, folder.curves, folder.bridge, folder.autoencoder):
        path.write_text("old")
    (folder.root / "notes.txt").write_text("mine")
    folder.start(toy_config(seed=5), overwrite=True)
    assert sorted(p.name for p in folder.root.iterdir()) == ["config.json", "notes.txt"]
    assert json.loads(folder.config.read_text())["seed"] == 5


def test_a_folder_with_other_things_in_it_may_hold_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder(tmp_path).start(toy_config(), overwrite=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_same_configuration_may_go_on(folder):
    folder.resume(toy_config())
    folder.resume(toy_config(rounds=9, checkpoint_every=4))


def test_a_run_from_before_a_key_existed_has_its_default(folder):
    written = json.loads(folder.config.read_text())
    for tier in written["training"].values():
        del tier["learning_rate_schedule"], tier["decay_rounds"]
    folder.config.write_text(json.dumps(written))
    with pytest.raises(ConfigError, match="made with another training;"):
        folder.resume(toy_config(training={"learning_rate_schedule": "step", "decay_rounds": 2}))
    folder.resume(toy_config())


def test_another_configuration_is_refused_and_the_keys_named(folder):
    with pytest.raises(ConfigError, match=r"made with another knowledge, seed, training; restore what was there"):
        folder.resume(toy_config(seed=1, knowledge="int8", training={"beta": 2.0}))
    tree = {"model": "mlp", "children": [{"model": "mlp", "count": 2}]}
    with pytest.raises(ConfigError, match="made with another tree;"):
        folder.resume(toy_config(tree=tree))


def test_options_that_json_has_no_type_for_are_compared_all_the_same(tmp_path):
    import datetime

    config = toy_config(data={"source": "digits", "options": {"since": datetime.date(2024, 1, 2), "parts": [1, 2]}})
    folder = RunFolder(tmp_path)
    folder.start(config, overwrite=False)
    folder.resume(config)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="no run here to resume; start it without --resume"):
        RunFolder(tmp_path).resume(toy_config())


def test_a_damaged_configuration(folder):
    folder.config.write_bytes(folder.config.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"config.json: damaged"):
        folder.resume(toy_config())


def test_metrics_are_cut_back_to_what_the_checkpoint_knows(folder):
    lengths = [folder.append_metrics({"round": i, "bytes": 10**i}) for i in range(4)]
    assert lengths == sorted(set(lengths))
    assert folder.metrics.stat().st_size == lengths[-1]
    with folder.metrics.open("ab") as f:
        f.write(b'{"round": 4, "by')  # killed in the middle of a line
    assert [r["round"] for r in folder.read_metrics(lengths[2])] == [0, 1, 2]
    assert folder.metrics.stat().st_size == lengths[2]
    assert folder.append_metrics({"round": 3}) > lengths[2]
    assert [json.loads(line)["round"] for line in folder.metrics.read_text().splitlines()] == [0, 1, 2, 3]


def test_metrics_from_the_beginning(folder):
    folder.append_metrics({"round": 0})
    assert folder.read_metrics(0) == []
    assert not folder.metrics.exists()
    assert folder.read_metrics(0) == []


def test_metrics_that_are_shorter_than_they_were(folder):
    length = folder.append_metrics({"round": 0})
    with pytest.raises(CheckpointError, match="shorter than the checkpoint says; start anew with --overwrite"):
        folder.read_metrics(length + 1)
    folder.metrics.unlink()
    with pytest.raises(CheckpointError, match="shorter than the checkpoint says"):
        folder.read_metrics(length)


def test_metrics_that_are_damaged(folder):
    length = folder.append_metrics({"round": 0})
    folder.metrics.write_bytes(b"x" * length)
    with pytest.raises(CheckpointError, match=r"metrics.jsonl: damaged: .*; start anew with --overwrite"):
        folder.read_metrics(length)


def test_what_differs_is_told_without_changing_anything(folder):
    before = folder.config.read_bytes()
    assert folder.differing(toy_config(rounds=9)) == []
    assert folder.differing(toy_config(seed=5, rounds=9, knowledge="f16")) == ["knowledge", "seed"]
    assert folder.config.read_bytes() == before
    folder.config.write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        folder.differing(toy_config())
