"""The training program of ExecuTorch with what belongs to it: its description, its first weights, its checksum.

A file is a .pte that any ExecuTorch runtime loads, and after the program's end, where the runtime does not look, a JSON
description, the weights, and a footer with lengths and the SHA-256 of all before it. The runtime crashes on damaged
bytes, so the damage must show before it is given any. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ArtefactError
from fedagg_edge.learners.base import Entry

__all__ = ["FORMAT", "SCHEMA", "TrainingProgram", "load", "loads", "seal"]

FORMAT = "fedagg-executorch"
SCHEMA = 1
"""Version of the file; a reader refuses another one."""

_MARK = b"FAGGETPT"
_FOOTER = struct.Struct("<QQQ8s32s")  # lengths of program, description and weights, the mark, the checksum
_CHECKSUM = 32
_LARGEST = 1 << 30  # bytes of a file that anyone would train with this engine
_AGAIN = "export the model again with `fedagg export --to executorch`"


@dataclass(frozen=True, slots=True)
class TrainingProgram:
    """What a file holds. `content` is all of it, which the runtime takes as it is.

    `table` is in the order of the flat weights and of the programs' inputs, `dtypes` are the inputs' in that order.
    `rows`: the largest batch. `changed_buffers`, `backward_inputs` and `noise_columns`: see `executorch_graph.Graphs`.
    """

    content: bytes
    table: tuple[Entry, ...]
    dtypes: tuple[str, ...]
    weights: NDArray[np.float32]
    sample_shape: tuple[int, ...]
    classes: int
    rows: int
    changed_buffers: tuple[int, ...]
    backward_inputs: tuple[str, ...]
    noise_columns: int
    report: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.content).hexdigest()


def seal(program: bytes, about: Mapping[str, Any], weights: NDArray[np.float32]) -> bytes:
    """The file of a program, its description and its weights."""
    description = json.dumps(
        {"format": FORMAT, "schema": SCHEMA, **about}, sort_keys=True, separators=(",", ":")
    ).encode()
    values = weights.astype("<f4").tobytes()
    body = program + description + values
    footer = _FOOTER.pack(len(program), len(description), len(values), _MARK, bytes(_CHECKSUM))[:-_CHECKSUM]
    return body + footer + hashlib.sha256(body + footer).digest()


def load(path: str | os.PathLike[str]) -> TrainingProgram:
    """Read the file at `path`, see `loads`; ArtefactError also if there is no such file or it is too large."""
    try:
        size = Path(path).stat().st_size
        if size > _LARGEST:
            raise ArtefactError(f"{path}: got {size} bytes, a training program has at most {_LARGEST}")
        return loads(Path(path).read_bytes(), source=str(path))
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read the training program: {error.strerror}") from error


def loads(content: bytes, *, source: str = "training program") -> TrainingProgram:
    """Return what `content` holds; `source` names it in errors.

    Raises ArtefactError if it is no training program, a damaged one, or one of another version.
    """
    if content[4:8] != b"ET12":
        raise ArtefactError(f"{source}: not an ExecuTorch program (.pte); {_AGAIN}")
    if content[-_CHECKSUM - len(_MARK) : -_CHECKSUM] != _MARK:
        raise ArtefactError(f"{source}: a .pte file without fedagg's checksum: truncated or foreign; {_AGAIN}")
    if hashlib.sha256(content[:-_CHECKSUM]).digest() != content[-_CHECKSUM:]:
        raise ArtefactError(f"{source}: its checksum does not fit its content: damaged; copy it again, or {_AGAIN}")
    try:
        about, weights = _parts(content)
        found, schema = about["format"], about["schema"]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{source}: its description cannot be read ({error!r}); {_AGAIN}") from error
    if (found, schema) != (FORMAT, SCHEMA):
        raise ArtefactError(
            f"{source}: got {found!r} of schema {schema}, this version reads {FORMAT!r} of schema {SCHEMA}; {_AGAIN}"
        )
    try:
        return _training_program(content, about, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{source}: its description cannot be used ({error!r}); {_AGAIN}") from error


def _parts(content: bytes) -> tuple[dict[str, Any], NDArray[np.float32]]:
    program, description, weights, _, _ = _FOOTER.unpack(content[-_FOOTER.size :])
    if program + description + weights + _FOOTER.size != len(content):
        raise ValueError(f"lengths {program}, {description} and {weights} do not fit {len(content)} bytes")
    about = json.loads(content[program : program + description])
    values = np.frombuffer(content, "<f4", weights // 4, program + description)
    return about, values.astype(np.float32)


def _training_program(content: bytes, about: Mapping[str, Any], weights: NDArray[np.float32]) -> TrainingProgram:
    table = tuple(Entry(name, tuple(shape), trained) for name, shape, trained, _ in about["table"])
    if len(weights) != sum(e.size for e in table):
        raise ValueError(f"got {len(weights)} weights, its table has {sum(e.size for e in table)}")
    return TrainingProgram(
        content=content,
        table=table,
        dtypes=tuple(dtype for _, _, _, dtype in about["table"]),
        weights=weights,
        sample_shape=tuple(about["sample_shape"]),
        classes=int(about["classes"]),
        rows=int(about["rows"]),
        changed_buffers=tuple(about["changed_buffers"]),
        backward_inputs=tuple(about["backward_inputs"]),
        noise_columns=int(about["noise_columns"]),
        report=about["self_check"],
    )
