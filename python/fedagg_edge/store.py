"""Embeddings a node holds for the leaves below it, by the child they came through.

`MemoryStore` serves the simulator. The interface is synchronous and small so that a durable store can take its place.
"""

from __future__ import annotations

from typing import Protocol

from fedagg_edge.errors import DataError
from fedagg_edge.records import Embeddings, NodeId, SampleSet

__all__ = ["EmbeddingStore", "MemoryStore"]


class EmbeddingStore(Protocol):
    """What a node asks of its store."""

    def append(self, child: NodeId, embeddings: Embeddings) -> None:
        """Keep `embeddings` that came through `child` (a leaf appends its own under its own id).

        Appending what is there already changes nothing; a sample with other content than before raises DataError.
        """

    def read(self, child: NodeId, digest: str | None = None) -> Embeddings:
        """All embeddings of the leaves below `child`, in canonical order, or those of the set that `digest` names.

        Raises DataError if there are none, or if the store does not have that set.
        """

    def read_all(self) -> Embeddings:
        """All embeddings of this node, in canonical order; raise DataError if there are none."""

    def named(self, child: NodeId | None, digest: str) -> tuple[SampleSet, Embeddings]:
        """The sample set that `digest` names among those that `child` (None: this whole node) has had, and what is
        still held of it. Raises DataError if no such set is known."""


class MemoryStore:
    """An `EmbeddingStore` in memory."""

    def __init__(self) -> None:
        self._by_child: dict[NodeId, Embeddings] = {}
        self._all: Embeddings | None = None

    def append(self, child: NodeId, embeddings: Embeddings) -> None:
        """See `EmbeddingStore.append`."""
        known = self._by_child.get(child)
        merged = embeddings if known is None else Embeddings.merge((known, embeddings))
        self._by_child[child] = merged
        self._all = None

    def read(self, child: NodeId, digest: str | None = None) -> Embeddings:
        """See `EmbeddingStore.read`; only the current set is known."""
        if child not in self._by_child:
            raise DataError(f"store: nothing came through {child!r} yet")
        found = self._by_child[child]
        if digest is not None and digest != found.samples.digest:
            raise DataError(
                f"store: asked for set {digest[:12]} of {child!r}, only {found.samples.digest[:12]} is kept in memory"
            )
        return found

    def read_all(self) -> Embeddings:
        """See `EmbeddingStore.read_all`."""
        if self._all is None:
            self._all = Embeddings.merge(self._by_child.values())
        return self._all

    def named(self, child: NodeId | None, digest: str) -> tuple[SampleSet, Embeddings]:
        """See `EmbeddingStore.named`; only the present set is known."""
        held = self.read_all() if child is None else self.read(child)
        if held.samples.digest != digest:
            raise DataError(
                f"store: got sample set {digest[:12]}, this node has {held.samples.digest[:12]}; "
                "send the missing embeddings first"
            )
        return held.samples, held
