"""The autoencoder file: one safetensors file with encoder, decoder, input range, code layout and its own report.

numpy and safetensors only; networks are made from it elsewhere. A run pins the file by the SHA-256 of its bytes, so
every node that holds the digest makes the same bridge samples. Nothing in the file is executed: the architecture is a
name that this package knows, its arguments are numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fedagg_edge.autoencoder.layout import UINT8_AFFINE, Layout, layout_from
from fedagg_edge.autoencoder.report import Audit, Report
from fedagg_edge.errors import ArtefactError
from fedagg_edge.files import write_atomic

__all__ = [
    "FORMAT",
    "MAX_FILE_BYTES",
    "MAX_PARAMETERS",
    "MAX_SAMPLE_VALUES",
    "SCHEMA",
    "Artefact",
    "digest_of",
    "dumps",
    "load",
    "loads",
    "save",
]

FORMAT = "fedagg-autoencoder"
SCHEMA = 2
"""Newest version of the file; a reader refuses a newer one. Version 2 adds the audit and layouts with mixed bits; a
file that has neither is still written as version 1, so that its digest stays what it was."""

MAX_PARAMETERS = 50_000
"""An autoencoder has fewer parameters than this, encoder and decoder together (the paper's rule)."""
MAX_FILE_BYTES = 1 << 20
"""Nothing larger is read: 50,000 float32 parameters are 200 kB, the rest is the header."""
MAX_SAMPLE_VALUES = 1 << 22
"""Largest C*H*W or C*L of a sample and largest embedding: what a decoder may be asked to allocate for one sample."""

_RETRAIN = "train it again with `fedagg autoencoder train`"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A trained autoencoder as data.

    `tensors`: float32 arrays in torch layout, named "encoder.*" and "decoder.*". `architecture` and `arguments` name
    the network to `networks.build`. `sample_shape` is (C, H, W) or (C, L). `low_C`, `high_C` float32 are the raw values
    that the model scale's 0 and 1 stand for, per channel: private, bridge and test samples all use this one scale,
    (x - low) / (high - low). `audit` is what an attack recovered, if one was made. Raises ArtefactError when the parts
    do not fit one another.
    """

    tensors: Mapping[str, NDArray[np.float32]]
    architecture: str
    arguments: Mapping[str, int]
    sample_shape: tuple[int, ...]
    low_C: NDArray[np.float32]
    high_C: NDArray[np.float32]
    layout: Layout
    report: Report
    audit: Audit | None = None

    def __post_init__(self) -> None:
        _check_tensors(self.tensors)
        _check_shape("sample shape", self.sample_shape, (1, 2, 3))
        _check_shape("embedding shape", self.layout.embedding_shape, (len(self.sample_shape),))
        channels = self.sample_shape[:1]
        for key, value_C in (("low", self.low_C), ("high", self.high_C)):
            if value_C.dtype != np.float32 or value_C.shape != channels or not np.isfinite(value_C).all():
                raise ArtefactError(
                    f"autoencoder input range: got {key} {value_C.dtype} {value_C.shape}, "
                    f"expected finite float32 {channels}, one per channel"
                )
        if not (self.high_C > self.low_C).all():
            raise ArtefactError("autoencoder input range: every high must be above its low")

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """Shape of one embedding: (E, H/4, W/4) or (E, L/4)."""
        return self.layout.embedding_shape

    @property
    def embedding_bytes(self) -> int:
        """Bytes of one sample's code."""
        return self.layout.sample_bytes


def _check_shape(what: str, shape: tuple[int, ...], dimensions: tuple[int, ...]) -> None:
    if len(shape) not in dimensions or min(shape, default=0) < 1 or math.prod(shape) > MAX_SAMPLE_VALUES:
        raise ArtefactError(
            f"autoencoder {what}: got {shape}, expected {' or '.join(map(str, dimensions))} positive sizes, "
            f"at most {MAX_SAMPLE_VALUES} values"
        )


def _check_tensors(tensors: Mapping[str, NDArray[np.float32]]) -> None:
    for name, value in tensors.items():
        if not name.startswith(("encoder.", "decoder.")):
            raise ArtefactError(f"autoencoder tensor {name!r}: expected a name in encoder.* or decoder.*")
        if value.dtype != np.float32:
            raise ArtefactError(f"autoencoder tensor {name!r}: got {value.dtype}, expected float32")
        if not np.isfinite(value).all():
            raise ArtefactError(f"autoencoder tensor {name!r} holds a value that is not finite; {_RETRAIN}")
    for part in ("encoder.", "decoder."):
        if not any(name.startswith(part) for name in tensors):
            raise ArtefactError(f"autoencoder: got no {part}* tensor")
    count = sum(value.size for value in tensors.values())
    if count >= MAX_PARAMETERS:
        raise ArtefactError(f"autoencoder: got {count} parameters, expected fewer than {MAX_PARAMETERS}")


def dumps(artefact: Artefact) -> bytes:
    """Return the file's bytes; the same artefact always makes the same bytes, hence the same digest."""
    header = {
        "architecture": artefact.architecture,
        "arguments": dict(sorted(artefact.arguments.items())),
        "sample_shape": list(artefact.sample_shape),
        "input_range": {"low": _floats(artefact.low_C), "high": _floats(artefact.high_C)},
        "layout": artefact.layout.as_json(),
        "report": artefact.report.as_json(),
    }
    if artefact.audit is not None:
        header["audit"] = artefact.audit.as_json()
    schema = 1 if artefact.audit is None and artefact.layout.name == UINT8_AFFINE else 2
    meta = {"format": FORMAT, "schema": schema, "autoencoder": header}
    metadata = {"fedagg": json.dumps(meta, sort_keys=True, allow_nan=False)}
    tensors = {name: np.ascontiguousarray(artefact.tensors[name]) for name in sorted(artefact.tensors)}
    return save_tensors(tensors, metadata=metadata)


def digest_of(artefact: Artefact) -> str:
    """Return the digest that `save` would return: SHA-256 (hex) of the file's bytes."""
    return hashlib.sha256(dumps(artefact)).hexdigest()


def loads(data: bytes, *, expect_digest: str | None = None, source: str = "autoencoder") -> Artefact:
    """Return the artefact in `data`; `source` names it in errors.

    `expect_digest` is the SHA-256 (hex) that a run pinned; without it a flipped bit in a weight cannot be seen. Raises
    ArtefactError if the bytes are not an artefact this version can read or not the pinned one.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ArtefactError(f"{source}: got {len(data)} bytes, an autoencoder has at most {MAX_FILE_BYTES}")
    digest = hashlib.sha256(data).hexdigest()
    if expect_digest is not None and digest != expect_digest:
        raise ArtefactError(
            f"{source}: got digest {digest}, expected {expect_digest}; "
            "the file is damaged or another one: copy it again from where the run began"
        )
    header = _header(data, source)
    try:
        tensors = {name: np.asarray(value) for name, value in load_tensors(data).items()}
        return _artefact(header, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ArtefactError(f"{source}: not a usable autoencoder ({error!r}); {_RETRAIN}") from error
    except ArtefactError as error:
        raise ArtefactError(f"{source}: {error}") from error


def _artefact(header: Mapping[str, Any], tensors: dict[str, NDArray[np.float32]]) -> Artefact:
    return Artefact(
        tensors=tensors,
        architecture=str(header["architecture"]),
        arguments={str(key): int(value) for key, value in header["arguments"].items()},
        sample_shape=tuple(int(v) for v in header["sample_shape"]),
        low_C=np.asarray(header["input_range"]["low"], dtype=np.float32),
        high_C=np.asarray(header["input_range"]["high"], dtype=np.float32),
        layout=layout_from(header["layout"]),
        report=Report.from_json(header["report"]),
        audit=Audit.from_json(header["audit"]) if "audit" in header else None,
    )


def _header(data: bytes, source: str) -> Mapping[str, Any]:
    """The metadata of a safetensors file: 8 bytes of length (little endian), then JSON with `__metadata__`."""
    try:
        length = int.from_bytes(data[:8], "little")
        outer = json.loads(data[8 : 8 + length])["__metadata__"]["fedagg"]
        meta = json.loads(outer)
        found, schema, header = meta["format"], meta["schema"], meta["autoencoder"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactError(f"{source}: not a {FORMAT} file, or a truncated one; {_RETRAIN}") from error
    if found != FORMAT:
        raise ArtefactError(f"{source}: got format {found!r}, expected {FORMAT!r}")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ArtefactError(f"{source}: got schema {schema}, this version reads up to {SCHEMA}; upgrade fedagg-edge")
    if not isinstance(header, Mapping):
        raise ArtefactError(f"{source}: not a {FORMAT} file: its description is no table")
    return header


def _floats(value_C: NDArray[np.float32]) -> list[float]:
    return [float(v) for v in value_C]


def save(artefact: Artefact, path: str | os.PathLike[str]) -> str:
    """Write the artefact to `path` and return its digest (SHA-256 of the file's bytes, hex).

    A crash leaves the old file or the new one, never half of one.
    """
    data = dumps(artefact)
    write_atomic(Path(path), data)
    return hashlib.sha256(data).hexdigest()


def load(path: str | os.PathLike[str], expect_digest: str | None = None) -> Artefact:
    """Read the artefact at `path`, see `loads`; ArtefactError also if there is no such file or it is too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read the autoencoder: {error.strerror}") from error
    return loads(data, expect_digest=expect_digest, source=str(path))
