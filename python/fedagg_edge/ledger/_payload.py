"""Arrays as bytes in the ledger. To be replaced at the merge by `fedagg_edge.wire.tensors`: same names, same bytes.

    embeddings  "FAE1", u16 origins, per origin (u8 length, ASCII, u32 rows), u32 bytes a code, u8 bytes a label,
                counters u64 [N], labels signed [N], codes u8 [N, B]
    sample ids  "FAS1", u16 origins, per origin (u8 length, ASCII, u32 rows), counters u64 [N]
    logits      int8: scales f32 [N], then values [N, C]; f32 and f16: values [N, C]

Little-endian, C order. Bytes a label: 0 (all held back), 1, 2 or 4; a label of -1 is held back.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Protocol

import numpy as np

from fedagg_edge.errors import DataError, LocalProtocolError, RemoteProtocolError
from fedagg_edge.records import Embeddings, LogitsFormat, NodeId, PackedLogits, SampleSet, node_id

__all__ = [
    "OWN",
    "dump_embeddings",
    "dump_logits",
    "dump_samples",
    "load_embeddings",
    "load_logits",
    "load_samples",
]


class _Limits(Protocol):
    @property
    def entry_rows(self) -> int: ...
    @property
    def entry_bytes(self) -> int: ...


class _Own(NamedTuple):
    entry_rows: int = 1 << 31
    entry_bytes: int = 1 << 30  # SQLite's own bound of a blob


OWN = _Own()
"""Limits for what this node wrote itself."""

_WIDTHS = {0: None, 1: "<i1", 2: "<i2", 4: "<i4"}
_VALUES = {LogitsFormat.F32: "<f4", LogitsFormat.F16: "<f2", LogitsFormat.INT8: "<i1"}


def dump_embeddings(embeddings: Embeddings) -> bytes:
    """Bytes of `embeddings`, labels as narrow as they allow; LocalProtocolError for a label below -1."""
    label_N, samples = embeddings.label_N, embeddings.samples
    low, high = (int(label_N.min()), int(label_N.max())) if len(label_N) else (-1, -1)
    if low < -1 or high >= 1 << 31:
        raise LocalProtocolError(f"embeddings: got labels from {low} to {high}, expected -1 to {2**31 - 1}")
    width = 0 if high == -1 else 1 if high < 1 << 7 else 2 if high < 1 << 15 else 4
    labels = label_N.astype(_WIDTHS[width]).tobytes() if width else b""
    head = _head(b"FAE1", samples) + struct.pack("<IB", embeddings.code_NB.shape[1], width)
    return b"".join((head, _ids(samples), labels, embeddings.code_NB.tobytes()))


def dump_samples(samples: SampleSet) -> bytes:
    """Bytes of a set of sample ids."""
    return _head(b"FAS1", samples) + _ids(samples)


def dump_logits(logits: PackedLogits) -> bytes:
    """Bytes of `logits`; format, rows and classes are kept beside them."""
    values = logits.value_NC.astype(_VALUES[logits.format]).tobytes()
    return values if logits.scale_N is None else logits.scale_N.astype("<f4").tobytes() + values


def load_embeddings(data: bytes, limits: _Limits) -> Embeddings:
    """The embeddings in `data`; raise RemoteProtocolError if they are not whole, in order and within `limits`."""
    origins, rows_O, at = _read_head(data, b"FAE1", limits)
    code_bytes, width = _unpack("<IB", data, at)
    n, at = sum(rows_O), at + 5
    if width not in _WIDTHS:
        raise RemoteProtocolError(f"embeddings: got labels of {width} bytes, expected 0, 1, 2 or 4")
    _expect(data, at + n * (8 + width + code_bytes))
    samples, at = _read_ids(data, at, origins, rows_O), at + 8 * n
    dtype = _WIDTHS[width]
    label_N = _array(data, dtype, n, at).astype(np.int64) if dtype else np.full(n, -1, np.int64)
    if n and label_N.min() < -1:
        raise RemoteProtocolError(f"embeddings: got label {label_N.min()}, expected -1 (held back) or more")
    code_NB = _array(data, "u1", n * code_bytes, at + n * width).reshape(n, code_bytes)
    return Embeddings(samples, code_NB, label_N)


def load_samples(data: bytes, limits: _Limits) -> SampleSet:
    """The sample ids in `data`; raise RemoteProtocolError as `load_embeddings` does."""
    origins, rows_O, at = _read_head(data, b"FAS1", limits)
    _expect(data, at + 8 * sum(rows_O))
    return _read_ids(data, at, origins, rows_O)


def load_logits(data: bytes, form: str, rows: int, classes: int) -> PackedLogits:
    """The logits [rows, classes] in `data`; raise RemoteProtocolError if it has not exactly their length."""
    if form not in set(LogitsFormat):
        raise RemoteProtocolError(f"logits: got format {form!r}, expected one of {', '.join(LogitsFormat)}")
    kind = LogitsFormat(form)
    dtype = np.dtype(_VALUES[kind])
    scales = 4 * rows if kind is LogitsFormat.INT8 else 0
    _expect(data, scales + rows * classes * dtype.itemsize)
    values = _array(data, dtype, rows * classes, scales).reshape(rows, classes).astype(dtype.newbyteorder("="))
    scale_N = _array(data, "<f4", rows, 0).astype(np.float32) if scales or kind is LogitsFormat.INT8 else None
    return PackedLogits(kind, values, scale_N)


def _head(magic: bytes, samples: SampleSet) -> bytes:
    parts = [magic, struct.pack("<H", len(samples.origins))]
    for origin, counter_N in zip(samples.origins, samples.counters, strict=True):
        parts.append(struct.pack("<B", len(origin)) + origin.encode("ascii") + struct.pack("<I", len(counter_N)))
    return b"".join(parts)


def _ids(samples: SampleSet) -> bytes:
    return b"".join(counter_N.astype("<u8").tobytes() for counter_N in samples.counters)


def _read_head(data: bytes, magic: bytes, limits: _Limits) -> tuple[list[NodeId], list[int], int]:
    if len(data) > limits.entry_bytes or data[:4] != magic:
        raise RemoteProtocolError(f"payload: got {len(data)} bytes that begin {data[:4]!r}, expected {magic!r}")
    (count,) = _unpack("<H", data, 4)
    origins, rows_O, at = [], [], 6
    for _ in range(count):
        (length,) = _unpack("<B", data, at)
        try:
            origins.append(node_id(data[at + 1 : at + 1 + length].decode("ascii")))
        except (UnicodeDecodeError, DataError):
            raise RemoteProtocolError(f"payload: origin {len(origins)} is no node id") from None
        rows_O.append(_unpack("<I", data, at + 1 + length)[0])
        at += 5 + length
    if sum(rows_O) > limits.entry_rows:
        raise RemoteProtocolError(f"payload: got {sum(rows_O)} rows, expected at most {limits.entry_rows}")
    return origins, rows_O, at


def _read_ids(data: bytes, at: int, origins: list[NodeId], rows_O: list[int]) -> SampleSet:
    parts = []
    for rows in rows_O:
        parts.append(_array(data, "<u8", rows, at).astype(np.uint64))
        at += 8 * rows
    try:
        return SampleSet(tuple(origins), tuple(parts))
    except DataError as e:
        raise RemoteProtocolError(str(e)) from None


def _array(data: bytes, dtype: Any, count: int, at: int) -> Any:
    return np.frombuffer(data, dtype, count, at) if count else np.empty(0, dtype)  # frombuffer takes no empty buffer


def _unpack(form: str, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        raise RemoteProtocolError(f"payload: got {len(data)} bytes, expected more after byte {at}") from None


def _expect(data: bytes, length: int) -> None:
    if len(data) != length:
        raise RemoteProtocolError(f"payload: got {len(data)} bytes, expected {length}")
