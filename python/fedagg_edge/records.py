"""The records that nodes keep and exchange: frozen, validated on construction, free of behaviour and of I/O.

What is decided here is expensive to change: ids, the order of a sample set and its digest, the shape of knowledge.
Every record that is stored or sent carries `SCHEMA` beside it.

Shape letters: N samples, C classes, B bytes of an embedding.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError, LocalProtocolError, RemoteProtocolError

__all__ = [
    "SCHEMA",
    "Embeddings",
    "Knowledge",
    "Link",
    "LogitsFormat",
    "NodeId",
    "PackedLogits",
    "SampleSet",
    "Tier",
    "counters",
    "node_id",
]

Scalar = TypeVar("Scalar", bound=np.generic)

SCHEMA = 1
"""Version of every record in this module; a reader refuses a newer one."""

NodeId = NewType("NodeId", str)
"""A node's stable name: 1 to 64 of ``a-z 0-9 . _ -``, starting with a letter or digit. ASCII so that its order is the
same in every language that sorts it."""

_NODE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def node_id(text: str) -> NodeId:
    """Return `text` as a `NodeId`; raise DataError if it is not one."""
    if not _NODE_ID.fullmatch(text):
        raise DataError(f"node id: got {text!r}, expected 1 to 64 of a-z 0-9 . _ -, starting with a letter or digit")
    return NodeId(text)


class Tier(StrEnum):
    """What a node is by its place in the tree."""

    DEVICE = "device"  # a leaf: private samples and a parent
    EDGE = "edge"  # children and a parent
    CLOUD = "cloud"  # the root: children only


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """One parent-child pair; bridge samples of the leaves below `child` are what the two share."""

    child: NodeId
    parent: NodeId

    def __str__(self) -> str:
        return f"{self.child}->{self.parent}"

    def other(self, node: NodeId) -> NodeId:
        """The neighbour of `node` on this link."""
        if node == self.child:
            return self.parent
        if node == self.parent:
            return self.child
        raise LocalProtocolError(f"node {node!r} is no end of link {self}")


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Which samples, in which order: sample_id = (origin node, counter), ascending by origin, then by counter.

    The order is part of the contract: knowledge carries only `digest`, and its rows follow this order. A sample's
    embedding never changes once its id is given out, so the ids alone name the content.
    """

    origins: tuple[NodeId, ...]
    counters: tuple[NDArray[np.uint64], ...]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.origins) != len(self.counters):
            raise DataError(f"sample set: got {len(self.origins)} origins and {len(self.counters)} counter arrays")
        if list(self.origins) != sorted(set(self.origins)):
            raise DataError("sample set: origins must be unique and ascending")
        for origin, counter_N in zip(self.origins, self.counters, strict=True):
            if counter_N.dtype != np.uint64 or counter_N.ndim != 1:
                raise DataError(f"sample set: counters of {origin} must be a one-dimensional uint64 array")
            if np.any(counter_N[1:] <= counter_N[:-1]):
                raise DataError(f"sample set: counters of {origin} must be unique and ascending")
        object.__setattr__(self, "digest", self._digest())

    def _digest(self) -> str:
        """SHA-256 over a canonical byte form that any language can make: see docs/records.md."""
        h = hashlib.sha256(b"fedagg/sample-set/1\n")
        for origin, counter_N in zip(self.origins, self.counters, strict=True):
            name = origin.encode("ascii")
            h.update(struct.pack(">H", len(name)) + name + struct.pack(">Q", len(counter_N)))
            h.update(counter_N.astype(">u8").tobytes())
        return h.hexdigest()

    def __len__(self) -> int:
        return sum(len(c) for c in self.counters)

    @staticmethod
    def of(origin: NodeId, counter_N: NDArray[np.uint64]) -> SampleSet:
        """The set of one origin's samples."""
        return SampleSet((origin,), (counter_N,))

    def contains(self, other: SampleSet) -> NDArray[np.bool_]:
        """For each row of `other`, in its order: whether this set has that sample."""
        own = dict(zip(self.origins, self.counters, strict=True))
        parts = [np.isin(c, own.get(o, _NO_COUNTERS), assume_unique=True) for o, c in _by_origin(other)]
        return np.concatenate([np.empty(0, np.bool_), *parts])

    def only(self, keep_N: NDArray[np.bool_]) -> SampleSet:
        """The set of the rows where `keep_N` is true; origins without any are left out."""
        parts, start = [], 0
        for origin, counter_N in _by_origin(self):
            parts.append((origin, counter_N[keep_N[start : start + len(counter_N)]]))
            start += len(counter_N)
        parts = [(o, c) for o, c in parts if len(c)]
        return SampleSet(tuple(o for o, _ in parts), tuple(c for _, c in parts))

    def select(self, value_NX: NDArray[Scalar], wanted: SampleSet) -> NDArray[Scalar]:
        """The rows of `value_NX`, which follow this set, that belong to `wanted`, a part of this set, in its order.

        Raises DataError if `wanted` has a sample that this set has not.
        """
        if wanted.digest == self.digest:
            return value_NX
        keep_N = wanted.contains(self)
        if int(keep_N.sum()) != len(wanted):
            raise DataError(f"sample set: asked for {len(wanted)} samples, this set has {int(keep_N.sum())} of them")
        return value_NX[keep_N]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Encoded private samples with their labels, rows in the order of `samples`.

    `code_NB` uint8: the autoencoder artefact says what the bytes mean. `label_N` int64.
    """

    samples: SampleSet
    code_NB: NDArray[np.uint8]
    label_N: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.samples)
        if self.code_NB.dtype != np.uint8 or self.code_NB.ndim != 2 or len(self.code_NB) != n:
            raise DataError(
                f"embeddings: got {self.code_NB.dtype} {self.code_NB.shape} codes, expected uint8 ({n}, bytes)"
            )
        if self.label_N.dtype != np.int64 or self.label_N.shape != (n,):
            raise DataError(f"embeddings: got {self.label_N.dtype} {self.label_N.shape} labels, expected int64 ({n},)")

    def __len__(self) -> int:
        return len(self.samples)

    def only(self, wanted: SampleSet) -> Embeddings:
        """The rows whose samples are in `wanted`."""
        keep_N = wanted.contains(self.samples)
        if keep_N.all():
            return self
        return Embeddings(self.samples.only(keep_N), self.code_NB[keep_N], self.label_N[keep_N])

    @property
    def nbytes(self) -> int:
        """Payload bytes of one upload: codes, one 2-byte label and one 8-byte counter a sample, each origin once."""
        return self.code_NB.nbytes + len(self) * (2 + 8) + sum(len(o) for o in self.samples.origins)

    @staticmethod
    def merge(parts: Iterable[Embeddings]) -> Embeddings:
        """Join embeddings into one in canonical order; a row that came twice with equal content is kept once.

        Raises DataError if one sample id came with two different contents, or if there is nothing to merge.
        """
        parts = list(parts)
        if not parts:
            raise DataError("embeddings: nothing to merge")
        names = sorted({o for p in parts for o in p.samples.origins})
        rank = {name: i for i, name in enumerate(names)}
        origin_N = np.concatenate([_origin_rows(p.samples, rank) for p in parts])
        counter_N = np.concatenate([c for p in parts for c in (*p.samples.counters, _NO_COUNTERS)])
        code_NB = np.concatenate([p.code_NB for p in parts])
        label_N = np.concatenate([p.label_N for p in parts])
        order = np.lexsort((counter_N, origin_N))
        origin_N, counter_N = origin_N[order], counter_N[order]
        code_NB, label_N = code_NB[order], label_N[order]
        twice = (origin_N[1:] == origin_N[:-1]) & (counter_N[1:] == counter_N[:-1])
        differs = twice & ((code_NB[1:] != code_NB[:-1]).any(axis=1) | (label_N[1:] != label_N[:-1]))
        if differs.any():
            i = int(differs.argmax())
            raise DataError(
                f"embeddings: sample ({names[origin_N[i]]}, {counter_N[i]}) came with two different contents; "
                "an embedding may not change once its id is given out"
            )
        keep = np.ones(len(order), bool)
        keep[1:] = ~twice
        origin_N, counter_N = origin_N[keep], counter_N[keep]
        samples = SampleSet(tuple(names), tuple(counter_N[origin_N == i] for i in range(len(names))))
        return Embeddings(samples, code_NB[keep], label_N[keep])


_NO_COUNTERS = np.empty(0, np.uint64)


def _by_origin(samples: SampleSet) -> Iterable[tuple[NodeId, NDArray[np.uint64]]]:
    return zip(samples.origins, samples.counters, strict=True)


def _origin_rows(samples: SampleSet, rank: dict[NodeId, int]) -> NDArray[np.int64]:
    """The rank of each row's origin, one entry a row."""
    ranks = np.array([rank[o] for o in samples.origins], np.int64)
    return np.repeat(ranks, [len(c) for c in samples.counters])


