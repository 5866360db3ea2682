"""The ledger as a node's `EmbeddingStore`."""

from __future__ import annotations

from fedagg_edge.errors import DataError
from fedagg_edge.ledger import log
from fedagg_edge.ledger.fold import Fold, only, without
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import Embeddings, NodeId, SampleSet, Tier
from fedagg_edge.wire.tensors import dump_embeddings

__all__ = ["LedgerStore"]


class LedgerStore:
    """See `fedagg_edge.store.EmbeddingStore`. What a node shares with its parent is what the parent has committed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def append(self, child: NodeId, embeddings: Embeddings) -> None:
        """Own rows go into the outbox, a child's rows into its log; see `EmbeddingStore.append`."""
        ledger = self._ledger
        if child == ledger.node:
            ledger.send(embeddings)
            return
        with ledger.transaction():
            state = log.fold(ledger.db, child)
            state.check(embeddings)
            new = without(embeddings.samples, state.samples())
            if len(new):
                ledger.append(child, Kind.APPEND, dump_embeddings(only(embeddings, new)), key=None, by="parent")

    def read(self, child: NodeId, digest: str | None = None) -> Embeddings:
        """See `EmbeddingStore.read`."""
        return self._ledger.embeddings(child, digest)

    def named(self, child: NodeId | None, digest: str) -> tuple[SampleSet, Embeddings]:
        """See `EmbeddingStore.named`."""
        ledger = self._ledger
        link = ledger.node if child is None else child
        named = ledger.samples(link, digest)
        held, _ = ledger.remaining(link, digest)
        return named, held

    def read_all(self) -> Embeddings:
        """See `EmbeddingStore.read_all`; a node with a parent names what that parent has committed."""
        ledger = self._ledger
        if ledger.options.tier is not Tier.CLOUD:
            return ledger.embeddings(ledger.node)
        rows = Fold()
        for child in log.links(ledger.db):
            rows.add(1, log.fold(ledger.db, child).embeddings())
        if not len(rows.samples()):
            raise DataError("embeddings: nothing to merge")
        return rows.embeddings()
