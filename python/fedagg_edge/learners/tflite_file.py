"""The training file of a device, read without a FlatBuffer library: its description, its first weights, its checksum.

A file is a .tflite that any runtime opens, with two entries of metadata, `fedagg` (JSON, packed by zlib or, in older
files, plain) and `fedagg.weights` (float32), and, after the FlatBuffer's end, a mark and the SHA-256 of all before it:
a runtime may crash on a damaged file, so the damage must show before one is made. Nothing in a file is executed but the
runtime's own operators.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ArtefactError
from fedagg_edge.learners.base import Entry

__all__ = ["FORMAT", "SCHEMA", "Mask", "TrainingFile", "described", "load", "loads", "packed", "seal"]

FORMAT = "fedagg-tflite"
SCHEMA = 2
"""Version of the file; a reader refuses another one."""
DESCRIPTION, WEIGHTS = "fedagg", "fedagg.weights"
"""Names of the two entries of metadata."""

_MARK = b"FAGGSHA2"
_LARGEST = 1 << 28  # bytes of a file that anyone would train on a device
_LONGEST = 1 << 22  # bytes of a description
_AGAIN = "export the model again with `fedagg export`"

# places of the fields that are read, by TFLite's schema: Model.buffers, Model.metadata, Metadata.name and .buffer,
# Buffer.data
_MODEL_BUFFERS, _MODEL_METADATA, _METADATA_NAME, _METADATA_BUFFER, _BUFFER_DATA = 4, 6, 0, 1, 0


@dataclass(frozen=True, slots=True)
class Mask:
    """A random input of a training pass: ones with probability `keep`, else zeros; `shape` without the batch."""

    name: str
    shape: tuple[int, ...]
    keep: float


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """What a file says of itself. `content` is the whole file, which a runtime takes as it is.

    `table` is in the order of the flat weights; the last entries of it count training passes, each growing by
    its `counted` in one, and are not seen by the graphs. `rows_apart`: no row of a batch influences another, so that
    batches can be joined.
    """

    content: bytes
    table: tuple[Entry, ...]
    counted: NDArray[np.float32]
    weights: NDArray[np.float32]
    sample_shape: tuple[int, ...]
    classes: int
    masks: tuple[Mask, ...]
    rows_apart: bool
    report: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.content).hexdigest()


def seal(flatbuffer: bytes) -> bytes:
    """The file of a FlatBuffer: itself, the mark and the checksum."""
    body = flatbuffer + _MARK
    return body + hashlib.sha256(body).digest()


def packed(about: Mapping[str, Any]) -> bytes:
    """A description as a file holds it."""
    return zlib.compress(json.dumps(about, sort_keys=True, separators=(",", ":")).encode(), 9)


def _unpacked(description: bytes) -> Any:
    """A description from what a file holds; raise zlib.error or ValueError if it is none."""
    if not description.startswith(b"{"):
        unpacking = zlib.decompressobj()
        description = unpacking.decompress(description, _LONGEST)
        if not unpacking.eof:
            raise ValueError(f"a description of more than {_LONGEST} bytes, or cut off")
    return json.loads(description)


def load(path: str | os.PathLike[str]) -> TrainingFile:
    """Read the file at `path`, see `loads`; ArtefactError also if there is no such file or it is too large."""
    try:
        size = Path(path).stat().st_size
        if size > _LARGEST:
            raise ArtefactError(f"{path}: got {size} bytes, a training file has at most {_LARGEST}")
        return loads(Path(path).read_bytes(), source=str(path))
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read the training file: {error.strerror}") from error


def loads(content: bytes, *, source: str = "training file") -> TrainingFile:
    """Return what `content` holds; `source` names it in errors.

    Raises ArtefactError if it is no training file, a damaged one, or one of another version.
    """
    about, entries = described(content, FORMAT, source=source)
    try:
        return _training_file(content, about, entries[WEIGHTS])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{source}: its description cannot be used ({error!r}); {_AGAIN}") from error


def described(content: bytes, wanted: str, *, source: str) -> tuple[Mapping[str, Any], Mapping[str, memoryview]]:
    """The description of a sealed file of the format `wanted`, and all its metadata; raises as `loads`."""
    if content[4:8] != b"TFL3":
        raise ArtefactError(f"{source}: not a .tflite file; {_AGAIN}")
    if content[-40:-32] != _MARK:
        raise ArtefactError(f"{source}: a .tflite file without fedagg's checksum: truncated or foreign; {_AGAIN}")
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        raise ArtefactError(f"{source}: its checksum does not fit its content: damaged; copy it again, or {_AGAIN}")
    try:
        entries = _metadata(content)
        about = _unpacked(bytes(entries[DESCRIPTION]))
        found, schema = about["format"], about["schema"]
    except (struct.error, zlib.error, IndexError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{source}: a .tflite file without fedagg's description; {_AGAIN}") from error
    if (found, schema) != (wanted, SCHEMA):
        raise ArtefactError(
            f"{source}: got {found!r} of schema {schema}, this version reads {wanted!r} of schema {SCHEMA}; {_AGAIN}"
        )
    return about, entries


def _training_file(content: bytes, about: Mapping[str, Any], weights: memoryview) -> TrainingFile:
    kinds = [kind for _, _, kind in about["table"]]
    table = tuple(Entry(name, tuple(shape), trained=kind == "trained") for name, shape, kind in about["table"])
    values = np.frombuffer(weights, np.float32).copy()
    if len(about["counted"]) != kinds.count("counter"):
        raise ValueError(f"got {len(about['counted'])} counters, its table has {kinds.count('counter')}")
    if len(values) != sum(e.size for e in table):
        raise ValueError(f"got {len(values)} weights, its table has {sum(e.size for e in table)}")
    return TrainingFile(
        content=content,
        table=table,
        counted=np.array(about["counted"], np.float32),
        weights=values,
        sample_shape=tuple(about["sample_shape"]),
        classes=int(about["classes"]),
        masks=tuple(Mask(name, tuple(shape), float(keep)) for name, shape, keep in about["masks"]),
        rows_apart=bool(about["rows_apart"]),
        report=about["self_check"],
    )


def _metadata(content: bytes) -> dict[str, memoryview]:
    """The metadata of a .tflite file, by name."""
    model = _uint(content, 0)
    buffers = _vector(content, _field(content, model, _MODEL_BUFFERS))
    entries = {}
    for entry in _vector(content, _field(content, model, _MODEL_METADATA)):
        name = _bytes(content, _field(content, entry, _METADATA_NAME))
        index = _uint(content, _field(content, entry, _METADATA_BUFFER))
        entries[bytes(name).decode()] = _bytes(content, _field(content, buffers[index], _BUFFER_DATA))
    return entries


def _uint(content: bytes, place: int) -> int:
    return int(struct.unpack_from("<I", content, place)[0])


def _field(content: bytes, table: int, number: int) -> int:
    """Where a table's field lies; KeyError if the table does not have it."""
    layout = table - struct.unpack_from("<i", content, table)[0]
    size = struct.unpack_from("<H", content, layout)[0]
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", content, layout + place)[0] if place < size else 0
    if not offset:
        raise KeyError(number)
    return int(table + offset)


def _vector(content: bytes, field: int) -> list[int]:
    """Where the tables of a vector lie."""
    start = field + _uint(content, field)
    places = [start + 4 + 4 * i for i in range(min(_uint(content, start), len(content)))]
    return [place + _uint(content, place) for place in places]


def _bytes(content: bytes, field: int) -> memoryview:
    start = field + _uint(content, field)
    size = _uint(content, start)
    if start + 4 + size > len(content):
        raise IndexError(f"{size} bytes reach beyond the end")
    return memoryview(content)[start + 4 : start + 4 + size]
