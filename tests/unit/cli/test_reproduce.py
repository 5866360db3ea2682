import json
import re
import subprocess

import pytest
from reproduce.making import SCALE, data_file, ready_autoencoders


@pytest.fixture
def words(tmp_path, monkeypatch):
    """`words(out, ...)`: the arguments of a small table, its runs beside `out`."""
    monkeypatch.chdir(tmp_path)
    data = data_file(tmp_path)

    def make(out, *more, methods=("alone", "hierfavg"), rounds=2):
        runs = tmp_path / f"{out}-runs"
        if not runs.exists():
            ready_autoencoders(runs)
        fixed = ["--data", data, "--out", out, "--runs", runs, "--scale", SCALE, "--test", 40, "--columns", "225/a3"]
        return [str(w) for w in ("reproduce", "table2", *fixed, "--rounds", rounds, "--methods", *methods, *more)]

    return make


def figures(folder):
    """All rows without what depends on the clock."""
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_table_in_the_current_folder(fedagg, words, tmp_path):
    code, out, err = fedagg(*words("results"), "--seeds", 0, 1)
    assert code == 0, err
    assert out == "4 of 4 simulations are in results/results.md\n"
    assert [line.split("  ")[0] for line in err.splitlines() if "cifar10-k225" in line] == ["1/4", "2/4", "3/4", "4/4"]
    rows = figures(tmp_path / "results")
    assert {(r["method"], r["seed"]) for r in rows} == {(m, s) for m in ("alone", "hierfavg") for s in (0, 1)}
    assert "| HierFAVG | default | 2 |" in (tmp_path / "results/results.md").read_text()


def test_killed_and_gone_on_with_it_ends_where_an_undisturbed_one_does(fedagg, words, command, tmp_path):
    rounds = 12
    process = subprocess.Popen([*command, *words("killed", rounds=rounds)], stderr=subprocess.PIPE, text=True)
    heard = []
    for line in process.stderr:
        heard.append(line)
        if "hierfavg" in "".join(heard) and line.startswith(f"round 2/{rounds}"):
            process.kill()
            break
    process.stderr.close()
    assert process.wait() == -9, "".join(heard)
    assert {r["method"] for r in figures(tmp_path / "killed")} == {"alone"}

    code, _, err = fedagg(*words("killed", rounds=rounds))
    assert code == 0
    assert "alone" not in err  # finished, so not run again
    assert re.search(r"resumed from the checkpoint of round \d", err)
    assert fedagg(*words("whole", "--quiet", rounds=rounds))[0] == 0
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")


def test_an_interrupt_says_how_to_go_on(fedagg, words, monkeypatch):
    from fedagg_edge.simulation.experiment import Experiment

    def stop(self, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "rounds", stop)
    code, _, err = fedagg(*words("results"))
    assert code == 130
    assert "go on with: fedagg reproduce table2 --data " in err
    assert "--rounds 2 --scale 0.02 --test 40 --validation 0 --columns 225/a3 --methods alone hierfavg --seeds 0" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scale", 2], "--scale: got 2.0"),
        (["--seeds", -1], "--seeds: got -1"),
        (["--rounds", 0], "--rounds 0"),
        (["--columns", "225"], "--columns: got '225' (did you mean"),
        (["--methods", "hierfav"], "did you mean 'hierfavg'"),
        (["--test", 121], "got --test 121, expected at most 120"),
        (["--data", "gone.npz"], "gone.npz: no such file"),
    ],
)
def test_what_the_user_can_mend(fedagg, words, more, message):
    code, out, err = fedagg(*words("results", *more, "--quiet"))
    assert (code, out) == (1, "")
    assert message in err


def test_another_table(fedagg):
    code, _, err = fedagg("reproduce", "table22", "--data", "x.npz")
    assert code == 1
    assert "got 'table22' (did you mean 'table2'?), expected one of table2, table3, table4, table6, table8" in err


def test_workers_change_no_figure_and_may_change_while_a_run_goes_on(fedagg, words, tmp_path):
    assert fedagg(*words("one", methods=["fedagg"], rounds=1))[0] == 0
    assert fedagg(*words("two", "--workers", 2, methods=["fedagg"], rounds=1))[0] == 0
    assert figures(tmp_path / "one") == figures(tmp_path / "two")
    code, _, err = fedagg(*words("one", "--workers", 3, methods=["fedagg"], rounds=1))
    assert (code, err) == (0, "")
    assert fedagg(*words("one", "--workers", 0))[0::2] == (1, "fedagg: --workers: got 0, expected 1 to 256\n")
