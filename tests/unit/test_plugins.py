import re
import sys
from pathlib import Path

import pytest

from fedagg_edge.errors import ConfigError
from fedagg_edge.plugins import call, is_spec, load_object


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "plugin_a.py").write_text("def build(size, *, depth=1):\n    return size * depth\nlimit = 3\n")
    return tmp_path


def test_loads_a_function_from_the_base_dir_and_leaves_the_search_path_alone(project: Path) -> None:
    before = list(sys.path)
    assert load_object("plugin_a:build", project)(size=2, depth=3) == 6
    assert sys.path == before


def test_loads_an_installed_function_and_a_nested_name() -> None:
    assert load_object("pathlib:Path.cwd")() == Path.cwd()


@pytest.mark.parametrize("spec", ["build", "a:", ":b", "a b:c", "a/b.py:c", ""])
def test_the_form_is_checked(spec: str) -> None:
    assert not is_spec(spec)
    with pytest.raises(ConfigError, match="expected 'module:function'"):
        load_object(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("plugin_b:build", "no module 'plugin_b' in .* (did you mean 'plugin_a'?)"),
        ("plugin_a:biuld", "no 'biuld' in .*plugin_a.py (did you mean 'build'?)"),
        ("plugin_a:limit", "got int, expected something callable"),
    ],
)
def test_a_wrong_name_is_named_with_the_nearest(project: Path, spec: str, message: str) -> None:
    pattern = re.escape(spec) + ".*" + re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(ConfigError, match=pattern):
        load_object(spec, project)


def test_a_missing_import_of_the_plugin_is_told_from_a_missing_plugin(project: Path) -> None:
    (project / "plugin_c.py").write_text("import surely_not_there\n")
    with pytest.raises(ConfigError, match="'plugin_c' imports 'surely_not_there', which is not installed"):
        load_object("plugin_c:build", project)


def test_a_plugin_that_fails_to_import_keeps_its_cause(project: Path) -> None:
    (project / "plugin_d.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="failed with ZeroDivisionError: division by zero") as caught:
        load_object("plugin_d:build", project)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_two_projects_may_name_their_modules_alike(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plugin_layers.py").write_text(f"name = {name!r}\n")
        (tmp_path / name / "plugin_model.py").write_text(
            "from plugin_layers import name\ndef build():\n    return name\n"
        )
    for name in ("one", "two", "one"):
        assert load_object("plugin_model:build", tmp_path / name)() == name


def test_a_project_file_hidden_by_a_loaded_module_is_an_error_not_a_surprise(project: Path) -> None:
    (project / "json.py").write_text("def build():\n    pass\n")
    with pytest.raises(ConfigError, match=r"hidden by the module of the same name.*rename the file"):
        load_object("json:loads", project)


def test_call_passes_arguments_on() -> None:
    assert call(lambda a, b=2: a + b, "model 'x'", {"a": 1}) == 3
    assert call(lambda **kwargs: kwargs, "model 'x'", {"a": 1}) == {"a": 1}


def test_call_names_an_unknown_argument_and_the_nearest() -> None:
    def build(width: int, depth: int = 1) -> int:
        return width * depth

    message = "model 'x': unknown argument 'dept' (did you mean 'depth'?); it takes width, depth"
    with pytest.raises(ConfigError, match=re.escape(message)):
        call(build, "model 'x'", {"width": 1, "dept": 2})
    with pytest.raises(ConfigError, match="missing a required argument: 'width'; it takes width, depth"):
        call(build, "model 'x'", {})


def test_what_a_users_function_raises_passes_through() -> None:
    def build() -> None:
        raise TypeError("the user's own")

    with pytest.raises(TypeError, match="the user's own"):
        call(build, "model 'x'", {})
