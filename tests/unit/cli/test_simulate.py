import json
import re
import subprocess

import numpy as np
import pytest


def runs(tmp_path):
    return tmp_path / "runs" / "toy"


def test_the_table_on_standard_output_and_lines_on_standard_error(fedagg, project, tmp_path):
    code, out, err = fedagg("simulate", project / "toy.toml")
    assert code == 0, err
    assert out.startswith("\ntest accuracy\n")
    assert out.endswith("\n\neverything is in runs/toy/\n")
    # a slow machine also says within a round how far it is, indented
    lines = [line for line in err.splitlines() if not line.startswith("  ")]
    assert [line.split("  ")[0] for line in lines] == ["round 1/2", "round 2/2"]
    assert (runs(tmp_path) / "results.json").exists()


def test_json_is_one_object_and_progress_stays_on_standard_error(fedagg, project):
    code, out, err = fedagg("simulate", project / "toy.toml", "--json")
    assert code == 0
    assert out.count("\n") == 1
    got = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (got["folder"], got["rounds"], got["alone"]) == ("runs/toy", [0, 1], None)
    assert len(re.findall(r"^round \d", err, re.MULTILINE)) == 2


def test_quiet_says_nothing_but_the_result(fedagg, project):
    code, out, err = fedagg("simulate", project / "toy.toml", "--json", "--quiet")
    assert (code, err) == (0, "")
    json.loads(out)


def test_the_command_line_goes_over_the_file(fedagg, project, tmp_path):
    code, out, _ = fedagg(
        "simulate", project / "toy.toml", "--rounds", 1, "--seed", 9, "--out", tmp_path / "o", "--json", "--quiet"
    )
    assert code == 0
    assert json.loads(out)["rounds"] == [0]
    written = json.loads((tmp_path / "o/config.json").read_text())
    assert (written["rounds"], written["seed"]) == (1, 9)
    assert not (tmp_path / "runs").exists()


def test_other_data_with_the_files_options(fedagg, project, tmp_path):
    (project / "data/bands.npz").rename(tmp_path / "moved.npz")
    code, _, err = fedagg("simulate", project / "toy.toml", "--quiet")
    assert code == 1
    assert "bands.npz" in err
    assert fedagg("simulate", project / "toy.toml", "--data", "moved.npz", "--quiet", "--overwrite")[0] == 0


def test_other_data_than_a_source_of_ones_own(fedagg, tmp_path):
    config = tmp_path / "own.toml"
    config.write_text(
        '[data]\nsource = "elsewhere:load"\noptions = { share = 0.5 }\n'
        '[tree]\nmodel = "mlp"\n[[tree.children]]\nmodel = "mlp"\n'
    )
    code, _, err = fedagg("simulate", config, "--data", "none.npz", "--quiet")
    assert code == 1
    assert "none.npz" in err
    assert "share" not in err


def test_resume_and_overwrite(fedagg, project, tmp_path):
    config = project / "toy.toml"
    assert fedagg("simulate", config, "--quiet")[0] == 0
    first = json.loads((runs(tmp_path) / "results.json").read_text())
    code, out, err = fedagg("simulate", config)
    assert (code, out) == (1, "")
    assert err == (
        "fedagg: runs/toy holds a run already; go on with it (--resume), replace it (--overwrite), "
        "or write elsewhere (--out FOLDER)\n"
    )
    assert fedagg("simulate", config, "--resume")[2] == "resumed from the checkpoint of round 1: 2 rounds are done\n"
    assert fedagg("simulate", config, "--resume", 0, "--quiet")[0] == 0
    assert json.loads((runs(tmp_path) / "results.json").read_text())["accuracy"] == first["accuracy"]
    code, _, err = fedagg("simulate", config, "--resume", 7, "--quiet")
    assert (code, err) == (1, "fedagg: runs/toy/checkpoints: no checkpoint of round 7; there are 0, 1\n")
    assert fedagg("simulate", config, "--overwrite", "--quiet")[0] == 0
    assert fedagg("simulate", config, "--overwrite", "--resume")[0] == 2


def test_a_damaged_checkpoint_says_which_one_is_whole(fedagg, project, tmp_path):
    config = project / "toy.toml"
    fedagg("simulate", config, "--quiet")
    path = runs(tmp_path) / "checkpoints/round-000001.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    code, out, err = fedagg("simulate", config, "--resume")
    assert (code, out) == (1, "")
    assert err.endswith("; round 0 is whole: use --resume 0\n")
    assert fedagg("simulate", config, "--resume", 0, "--quiet")[0] == 0


ERRORS = [
    ('model = "mlp"\n[[tree.children]]\nmodel', 'model = "mlp"\n[[tree.children]]\nmodle', "modle"),
    ("rounds = 2", "round = 2", "unknown key 'round' (did you mean 'rounds'?)"),
    ("rounds = 2", "rounds = 0", "rounds: got 0"),
    ("rounds = 2", "rounds = [", "not valid TOML"),
    ("rounds = 2", "", None),
    ('model = "mlp"\ncount', 'model = "mpl"\ncount', "model: got 'mpl' (did you mean 'mlp'?)"),
    ('model = "mlp"\ncount', 'model = "nowhere:build"\ncount', "no module 'nowhere'"),
    ("classes = 3", "classes = 2", "got label 2 in row"),
    ('"train_x"', '"train_z"', "train_z"),
    ("data/bands.npz", "data/none.npz", "none.npz"),
    ("data/bands.npz", "digit", "did you mean 'digits'"),
    ("autoencoder.safetensors", "none.safetensors", "none.safetensors"),
    ("count = 2", "count = 60", "got 60 devices"),
    ('rule = "iid"', 'rule = "idd"', "did you mean 'iid'"),
]


