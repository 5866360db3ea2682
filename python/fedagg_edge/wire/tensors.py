"""Arrays as bytes: little-endian, C order, the exact length checked before anything is taken for it.

    embeddings  "FAE1", u16 origins, per origin (u8 length, ASCII, u32 rows), u32 bytes a code, u8 bytes a label,
                counters u64 [N], labels signed [N], codes [N, B]
    sample ids  "FAS1", u16 origins, per origin (u8 length, ASCII, u32 rows), counters u64 [N]
    release     "FAR1", u8 length, ASCII of the node that moved, u64 fence of the move, then sample ids as above
    logits      int8: scales f32 [N], then values [N, C]; f32 and f16: values [N, C]

Bytes a label: 0 (all held back), 1, 2 or 4; a label of -1 is held back.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError, LocalProtocolError, RemoteProtocolError
from fedagg_edge.records import Embeddings, LogitsFormat, NodeId, PackedLogits, SampleSet, node_id
from fedagg_edge.wire.limits import check

__all__ = [
    "OWN",
    "Release",
    "Sizes",
    "check_logits",
    "dump_embeddings",
    "dump_logits",
    "dump_release",
    "dump_samples",
    "load_embeddings",
    "load_logits",
    "load_release",
    "load_samples",
]


class Sizes(Protocol):
    """What is read is at most this long; `wire.limits.Limits` are such."""

    @property
    def entry_rows(self) -> int: ...
    @property
    def entry_bytes(self) -> int: ...


class _Own(NamedTuple):
    entry_rows: int = 1 << 31
    entry_bytes: int = 1 << 30  # SQLite's own bound of a blob


OWN: Final = _Own()
"""For what this node wrote itself."""

_EMBEDDINGS: Final = b"FAE1"
_SAMPLES: Final = b"FAS1"
_RELEASE: Final = b"FAR1"
_WIDTHS: Final = (0, 1, 2, 4)
_VALUE_BYTES: Final = {LogitsFormat.F32: 4, LogitsFormat.F16: 2, LogitsFormat.INT8: 1}
_CODES: Final = {LogitsFormat.F32: "f4", LogitsFormat.F16: "f2", LogitsFormat.INT8: "i1"}
_FORMATS: Final = {str(form): form for form in LogitsFormat}


class Release(NamedTuple):
    """Rows that a link loses because `mover` has gone to another parent, by its move number `fence`."""

    mover: NodeId
    fence: int
    samples: SampleSet


def dump_embeddings(embeddings: Embeddings) -> bytes:
    """Bytes of `embeddings`, labels as narrow as they allow. Raises LocalProtocolError if labels are no labels."""
    label_N = embeddings.label_N
    width = _label_width(label_N)
    head = _dump_origins(_EMBEDDINGS, embeddings.samples)
    head += struct.pack("<IB", embeddings.code_NB.shape[1], width)
    label = label_N.astype(f"<i{width}").tobytes() if width else b""
    return head + _dump_counters(embeddings.samples) + label + embeddings.code_NB.tobytes()


def dump_samples(samples: SampleSet) -> bytes:
    """Bytes of a set of sample ids."""
    return _dump_origins(_SAMPLES, samples) + _dump_counters(samples)


def dump_release(release: Release) -> bytes:
    """Bytes of a release."""
    name = release.mover.encode("ascii")
    head = _RELEASE + struct.pack("<B", len(name)) + name + struct.pack("<Q", release.fence)
    return head + dump_samples(release.samples)


def dump_logits(logits: PackedLogits) -> bytes:
    """Bytes of `logits`; format, rows and classes travel beside them."""
    value_NC = logits.value_NC
    values = value_NC.astype(value_NC.dtype.newbyteorder("<"), copy=False).tobytes()
    return values if logits.scale_N is None else logits.scale_N.astype("<f4").tobytes() + values


def load_embeddings(data: bytes, limits: Sizes) -> Embeddings:
    """The embeddings in `data`; raise RemoteProtocolError if they are not whole, in order and within `limits`."""
    check("embeddings", len(data), limits.entry_bytes)
    names, count_O, at = _load_origins(data, _EMBEDDINGS, limits)
    rows = sum(count_O)
    code_bytes, width = _unpack("<IB", data, at, "embeddings")
    at += 5
    if width not in _WIDTHS:
        raise RemoteProtocolError(f"embeddings: got labels of {width} bytes, expected 0, 1, 2 or 4")
    _check_length("embeddings", data, at + rows * (8 + width + code_bytes))
    samples, at = _load_counters(data, at, names, count_O)
    label_N = np.full(rows, -1, np.int64)
    if width:
        label_N[:] = np.frombuffer(data, f"<i{width}", rows, at)
    if rows and int(label_N.min()) < -1:
        raise RemoteProtocolError(f"embeddings: got label {int(label_N.min())}, expected -1 (held back) or more")
    code_NB = _array(data, "u1", rows * code_bytes, at + rows * width).reshape(rows, code_bytes)
    return Embeddings(samples, code_NB.astype(np.uint8, copy=False), label_N)


def load_samples(data: bytes, limits: Sizes) -> SampleSet:
    """The set of sample ids in `data`; raise RemoteProtocolError as `load_embeddings` does."""
    check("samples", len(data), limits.entry_bytes)
    names, count_O, at = _load_origins(data, _SAMPLES, limits)
    _check_length("samples", data, at + sum(count_O) * 8)
    return _load_counters(data, at, names, count_O)[0]


def load_release(data: bytes, limits: Sizes) -> Release:
    """The release in `data`; raise RemoteProtocolError as `load_embeddings` does."""
    check("release", len(data), limits.entry_bytes)
    if data[:4] != _RELEASE:
        raise RemoteProtocolError(f"blob: got {data[:4]!r} in front, expected {_RELEASE!r}")
    (length,) = _unpack("<B", data, 4, "release")
    try:
        mover = node_id(data[5 : 5 + length].decode("ascii"))
    except (UnicodeDecodeError, DataError) as e:
        raise RemoteProtocolError(f"release: got {length} bytes that are no node id") from e
    (fence,) = _unpack("<Q", data, 5 + length, "release")
    return Release(mover, fence, load_samples(data[13 + length :], limits))


def check_logits(data: bytes, form: str, rows: int, classes: int) -> LogitsFormat:
    """The format, if `data` is as long as logits [rows, classes] in it are; raise RemoteProtocolError if not."""
    known = _FORMATS.get(form)
    if known is None:
        raise RemoteProtocolError(f"logits: got format {form!r}, expected one of {', '.join(LogitsFormat)}")
    if not (0 <= rows < 2**31 and 0 < classes < 2**31):
        raise RemoteProtocolError(f"logits: got {rows} rows of {classes} classes, expected at least 0 of 1")
    scales = rows * 4 if known is LogitsFormat.INT8 else 0
    _check_length("logits", data, scales + rows * classes * _VALUE_BYTES[known])
    return known


def load_logits(data: bytes, form: str, rows: int, classes: int) -> PackedLogits:
    """The logits [rows, classes] in `data`; raise RemoteProtocolError if it has not exactly their length."""
    form = check_logits(data, form, rows, classes)
    scales = rows * 4 if form is LogitsFormat.INT8 else 0
    value_NC = _array(data, f"<{_code(form)}", rows * classes, scales).reshape(rows, classes)
    if form is LogitsFormat.INT8:
        return PackedLogits(form, value_NC.astype(np.int8, copy=False), _array(data, "<f4", rows).astype(np.float32))
    native = np.dtype(_code(form))
    return PackedLogits(form, value_NC.astype(native, copy=False))


def _code(form: LogitsFormat) -> str:
    return _CODES[form]


def _label_width(label_N: NDArray[np.int64]) -> int:
    if not (label_N != -1).any():
        return 0
    low, high = int(label_N.min()), int(label_N.max())
    if low < -1 or high >= 2**31:
        raise LocalProtocolError(f"embeddings: got labels from {low} to {high}, expected -1 to {2**31 - 1}")
    return 1 if high < 2**7 else 2 if high < 2**15 else 4


def _dump_origins(magic: bytes, samples: SampleSet) -> bytes:
    if len(samples.origins) >= 2**16:
        raise LocalProtocolError(f"samples: got {len(samples.origins)} origins in one entry, expected at most 65535")
    parts = [magic, struct.pack("<H", len(samples.origins))]
    for origin, counter_N in zip(samples.origins, samples.counters, strict=True):
        name = origin.encode("ascii")
        parts.append(struct.pack("<B", len(name)) + name + struct.pack("<I", len(counter_N)))
    return b"".join(parts)


def _dump_counters(samples: SampleSet) -> bytes:
    return b"".join(counter_N.astype("<u8").tobytes() for counter_N in samples.counters)


def _load_origins(data: bytes, magic: bytes, limits: Sizes) -> tuple[list[NodeId], list[int], int]:
    """(origins, rows of each, where the rest begins); the sum of the rows is within the limits."""
    if data[:4] != magic:
        raise RemoteProtocolError(f"blob: got {data[:4]!r} in front, expected {magic!r}")
    (origins,) = _unpack("<H", data, 4, "origins")
    names: list[NodeId] = []
    count_O: list[int] = []
    at = 6
    for _ in range(origins):
        (length,) = _unpack("<B", data, at, "origin")
        at += 1
        try:
            names.append(node_id(data[at : at + length].decode("ascii")))
        except (UnicodeDecodeError, DataError) as e:
            raise RemoteProtocolError(f"origin {len(names)}: got {length} bytes that are no node id") from e
        (rows,) = _unpack("<I", data, at + length, "origin")
        at += length + 4
        count_O.append(rows)
    check("rows", sum(count_O), limits.entry_rows, "samples")
    return names, count_O, at


def _load_counters(data: bytes, at: int, names: list[NodeId], count_O: list[int]) -> tuple[SampleSet, int]:
    """(the sample set, where the rest begins)."""
    counters = []
    for rows in count_O:
        counters.append(_array(data, "<u8", rows, at).astype(np.uint64))
        at += rows * 8
    try:
        return SampleSet(tuple(names), tuple(counters)), at
    except DataError as e:
        raise RemoteProtocolError(str(e)) from e


def _array(data: bytes, dtype: str, count: int, at: int = 0) -> NDArray[np.generic]:
    """A view of `count` numbers; numpy makes none of an empty buffer."""
    return np.frombuffer(data, dtype, count, at) if count else np.empty(0, dtype)


def _unpack(form: str, data: bytes, at: int, field: str) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        raise RemoteProtocolError(f"{field}: got {len(data)} bytes, expected more behind byte {at}") from None


def _check_length(field: str, data: bytes, expected: int) -> None:
    if len(data) != expected:
        raise RemoteProtocolError(f"{field}: got {len(data)} bytes, expected {expected}")
