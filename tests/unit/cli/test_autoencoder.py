"""`fedagg autoencoder train`: from data on disk to a pinned file, and what it refuses before training."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from fedagg_edge.autoencoder import artefact as artefacts
from fedagg_edge.cli import autoencoder
from fedagg_edge.errors import ConfigError, DataError


def command(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser()
    autoencoder.register(parser.add_subparsers(required=True))
    args = parser.parse_args(["autoencoder", "train", *map(str, argv)])
    code: int = args.run(args)
    return code


@pytest.fixture
def images(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "open.npz", train_x=x, other_x=x[:20, :, :, :1])
    return tmp_path / "open.npz"


def test_arrays_without_labels_become_a_file(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(images, "--out", tmp_path / "ae", "--epochs", "2", "--seed", "4", "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    artefact = artefacts.load(tmp_path / "ae", result["digest"])
    assert artefact.sample_shape == (3, 8, 8)
    assert (artefact.report.trained_on, artefact.report.seed) == ("train_x of open.npz", 4)
    assert result["psnr_db"] == artefact.report.psnr_db
    assert result["embedding_bytes"] == 32


def test_key_range_limit_and_channels_are_taken(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--key", "other_x", "--layout", "NHWC", "--input-range", "0", "300", "--limit", "16"]
    assert command(images, "--out", tmp_path / "ae", "--epochs", "1", "--embedding-channels", "2", *options) == 0
    out, err = capsys.readouterr()
    artefact = artefacts.load(tmp_path / "ae")
    assert (artefact.sample_shape, artefact.embedding_shape) == ((1, 8, 8), (2, 2, 2))
    assert artefact.high_C.tolist() == [300]
    assert artefact.report.samples + artefact.report.held_out == 16
    assert "epoch 1/1" in err
    for word in ("PSNR", "8 bytes", "parameters", artefacts.digest_of(artefact)):
        assert word in out


def test_digits_keep_their_range_and_give_their_public_split(tmp_path: Path) -> None:
    assert command("digits", "--out", tmp_path / "ae", "--epochs", "1", "--quiet") == 0
    artefact = artefacts.load(tmp_path / "ae")
    assert artefact.high_C.tolist() == [16]
    assert artefact.report.trained_on == "public split of digits"
    assert artefact.report.samples + artefact.report.held_out == 256


def test_quiet_still_prints_the_result(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(images, "--out", tmp_path / "ae", "--epochs", "1", "--quiet")
    out, err = capsys.readouterr()
    assert "digest" in out
    assert err == ""


def test_a_target_that_cannot_be_written_is_refused_before_training(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="existing folder"):
        command(images, "--out", tmp_path / "no" / "ae")
    with pytest.raises(ConfigError, match="existing folder"):
        command(images, "--out", tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--key", "train_y"], DataError, "did you mean 'train_x'"),
        (["--limit", "0"], ConfigError, "got 0, expected 1 or more"),
        (["--limit", "3"], DataError, "N at least 16"),
        (["--input-range", "5", "5"], DataError, "low below high"),
    ],
)
def test_what_the_user_can_mend_is_said(
    images: Path, tmp_path: Path, options: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        command(images, "--out", tmp_path / "ae", *options)
    assert not (tmp_path / "ae").exists()


def test_data_without_a_public_split_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mydata.py").write_text(
        "from fedagg_edge.datasets import digits\ndef none_public():\n    return digits(public_forms=0)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="choose --split train"):
        command("mydata:none_public", "--out", tmp_path / "ae")
