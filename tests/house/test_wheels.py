"""What cibuildwheel is told for a release: as tools/build-wheel-aarch64 does, for what the project says it supports."""

import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CIBW = PROJECT["tool"]["cibuildwheel"]
SCRIPT = (ROOT / "tools" / "build-wheel-aarch64").read_text(encoding="utf-8")


def script_settings() -> dict[str, str]:
    """The build's settings in the script, those that only a cross-build needs left out: what it knows of the target."""
    cross = re.compile(r"build-dir$|cmake\.define\.(CMAKE_TOOLCHAIN_FILE|Python_INCLUDE_DIR|PYTHON_MODULE_)")
    found = dict(re.findall(r'-C([\w.-]+)=("[^"]*"|\S*)', SCRIPT))
    return {name: value.strip('"') for name, value in found.items() if not cross.match(name)}


def script_link_flags() -> dict[str, str]:
    """The linker's flags for zig, then for gnu, as the script sets them."""
    (zig,) = re.findall(r"\blink=(-s)$", SCRIPT, re.MULTILINE)
    (gnu,) = re.findall(r"\blink='([^']+)'", SCRIPT)
    return {"zig": zig, "gnu": gnu}


def test_the_flags_are_the_scripts() -> None:
    linker = "cmake.define.CMAKE_MODULE_LINKER_FLAGS"
    told = CIBW["linux"]["config-settings"]
    # in the containers the compiler is GNU's
    assert told == script_settings() | {linker: script_link_flags()["gnu"]}
    assert script_settings()[linker] == "$link"
    assert "-static-libstdc++" in shlex.split(told[linker])


def test_it_builds_for_every_python_that_the_project_names_and_no_other() -> None:
    versions = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE)
    assert CIBW["build"] == [f"cp{v.replace('.', '')}-manylinux_*" for v in versions]


def test_it_builds_manylinux2014_for_both_machines() -> None:
    linux = CIBW["linux"]
    assert sorted(linux["archs"]) == ["aarch64", "x86_64"]
    for machine in linux["archs"]:
        assert linux[f"manylinux-{machine}-image"] == "manylinux2014"
        assert f"manylinux2014_{machine}" in linux["repair-wheel-command"].replace("$(uname -m)", machine)
    assert "manylinux2014_aarch64" in SCRIPT  # as the script's zig does


def test_what_it_runs_is_there() -> None:
    for word in shlex.split(CIBW["test-command"]):
        if word.startswith("{project}/"):
            assert (ROOT / word.removeprefix("{project}/")).is_file(), word
