"""`fedagg autoencoder audit` and `show`: figures printed, stored and read back; what is refused before the attack."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from autoencoder.making import AUDIT, make_artefact

from fedagg_edge.autoencoder import artefact as artefacts
from fedagg_edge.cli import autoencoder
from fedagg_edge.errors import ArtefactError, ConfigError, DataError


def command(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser()
    autoencoder.register(parser.add_subparsers(required=True))
    args = parser.parse_args(["autoencoder", *map(str, argv)])
    code: int = args.run(args)
    return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).integers(0, 17, (60, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", test_x=x, train_x=x[:40])
    artefacts.save(make_artefact(), tmp_path / "ae")
    return tmp_path


def test_figures_are_printed_stored_and_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder / "data.npz"
    assert command("audit", folder / "ae", data, "--open-data", data, "--epochs", "1", "--seed", "2", "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    audited = artefacts.load(folder / "ae", result["digest"])
    assert audited.audit is not None
    assert result["leakage_psnr_db"] == audited.audit.psnr_db
    assert (audited.audit.data, audited.audit.open_data) == ("test_x of data.npz", "train_x of data.npz")
    assert (audited.audit.samples, audited.audit.open_samples, audited.audit.seed) == (60, 40, 2)
    assert (folder / "ae.audit.png").read_bytes()[:4] == b"\x89PNG"
    assert command("show", folder / "ae", "--json") == 0
    assert json.loads(capsys.readouterr().out)["audit"]["attacker_psnr_db"] == audited.audit.attacker_psnr_db


def test_without_open_data_nine_tenths_train_the_attacker(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "ae").read_bytes()
    assert command("audit", folder / "ae", folder / "data.npz", "--epochs", "1", "--out", folder / "audited") == 0
    out, err = capsys.readouterr()
    found = artefacts.load(folder / "audited").audit
    assert found is not None
    assert (found.samples, found.open_samples) == (6, 54)
    assert (folder / "ae").read_bytes() == before
    for word in ("leakage", "attacker", "audited.audit.png", artefacts.digest_of(artefacts.load(folder / "audited"))):
        assert word in out
    assert "training error" in err


def test_show_says_whether_leakage_was_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("show", folder / "ae")
    assert "not measured" in capsys.readouterr().out
    artefacts.save(make_artefact(audit=AUDIT), folder / "ae")
    command("show", folder / "ae")
    assert "leakage     21.50 dB" in capsys.readouterr().out


def test_what_the_user_can_mend_is_said(folder: Path) -> None:
    data = folder / "data.npz"
    with pytest.raises(ConfigError, match=r"--out .*existing folder"):
        command("audit", folder / "ae", data, "--out", folder / "no" / "ae")
    with pytest.raises(ConfigError, match=r"--picture .*existing folder"):
        command("audit", folder / "ae", data, "--picture", folder)
    with pytest.raises(DataError, match="did you mean 'test_x'"):
        command("audit", folder / "ae", data, "--key", "text_x")
    with pytest.raises(ArtefactError, match="cannot read"):
        command("audit", folder / "nothing", data)
    assert artefacts.load(folder / "ae").audit is None
