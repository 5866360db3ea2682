import json
from pathlib import Path

import pytest

from fedagg_edge.cli.main import main
from fedagg_edge.learners.tflite import TfliteLearner


def export(*arguments: str) -> int:
    return main(["export", *arguments, "--sample-shape", "1", "8", "8", "--classes", "4"])


def test_a_model_of_the_zoo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.tflite"
    assert export("mlp", "--to", "tflite", "--out", str(out), "--options", '{"hidden": [5]}', "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["bytes"] == out.stat().st_size
    assert said["weights"] < 1e-5
    assert TfliteLearner(out, classes=4, sample_shape=(1, 8, 8)).state().table[1].shape == (5,)


def test_lines_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("mlp", "--out", str(tmp_path / "m.tflite")) == 0
    assert "checked  one step of 6 rows against torch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mpl", "--out", "m.tflite"], "did you mean 'mlp'?"),
        (["mlp", "--out", "no/folder/m.tflite"], "expected a file in an existing folder"),
        (["mlp", "--out", "m.tflite", "--options", "{"], "expected a JSON object"),
        (["mlp", "--out", "m.tflite", "--options", "[1]"], "expected a JSON object, for example"),
        (["mlp", "--out", "m.tflite", "--options", '{"hiden": [5]}'], "did you mean 'hidden'?"),
    ],
)
def test_mistakes_say_what_to_do(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(*arguments) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
