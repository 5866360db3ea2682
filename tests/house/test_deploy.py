"""What deploy/ says fits what the commands do."""

import configparser
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from fedagg_edge.cli.main import make_parser
from fedagg_edge.config import Table
from fedagg_edge.fleet.config import FleetConfig, load_fleet_config
from fedagg_edge.fleet.exits import PERMANENT, Exit
from fedagg_edge.records import Tier

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def read(path):
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str
    parser.read_string(path.read_text())
    return parser


def test_there_is_a_unit_for_each_kind_of_node():
    assert [p.name for p in UNITS] == ["fedagg-cloud.service", "fedagg-device.service", "fedagg-edge.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_a_unit_runs_a_command_that_is_there_as_a_user_that_is_not_root(path):
    service = read(path)["Service"]
    command = service["ExecStart"].split()
    args = make_parser().parse_args(command[1:])
    assert args.verb == path.stem.removeprefix("fedagg-")
    user = re.search(r"^u (\S+)", (ROOT / "deploy/sysusers.d/fedagg.conf").read_text(), re.M)[1]
    assert service["User"] == user != "root"
    assert service["Type"] == "notify"


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_a_unit_is_not_started_again_after_what_a_start_cannot_mend(path):
    codes = {int(code) for code in read(path)["Service"]["RestartPreventExitStatus"].split()}
    assert codes == {int(code) for code in PERMANENT}


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_a_unit_that_is_watched_leaves_no_core_file(path):
    """It would hold keys and private samples."""
    service = read(path)["Service"]
    assert service["WatchdogSec"]
    assert (service["WatchdogSignal"], service["LimitCORE"]) == ("SIGKILL", "0")


def test_the_guide_lists_every_exit_code():
    text = (ROOT / "docs" / "fleet.md").read_text()
    table = text.split("## Exit codes", 1)[1].split("\n## ", 1)[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)}
    assert listed == {int(code) for code in Exit}


def test_the_container_is_not_roots_and_installs_extras_that_are_there():
    text = (ROOT / "deploy" / "Containerfile").read_text()
    assert re.findall(r"^USER (\S+)", text, re.M) == ["fedagg"]
    assert text.index("\nUSER ") < text.index("\nENTRYPOINT ")
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.search(r"^# EXTRA: (.*)\.$", text, re.M)[1]
    assert set(re.findall(r"\b(edge|cloud|litert|enroll)\b", named)) <= set(extras)


@pytest.mark.parametrize("tier", list(Tier))
def test_the_sample_of_each_kind_is_a_configuration(tier):
    load_fleet_config(ROOT / "deploy" / f"{tier}.toml", tier)


def test_the_page_of_the_configuration_names_every_key_of_a_node():
    text = (ROOT / "docs" / "config.md").read_text().split("## A node of a fleet", 1)[1]
    tables = {"autoencoder", "models", "training", "schema", "base_dir"}  # described above it, or not a user's
    for key, kind in typing.get_type_hints(FleetConfig).items():
        if key in tables:
            continue
        inner = next((t for t in (kind, *typing.get_args(kind)) if isinstance(t, type) and issubclass(t, Table)), None)
        assert f"`{key}`" in text or f"`[{key}]`" in text, key
        for name in () if inner is None or key == "data" else inner.__struct_fields__:
            assert re.search(rf"`{name}\b", text), f"{key}.{name}"


def test_the_cloud_sides_entry_point_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "fedagg_edge.cloud", "--config", "/nowhere.toml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "nowhere.toml" in done.stderr) == (Exit.CONFIG, True)