class LogitsFormat(StrEnum):
    """How logits travel."""

    F32 = "f32"
    F16 = "f16"
    INT8 = "int8"  # per-row symmetric: value = int8 * scale


_DTYPE = {LogitsFormat.F32: np.float32, LogitsFormat.F16: np.float16, LogitsFormat.INT8: np.int8}


@dataclass(frozen=True, slots=True)
class PackedLogits:
    """Logits as they travel: `value_NC` in the format's dtype and, for int8, one float32 scale a row."""

    format: LogitsFormat
    value_NC: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]
    scale_N: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        expected = np.dtype(_DTYPE[self.format])
        if self.value_NC.dtype != expected or self.value_NC.ndim != 2:
            raise DataError(
                f"logits: got {self.value_NC.dtype} {self.value_NC.shape}, expected {expected} (samples, classes)"
            )
        if (self.scale_N is not None) != (self.format is LogitsFormat.INT8):
            raise DataError(f"logits: {self.format} logits {'need' if self.scale_N is None else 'have no'} row scales")
        n = len(self.value_NC)
        if self.scale_N is not None and (
            self.scale_N.dtype != np.float32 or self.scale_N.shape != (len(self.value_NC),)
        ):
            raise DataError(f"logits: got {self.scale_N.dtype} {self.scale_N.shape} scales, expected float32 ({n},)")

    @property
    def nbytes(self) -> int:
        """Payload bytes."""
        return self.value_NC.nbytes + (0 if self.scale_N is None else self.scale_N.nbytes)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The logits that `publisher` gives its neighbour on `link`, rows ordered by the sample set `digest` names.

    `version` grows by one each time the publisher publishes on this link. `view_seed` names the random view of the
    bridge samples the logits were taken on, 0 for the plain one, so that the student can look at the same view.
    """

    federation: str
    link: Link
    publisher: NodeId
    version: int
    digest: str
    view_seed: int
    logits: PackedLogits

    def __post_init__(self) -> None:
        self.link.other(self.publisher)
        if self.version < 0:
            raise DataError(f"knowledge: got version {self.version}, expected 0 or more")

    @property
    def nbytes(self) -> int:
        """Payload bytes: logits, digest (32), version (8) and view seed (8)."""
        return self.logits.nbytes + 32 + 8 + 8

    def rows_of(self, samples: SampleSet, classes: int) -> PackedLogits:
        """Return the logits after checking that they fit `samples` and `classes`; raise RemoteProtocolError."""
        if self.digest != samples.digest:
            raise RemoteProtocolError(
                f"knowledge on {self.link}: got sample set {self.digest[:12]}, this node has "
                f"{samples.digest[:12]}; send the missing embeddings first"
            )
        n, c = self.logits.value_NC.shape
        if (n, c) != (len(samples), classes):
            raise RemoteProtocolError(
                f"knowledge on {self.link}: got {n} rows of {c} classes, "
                f"this link agreed on {len(samples)} rows of {classes}"
            )
        return self.logits


def counters(start: int, count: int) -> NDArray[np.uint64]:
    """Return the `count` sample counters from `start` on."""
    return np.arange(start, start + count, dtype=np.uint64)
