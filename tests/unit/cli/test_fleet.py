import re
import sys
from pathlib import Path

import pytest

from fedagg_edge.cli.main import main
from fedagg_edge.config import load_config
from fedagg_edge.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "examples" / "fleet.toml"


def test_a_schedule_that_a_fleet_cannot_have(tmp_path, capsys):
    text = re.sub('schedule = "snapshot".*', 'schedule = "sequential"', EXAMPLE.read_text(encoding="utf-8"))
    path = tmp_path / "turns.toml"
    path.write_text(text.replace("[partition]", "[autoencoder]\nepochs = 1\n\n[partition]"))
    assert main(["fleet", "up", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "expected 'snapshot'" in capsys.readouterr().err


def test_packages_that_are_missing_are_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "tomli_w", None)
    monkeypatch.delitem(sys.modules, "fedagg_edge.fleet.up", raising=False)
    import fedagg_edge.fleet

    monkeypatch.delattr(fedagg_edge.fleet, "up", raising=False)
    assert main(["fleet", "up", str(EXAMPLE), "--out", str(tmp_path / "out")]) == 1
    assert "pip install 'fedagg-edge[fleet]'" in capsys.readouterr().err


def test_a_mode_that_there_is_not():
    with pytest.raises(SystemExit):
        main(["fleet", "up", str(EXAMPLE), "--mode", "sometimes"])


def test_a_project_of_ones_own_is_a_fleet_as_it_is(tmp_path):
    """`fedagg new` set no schedule, and the default was refused."""
    from fedagg_edge.fleet.plan import plan
    from fedagg_edge.simulation.build import read_data
    from fedagg_edge.tree import plant

    assert main(["new", str(tmp_path / "mine")]) == 0
    config = load_config(tmp_path / "mine" / "experiment.toml")
    parents = [p.id for p in plant(config.tree, config.seed).places.values() if p.children]
    ports = {name: 9000 + i for i, name in enumerate(parents)}
    assert len(plan(config, read_data(config), ports, rounds={"target": 1})) == 9


def test_without_a_file_it_is_the_example_and_a_wrong_name_is_told_with_those_that_there_are(
    tmp_path, monkeypatch, capsys
):
    from fedagg_edge.fleet import up

    monkeypatch.chdir(tmp_path)
    asked = []

    def lay_out(config, folder, **options):
        asked.append((config.name, config.tree, folder))
        raise ConfigError("far enough")

    monkeypatch.setattr(up, "lay_out", lay_out)
    assert main(["fleet", "up"]) == main(["fleet", "up", "fleet"]) == main(["fleet", "up", "digits"]) == 1
    assert asked[0] == asked[1] == ("fleet", load_config(EXAMPLE).tree, Path("runs/fleet-fleet"))
    assert asked[2][0] == "digits"
    capsys.readouterr()
    assert main(["fleet", "up", "examples/flet.toml"]) == 1
    assert "the name of an example (did you mean 'fleet'?): cifar10_paper, digits, fleet" in capsys.readouterr().err
