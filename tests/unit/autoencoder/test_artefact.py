"""The autoencoder file: round trip, digest, and everything that must be refused."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autoencoder.making import AUDIT, make_table_layout
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fedagg_edge.autoencoder import artefact as artefacts
from fedagg_edge.autoencoder.artefact import Artefact
from fedagg_edge.errors import ArtefactError


def rewritten(artefact: Artefact, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """The artefact's bytes after `change` had its way with the metadata and the tensors."""
    data = artefacts.dumps(artefact)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    meta, tensors = json.loads(header["__metadata__"]["fedagg"]), load_tensors(data)
    change(meta, tensors)
    return save_tensors(tensors, metadata={"fedagg": json.dumps(meta)})


def test_what_is_saved_is_loaded(artefact: Artefact, tmp_path: Path) -> None:
    digest = artefacts.save(artefact, tmp_path / "ae.safetensors")
    back = artefacts.load(tmp_path / "ae.safetensors", digest)
    assert digest == hashlib.sha256((tmp_path / "ae.safetensors").read_bytes()).hexdigest()
    assert digest == artefacts.digest_of(artefact) == artefacts.digest_of(back)
    assert back.report == artefact.report
    assert (back.architecture, back.arguments, back.sample_shape) == ("lapped-residual", artefact.arguments, (1, 8, 8))
    assert back.embedding_bytes == 8
    assert back.tensors.keys() == artefact.tensors.keys()
    for name, value in artefact.tensors.items():
        np.testing.assert_array_equal(back.tensors[name], value)


def test_a_file_without_news_is_still_of_version_1(artefact: Artefact) -> None:
    """Its digest is what older versions gave it, and they can read it."""

    def schema(data: bytes) -> object:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return json.loads(header["__metadata__"]["fedagg"])["schema"]

    assert schema(artefacts.dumps(artefact)) == 1
    assert schema(artefacts.dumps(dataclasses.replace(artefact, audit=AUDIT))) == 2


def test_the_audit_is_kept_and_part_of_the_digest(artefact: Artefact) -> None:
    audited = dataclasses.replace(artefact, audit=AUDIT)
    assert artefacts.loads(artefacts.dumps(audited)).audit == AUDIT
    assert artefacts.loads(artefacts.dumps(artefact)).audit is None
    assert artefacts.digest_of(audited) != artefacts.digest_of(artefact)


def test_a_code_of_mixed_bits_is_kept(artefact: Artefact) -> None:
    mixed = dataclasses.replace(artefact, layout=make_table_layout((2, 2, 2)))
    back = artefacts.loads(artefacts.dumps(mixed))
    assert back.layout.as_json() == mixed.layout.as_json()
    assert back.embedding_bytes == 2


def test_saving_replaces_the_old_file_and_leaves_nothing_beside(artefact: Artefact, tmp_path: Path) -> None:
    path = tmp_path / "ae.safetensors"
    path.write_bytes(b"old")
    artefacts.save(artefact, path)
    assert [p.name for p in tmp_path.iterdir()] == ["ae.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_save_leaves_the_old_file(artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ae.safetensors"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        artefacts.save(artefact, path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_every_flipped_bit_is_seen_when_the_digest_is_pinned(artefact: Artefact) -> None:
    data = artefacts.dumps(artefact)
    digest = hashlib.sha256(data).hexdigest()
    for place in np.random.default_rng(0).integers(0, len(data) * 8, 200):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << (place % 8)
        with pytest.raises(ArtefactError, match=f"expected {digest}"):
            artefacts.loads(bytes(damaged), expect_digest=digest)


def test_damage_without_a_digest_never_raises_anything_else(artefact: Artefact) -> None:
    data = artefacts.dumps(artefact)
    rng = np.random.default_rng(1)
    for _ in range(400):
        damaged = bytearray(data[: rng.integers(0, len(data))] if rng.random() < 0.3 else data)
        for place in rng.integers(0, max(1, min(len(damaged), 1800)), 3):
            if damaged:
                damaged[place] = rng.integers(0, 256)
        with contextlib.suppress(ArtefactError):
            artefacts.loads(bytes(damaged))


def _set(*path: str, to: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(meta: dict[str, Any], tensors: dict[str, Any]) -> None:
        for key in path[:-1]:
            meta = meta[key]
        meta[path[-1]] = to

    return change


def _tensor(name: str, value: np.ndarray) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda meta, tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", to="fedagg-checkpoint"), "got format 'fedagg-checkpoint'"),
        (_set("schema", to=3), "got schema 3, this version reads up to 2; upgrade"),
        (_set("schema", to="1"), "got schema 1"),
        (_set("autoencoder", to=[]), "no table"),
        (_set("autoencoder", "sample_shape", to=[1, 1 << 20, 1 << 20]), "at most"),
        (_set("autoencoder", "sample_shape", to=[0, 8, 8]), "positive sizes"),
        (_set("autoencoder", "sample_shape", to=[1, 8]), "embedding shape"),
        (_set("autoencoder", "input_range", "high", to=[0.0]), "above its low"),
        (_set("autoencoder", "input_range", "low", to=[0.0, 1.0]), "one per channel"),
        (_set("autoencoder", "input_range", "low", to=["nan"]), "finite"),
        (_set("autoencoder", "layout", "name", to="uint4"), "code layout"),
        (_set("autoencoder", "arguments", to=7), "not a usable autoencoder"),
        (_set("autoencoder", "report", "psnr_db", to="good"), "report: got 'good' for psnr_db"),
        (_set("autoencoder", "report", to={}), "report: got None"),
        (_tensor("encoder.transform.bias", np.array([np.inf, 0], np.float32)), "not finite"),
        (_tensor("encoder.transform.bias", np.zeros(2)), "got float64, expected float32"),
        (_tensor("classifier.weight", np.zeros(2, np.float32)), "encoder"),
        (_tensor("encoder.more", np.zeros(60_000, np.float32)), "fewer than 50000"),
        (lambda meta, tensors: [tensors.pop(k) for k in list(tensors) if k[0] == "d"], r"no decoder\.\*"),
    ],
)
def test_a_file_that_is_not_ours_says_why(
    artefact: Artefact, change: Callable[[dict[str, Any], dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(ArtefactError, match=message) as caught:
        artefacts.loads(rewritten(artefact, change), source="the/file")
    assert str(caught.value).startswith("the/file: ")


def test_unreadable_and_oversized_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot read"):
        artefacts.load(tmp_path / "missing")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 34)  # sparse; must not be read as a whole
    with pytest.raises(ArtefactError, match="at most 1048576"):
        artefacts.load(tmp_path / "large")
    (tmp_path / "foreign").write_bytes(save_tensors({"w": np.zeros(3, np.float32)}))
    with pytest.raises(ArtefactError, match="not a fedagg-autoencoder file"):
        artefacts.load(tmp_path / "foreign")


def test_an_artefact_checks_its_parts(artefact: Artefact) -> None:
    with pytest.raises(ArtefactError, match="above its low"):
        dataclasses.replace(artefact, low_C=artefact.high_C)


def test_reading_an_artefact_needs_no_torch() -> None:
    code = (
        "import sys, fedagg_edge.autoencoder.artefact, fedagg_edge.bridge, fedagg_edge.cli.autoencoder;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
