import re
import sys
from pathlib import Path

import pytest

from fedagg_edge.cli.main import main

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
