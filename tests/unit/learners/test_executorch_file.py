"""The file of a training program: what it holds, and that nothing damaged or foreign gets past it. No ExecuTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedagg_edge.errors import ArtefactError
from fedagg_edge.learners import executorch_file
from fedagg_edge.learners.base import Entry

PROGRAM = b"\x10\0\0\0ET12" + bytes(range(200))
WEIGHTS = np.arange(7, dtype=np.float32)
ABOUT: dict[str, Any] = {
    "sample_shape": [2, 3],
    "classes": 2,
    "rows": 8,
    "table": [["w", [2, 3], True, "float32"], ["count", [], False, "int64"]],
    "changed_buffers": [0],
    "backward_inputs": ["x", "upstream"],
    "noise_columns": 0,
    "self_check": {"weights": 1e-7},
}


def sealed(**changes: Any) -> bytes:
    return executorch_file.seal(PROGRAM, ABOUT | changes, WEIGHTS)


def test_a_file_holds_what_was_sealed(tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(sealed())
    file = executorch_file.load(path)
    assert file.content.startswith(PROGRAM)
    assert file.table == (Entry("w", (2, 3), trained=True), Entry("count", (), trained=False))
    assert file.dtypes == ("float32", "int64")
    np.testing.assert_array_equal(file.weights, WEIGHTS)
    assert file.weights.flags.writeable
    assert (file.sample_shape, file.classes, file.rows) == ((2, 3), 2, 8)
    assert len(file.digest) == 64


@pytest.mark.parametrize("cut", [1, 32, 40, 100, 500])
def test_truncation_is_noticed(cut: int) -> None:
    with pytest.raises(ArtefactError, match=r"without fedagg's checksum|not an ExecuTorch program"):
        executorch_file.loads(sealed()[:-cut])


def test_every_flipped_byte_is_noticed() -> None:
    content = sealed()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x40
        with pytest.raises(ArtefactError):
            executorch_file.loads(bytes(damaged))


@pytest.mark.parametrize("content", [b"", b"x" * 1000, b"\0\0\0\0TFL3" + bytes(100)])
def test_another_kind_of_file_is_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError, match="not an ExecuTorch program"):
        executorch_file.loads(content)


def test_a_program_of_someone_else_is_refused() -> None:
    with pytest.raises(ArtefactError, match="truncated or foreign; export the model again"):
        executorch_file.loads(PROGRAM)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(executorch_file, "SCHEMA", 2)
        content = sealed()
    with pytest.raises(ArtefactError, match=r"schema 2, this version reads .* of schema 1"):
        executorch_file.loads(content)


@pytest.mark.parametrize(
    "changes",
    [{"table": [["w", [2, 3], True, "float32"]]}, {"classes": None}, {"rows": "many"}, {"table": 3}],
    ids=json.dumps,
)
def test_a_description_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match="cannot be used"):
        executorch_file.loads(sealed(**changes))


def test_a_missing_file_and_a_huge_one_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtefactError, match="cannot read"):
        executorch_file.load(tmp_path / "none.pte")
    path = tmp_path / "model.pte"
    path.write_bytes(sealed())
    monkeypatch.setattr(executorch_file, "_LARGEST", 10)
    with pytest.raises(ArtefactError, match="at most 10"):
        executorch_file.load(path)
