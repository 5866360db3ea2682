"""What the bytes of an embedding mean: the code layout that an autoencoder artefact carries.

`UINT8_AFFINE`: every embedding value is one byte, value ~ low + code * step with low and step per embedding channel;
the bytes of a sample are its embedding in C order (channel first). `PACKED_TABLES`: every value has its own number of
bits, 0 to 8, and its own scale; values of equal bits share a table of levels. Nothing above the bridge sees the
difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import ArtefactError, nearest

__all__ = ["PACKED_TABLES", "UINT8_AFFINE", "CodeLayout", "Layout", "TableLayout", "layout_from"]

UINT8_AFFINE = "uint8-affine-per-channel"
PACKED_TABLES = "packed-bits-tables"
"""Names of the layouts, as artefacts spell them."""

MAX_BITS = 8  # of a value


@dataclass(frozen=True, slots=True)
class CodeLayout:
    """How an embedding of `embedding_shape` (E, ...) becomes `sample_bytes` bytes.

    `low_E` and `step_E` float32, one per embedding channel: value ~ low + code * step, step above zero.
    Raises ArtefactError when the numbers cannot make a code.
    """

    name: str
    embedding_shape: tuple[int, ...]
    low_E: NDArray[np.float32]
    step_E: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.name != UINT8_AFFINE:
            raise ArtefactError(
                f"code layout: got {self.name!r}{nearest(self.name, [UINT8_AFFINE, PACKED_TABLES])}, "
                f"this version knows {UINT8_AFFINE!r} and {PACKED_TABLES!r}"
            )
        for key, value_E in (("low", self.low_E), ("step", self.step_E)):
            if value_E.dtype != np.float32 or value_E.shape != self.embedding_shape[:1]:
                raise ArtefactError(
                    f"code layout: got {value_E.dtype} {value_E.shape} {key}, "
                    f"expected float32 ({self.embedding_shape[0]},), one per embedding channel"
                )
            if not np.isfinite(value_E).all():
                raise ArtefactError(f"code layout: {key} holds a value that is not finite")
        if not (self.step_E > 0).all():
            raise ArtefactError("code layout: got a step of 0 or less, expected every step above 0")

    @property
    def values(self) -> int:
        """Numbers in one embedding."""
        return math.prod(self.embedding_shape)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's code."""
        return self.values

    def per_value(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (low_D, step_D) float32, D = `values`: the layout spread over a flattened embedding."""
        repeat = self.values // self.embedding_shape[0]
        return np.repeat(self.low_E, repeat), np.repeat(self.step_E, repeat)

    def encode(self, z_ND: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the codes uint8 [N, sample_bytes] of flattened embeddings [N, values]."""
        from fedagg_edge import kernels  # noqa: PLC0415  reading an artefact needs no core

        return kernels.encode_affine(z_ND, *self.per_value())

    def decode(self, code_NB: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the embeddings float32 [N, values] that the codes stand for."""
        from fedagg_edge import kernels  # noqa: PLC0415  reading an artefact needs no core

        return kernels.decode_affine(np.ascontiguousarray(code_NB), *self.per_value())

    def as_json(self) -> dict[str, Any]:
        """Return the layout as JSON values; float32 survives the round trip exactly."""
        return {
            "name": self.name,
            "embedding_shape": list(self.embedding_shape),
            "low": [float(v) for v in self.low_E],
            "step": [float(v) for v in self.step_E],
            "sample_bytes": self.sample_bytes,
        }


@dataclass(frozen=True, slots=True)
class TableLayout:
    """How an embedding of `embedding_shape` becomes packed codes of mixed bits: value ~ table[code] * scale.

    `bits_D` uint8 in C order of the embedding, 0 to 8 (0: not sent, decodes to 0); `scale_D` float32, above zero;
    `tables` maps a number of bits to its levels, float32 [2**bits], rising, in units of the scale (Lloyd, IEEE
    Transactions on Information Theory 28(2), 1982). Raises ArtefactError when the numbers cannot make a code.
    """

    embedding_shape: tuple[int, ...]
    bits_D: NDArray[np.uint8]
    scale_D: NDArray[np.float32]
    tables: Mapping[int, NDArray[np.float32]]
    name: str = PACKED_TABLES

    def __post_init__(self) -> None:
        shape = (self.values,)
        if self.bits_D.shape != shape or self.bits_D.dtype != np.uint8 or self.bits_D.max(initial=0) > MAX_BITS:
            raise ArtefactError(
                f"code layout: got {self.bits_D.dtype} {self.bits_D.shape} bits, "
                f"expected uint8 {shape}, 0 to {MAX_BITS}"
            )
        if not self.bits_D.any():
            raise ArtefactError("code layout: got 0 bits for every value, expected some above 0")
        fits = self.scale_D.dtype == np.float32 and self.scale_D.shape == shape and np.isfinite(self.scale_D).all()
        if not fits or not (self.scale_D > 0).all():
            raise ArtefactError(f"code layout: expected finite float32 scales {shape} above 0")
        for bits in np.unique(self.bits_D[self.bits_D > 0]).tolist():
            table = self.tables.get(bits)
            if table is None or table.dtype != np.float32 or table.shape != (2**bits,) or not np.isfinite(table).all():
                raise ArtefactError(f"code layout: expected a table of {2**bits} finite float32 levels for {bits} bits")
            if not (np.diff(table) >= 0).all():
                raise ArtefactError(f"code layout: the levels for {bits} bits do not rise")

    @property
    def values(self) -> int:
        """Numbers in one embedding, those that are not sent too."""
        return math.prod(self.embedding_shape)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's code."""
        return (int(self.bits_D.sum(dtype=np.int64)) + 7) // 8

    def _places(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        for bits, table in self.tables.items():
            yield np.flatnonzero(self.bits_D == bits), table

    def encode(self, z_ND: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the codes uint8 [N, sample_bytes] of flattened embeddings [N, values]: the nearest level of each."""
        from fedagg_edge import kernels  # noqa: PLC0415  reading an artefact needs no core

        index_ND = np.zeros(z_ND.shape, np.uint8)
        for places, table in self._places():
            edges = (table[1:] + table[:-1]) / 2
            index_ND[:, places] = np.searchsorted(edges, z_ND[:, places] / self.scale_D[places], side="right")
        return kernels.pack_bits(index_ND, self.bits_D)

    def decode(self, code_NB: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the embeddings float32 [N, values] that the codes stand for."""
        from fedagg_edge import kernels  # noqa: PLC0415  reading an artefact needs no core

        index_ND = kernels.unpack_bits(np.ascontiguousarray(code_NB), self.bits_D)
        z_ND = np.zeros(index_ND.shape, np.float32)
        for places, table in self._places():
            z_ND[:, places] = table[index_ND[:, places]] * self.scale_D[places]
        return z_ND

    def as_json(self) -> dict[str, Any]:
        """Return the layout as JSON values; float32 survives the round trip exactly."""
        sent_D = self.bits_D > 0
        return {
            "name": self.name,
            "embedding_shape": list(self.embedding_shape),
            "bits": "".join(map(str, self.bits_D.tolist())),
            "scale": [float(v) for v in self.scale_D[sent_D]],
            "tables": {str(bits): [float(v) for v in self.tables[bits]] for bits in sorted(self.tables)},
            "sample_bytes": self.sample_bytes,
        }


Layout = CodeLayout | TableLayout


def layout_from(data: Mapping[str, Any]) -> Layout:
    """Return the layout that `as_json` wrote; raise ArtefactError if it is not one this version can read."""
    shape = tuple(int(v) for v in data["embedding_shape"])
    layout: Layout
    if data["name"] == PACKED_TABLES:
        layout = _table_layout(data, shape)
    else:
        layout = CodeLayout(
            name=str(data["name"]),
            embedding_shape=shape,
            low_E=np.asarray(data["low"], dtype=np.float32),
            step_E=np.asarray(data["step"], dtype=np.float32),
        )
    if int(data["sample_bytes"]) != layout.sample_bytes:
        raise ArtefactError(
            f"code layout: got {data['sample_bytes']} bytes a sample, embedding shape {layout.embedding_shape} "
            f"makes {layout.sample_bytes}"
        )
    return layout


def _table_layout(data: Mapping[str, Any], shape: tuple[int, ...]) -> TableLayout:
    bits_D = np.array([int(digit) for digit in data["bits"]], np.uint8)
    scale_D = np.ones(bits_D.shape, np.float32)
    sent = np.count_nonzero(bits_D)
    if len(data["scale"]) != sent:
        raise ArtefactError(
            f"code layout: got {len(data['scale'])} scales, expected {sent}, one per value that is sent"
        )
    scale_D[bits_D > 0] = data["scale"]
    tables = {int(bits): np.asarray(levels, np.float32) for bits, levels in data["tables"].items()}
    if set(tables) != set(np.unique(bits_D[bits_D > 0]).tolist()):
        raise ArtefactError(f"code layout: got tables for {sorted(tables)} bits, expected those that values have")
    return TableLayout(shape, bits_D, scale_D, tables)
