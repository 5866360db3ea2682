import json

import pytest

from fedagg_edge.config import load_config


def test_a_new_project_is_three_files_and_says_how_to_run_it(fedagg, tmp_path):
    folder = tmp_path / "my-first"
    code, out, err = fedagg("new", folder)
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == [
        f"run it: cd {folder} && fedagg simulate experiment.toml",
        "as real processes on this machine, over TLS: fedagg fleet up experiment.toml",
    ]
    assert sorted(p.name for p in folder.iterdir()) == ["data.py", "experiment.toml", "model.py"]
    assert load_config(folder / "experiment.toml").name == "my-first"
    for path in folder.iterdir():
        assert "{name}" not in path.read_text()
        assert "{{" not in path.read_text()


def test_a_new_project_runs_as_it_is(fedagg, tmp_path, monkeypatch):
    fedagg("new", tmp_path / "fresh")
    monkeypatch.chdir(tmp_path / "fresh")
    toml = (tmp_path / "fresh/experiment.toml").read_text()
    # as it is, but for an autoencoder that is trained in a moment
    (tmp_path / "fresh/experiment.toml").write_text(toml + "\n[autoencoder]\nepochs = 1\n")
    code, out, err = fedagg("simulate", "experiment.toml", "--rounds", "1", "--json")
    assert code == 0, err
    got = json.loads(out)
    assert got["folder"] == "runs/fresh"
    assert [got["tiers"].count(t) for t in ("cloud", "edge", "device")] == [1, 2, 6]
    assert (tmp_path / "fresh/runs/fresh/bridge.png").exists()


def test_an_empty_folder_will_do_and_one_with_files_will_not(fedagg, tmp_path):
    (tmp_path / "empty").mkdir()
    assert fedagg("new", tmp_path / "empty")[0] == 0
    before = (tmp_path / "empty/model.py").read_text()
    code, out, err = fedagg("new", tmp_path / "empty")
    assert (code, out) == (1, "")
    assert "is there already and not empty; choose another name" in err
    assert (tmp_path / "empty/model.py").read_text() == before
    (tmp_path / "file").write_text("x")
    assert fedagg("new", tmp_path / "file")[0] == 1


@pytest.mark.parametrize("name", ["Größe", "has space", "-x", "UPPER", "x" * 49])
def test_a_name_that_a_run_cannot_have_is_refused_before_anything_is_made(fedagg, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, _, err = fedagg("new", "--", name)
    assert code == 1
    assert err == f"fedagg: new: got the name {name!r}, expected 1 to 48 of a-z 0-9 . _ -, starting with a-z or 0-9\n"
    assert list(tmp_path.iterdir()) == []


def test_the_folder_that_one_is_in(fedagg, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert fedagg("new", ".")[0] == 0
    assert load_config(tmp_path / "here/experiment.toml").name == "here"