@pytest.mark.parametrize(("old", "new", "said"), ERRORS)
def test_what_is_wrong_is_one_line_that_names_it(fedagg, change, old, new, said):
    code, out, err = fedagg("simulate", change(old, new), "--quiet")
    if said is None:  # a key that may be left out
        assert code == 0
        return
    assert (code, out) == (1, "")
    assert err.startswith("fedagg: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(("flag", "value", "said"), [("--rounds", 0, "rounds: got 0"), ("--seed", -1, "seed: got -1")])
def test_the_command_lines_values_are_checked_like_the_files(fedagg, project, flag, value, said):
    code, _, err = fedagg("simulate", project / "toy.toml", flag, value)
    assert code == 1
    assert err.startswith(f"fedagg: command line: {said}")


def test_a_file_that_is_not_there_and_a_folder_that_may_not_be(fedagg, project, tmp_path):
    code, _, err = fedagg("simulate", tmp_path / "none.toml")
    assert (code, err.count("\n")) == (1, 1)
    assert "none.toml: cannot read the configuration: No such file or directory" in err
    (tmp_path / "file").write_text("x")
    code, _, err = fedagg("simulate", project / "toy.toml", "--out", tmp_path / "file")
    assert (code, err.count("\n")) == (1, 1)
    assert str(tmp_path / "file") in err


@pytest.mark.parametrize(
    ("flags", "command"),
    [
        ([], "fedagg simulate project/toy.toml --resume"),
        (
            ["--out", "a b", "--seed", "3", "--rounds", "5", "--overwrite"],
            "fedagg simulate project/toy.toml --resume --out 'a b' --rounds 5 --seed 3",
        ),
        (
            ["--data", "project/data/bands.npz"],
            "fedagg simulate project/toy.toml --resume --data project/data/bands.npz",
        ),
    ],
)
def test_stopping_it_says_the_whole_command_that_goes_on(fedagg, project, monkeypatch, flags, command):
    from fedagg_edge.simulation.experiment import Experiment

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_row", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        code, out, err = fedagg("simulate", "project/toy.toml", "--quiet", *flags)
    assert (code, out, err) == (130, "", f"\nfedagg: stopped; go on with: {command}\n")
    import shlex

    assert fedagg(*shlex.split(command)[1:], "--quiet")[0] == 0


def test_a_broken_model_of_the_users_shows_its_own_traceback(fedagg, change, project):
    (project / "mine.py").write_text("def build(sample_shape, classes):\n    raise RuntimeError('my own bug')\n")
    path = change('model = "mlp"\ncount', 'model = "mine:build"\ncount')
    with pytest.raises(RuntimeError, match="my own bug"):
        fedagg("simulate", path, "--quiet")


def test_a_reader_that_left_costs_no_result(project, command, tmp_path):
    process = subprocess.Popen(
        [*command, "simulate", str(project / "toy.toml"), "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait(timeout=120) == 1
    assert process.stderr.read() == b""
    process.stderr.close()
    assert (runs(tmp_path) / "results.json").exists()


def test_float_labels_are_refused(fedagg, project):
    with np.load(project / "data/bands.npz") as data:
        np.savez(project / "data/bands.npz", train_x=data["train_x"], train_y=data["train_y"].astype(float))
    code, _, err = fedagg("simulate", project / "toy.toml")
    assert (code, err.count("\n")) == (1, 1)
    assert "got float64" in err


def test_another_method_goes_to_its_own_folder_and_says_how_to_go_on(fedagg, project, tmp_path):
    code, out, err = fedagg("simulate", project / "toy.toml", "--method", "hierfavg", "--quiet")
    assert code == 0, err
    assert "average device, HierFAVG" in out
    assert out.endswith("everything is in runs/toy-hierfavg/\n")
    written = json.loads((tmp_path / "runs/toy-hierfavg/config.json").read_text())
    assert written["method"] == "hierfavg"
    again = fedagg("simulate", project / "toy.toml", "--method", "hierfavg", "--resume")
    assert again[0] == 0
    code, _, err = fedagg("simulate", project / "toy.toml", "--out", tmp_path / "runs/toy-hierfavg", "--resume")
    assert (code, "made with another method" in err) == (1, True)


def test_a_wrong_method_or_option_is_answered_with_the_nearest(fedagg, project):
    code, _, err = fedagg("simulate", project / "toy.toml", "--method", "fedgtk", "--quiet")
    assert code == 1
    assert "method: got 'fedgtk' (did you mean 'fedgkt'?)" in err
    config = project / "options.toml"
    config.write_text((project / "toy.toml").read_text() + "\n[methods.demlearn]\nlevel = 2\n")
    code, _, err = fedagg("simulate", config, "--method", "demlearn", "--quiet")
    assert code == 1
    assert "methods.demlearn: unknown argument 'level' (did you mean 'levels'?)" in err
