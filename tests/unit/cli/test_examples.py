import tomllib
from pathlib import Path

import pytest

from fedagg_edge.cli import examples
from fedagg_edge.config import load_config
from fedagg_edge.errors import ConfigError

ROOT = Path(__file__).parents[3]


def test_an_example_is_found_by_its_name_and_a_file_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(examples.find(Path("fleet"))).name == "fleet"
    assert load_config(examples.find(Path("digits"))).name == "digits"
    Path("fleet").mkdir()  # a folder of that name is none
    assert load_config(examples.find(Path("fleet"))).name == "fleet"
    Path("digits").write_text("mine")  # whose file is in the way gets it
    assert examples.find(Path("digits")) == Path("digits")
    Path("own.toml").write_text("mine")
    assert examples.find(tmp_path / "own.toml") == tmp_path / "own.toml"


@pytest.mark.parametrize("word", ["flet", "fleet.toml", "examples/fleet.toml", "../examples/fleet"])
def test_a_wrong_name_is_told_with_those_that_there_are(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        examples.find(Path(word))
    assert str(caught.value) == (
        f"{word}: cannot read the configuration: No such file or directory; expected a path, or the name of an example "
        "(did you mean 'fleet'?): cifar10_paper, digits, fleet, medical, sensor, speech, text"
    )


def test_a_folder_is_told_as_what_it_is(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration: Is a directory"):
        load_config(examples.find(tmp_path))


def test_a_wheel_has_them_beside_the_package_and_a_checkout_at_its_top(tmp_path, monkeypatch):
    assert examples.folder() == ROOT / "examples"
    (tmp_path / "examples").mkdir()
    monkeypatch.setattr(examples.fedagg_edge, "__file__", str(tmp_path / "__init__.py"))
    assert examples.folder() == tmp_path / "examples"


def test_the_wheel_takes_them_from_there():
    """One copy in the repository; all that any of them needs is in the folder, but for data that nobody may hand on."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["scikit-build"]
    assert settings["wheel"]["packages"] == {
        "fedagg_edge": "python/fedagg_edge",
        "fedagg_edge/examples": "examples",
    }
    assert "examples" not in settings["sdist"]["exclude"]
    assert not (ROOT / "python" / "fedagg_edge" / "examples").exists()
