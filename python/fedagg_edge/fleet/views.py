"""The ledger as the protocol's two ends want it: names and types of one side in those of the other, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.fleet import moving, receipts
from fedagg_edge.ledger.knowledge import Stored
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.ledger.log import Kind, LogEntry, Position
from fedagg_edge.ledger.moves import Adoption
from fedagg_edge.ledger.nodes import NodeFacts
from fedagg_edge.ledger.notices import Notice
from fedagg_edge.ledger.outbox import Batch
from fedagg_edge.records import Knowledge, Link, NodeId, SampleSet, Tier
from fedagg_edge.wire.child_state import Asked, TakenEntry
from fedagg_edge.wire.chunks import digest_of
from fedagg_edge.wire.messages import Payload
from fedagg_edge.wire.state import Stored as WireStored
from fedagg_edge.wire.tensors import dump_logits

__all__ = ["ChildView", "ParentView"]

_WHOLE = 1 << 30  # payloads as they are, however long


class ParentView:
    """A ledger as `wire.state.ParentLedger`; also what `fleet.writer` wants of a store."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def transaction(self) -> AbstractContextManager[None]:
        return self.ledger.transaction()

    def savepoint(self) -> AbstractContextManager[None]:
        return self.ledger.savepoint()

    def close(self) -> None:
        self.ledger.close()

    def get(self, key: str) -> Any:
        return self.ledger.get(key)

    def put(self, key: str, value: object) -> None:
        self.ledger.put(key, value)

    def introduce(self, node: NodeId, role: Tier, serial: str) -> None:
        self.ledger.introduce(node, role, serial)

    def adoption(self, node: NodeId) -> Adoption | None:
        return self.ledger.adoption(node)

    def adopt(self, child: NodeId, node: NodeId, origins: Sequence[NodeId], fence: int, *, more: bool) -> Adoption:
        return self.ledger.adopt(Adoption(node=node, child=child, origins=tuple(origins), fence=fence, more=more))

    def stage(self, node: NodeId, digest: bytes, chunk: bytes) -> None:
        self.ledger.stage(node, digest, chunk)

    def missing(self, node: NodeId, digests: Sequence[bytes]) -> Sequence[bytes]:
        return self.ledger.missing(node, digests)

    def take(self, node: NodeId, payload: Payload) -> bytes:
        whole = self.ledger.take(node, payload.chunks)
        if len(whole) != payload.size or digest_of(whole) != payload.digest:
            raise RemoteProtocolError(f"payload: got {len(whole)} bytes, expected {payload.size} of the digest named")
        return whole

    def drop(self, node: NodeId, digests: Sequence[bytes] | None = None) -> None:
        self.ledger.drop(node, digests)

    def staged(self, node: NodeId) -> int:
        return self.ledger.staged(node)

    def put_knowledge(self, knowledge: Knowledge, basis: int, at: float) -> None:
        self.ledger.put_knowledge(knowledge, basis, at)

    def newest(self, link: Link, publisher: NodeId) -> Stored | None:
        return self.ledger.newest(link, publisher)

    def version(self, link: Link, publisher: NodeId) -> int:
        return self.ledger.version(link, publisher)

    def head(self, child: NodeId) -> Position:
        return self.ledger.head(child)

    def append(
        self, child: NodeId, kind: int, payload: bytes, *, key: int | None, by: Literal["child", "parent"]
    ) -> Position:
        return self.ledger.append(child, kind, payload, key=key, by=by)

    def entries(self, child: NodeId, after: int, limit: int) -> Sequence[Any]:
        return self.ledger.entries(child, after, limit, inline=_WHOLE)

    def samples(self, child: NodeId, digest: str | None) -> SampleSet:
        return self.ledger.samples(child, digest)

    def rows(self, child: NodeId, digest: str) -> int:
        return self.ledger.rows(child, digest)

    def node(self, node: NodeId) -> NodeFacts | None:
        return self.ledger.facts_of(node)

    def fence(self, child: NodeId) -> int:
        return self.ledger.fence(child)

    def notices(self, child: NodeId, after: int) -> Sequence[Notice]:
        return self.ledger.notices(child, after)


def _entry(taken: TakenEntry) -> LogEntry:
    e = taken
    return LogEntry(e.number, Kind(e.kind), e.rows, e.digest, len(e.payload), e.payload)


class ChildView:
    """A ledger as `wire.child_state.ChildState`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def transaction(self) -> AbstractContextManager[None]:
        return self._ledger.transaction()

    def get(self, key: str) -> object:
        return self._ledger.get(key)

    def acknowledged(self) -> Position:
        return self._ledger.acknowledged()

    def pending(self, limit: int) -> Sequence[Batch]:
        return self._ledger.pending(limit, inline=0)

    def batch_bytes(self, key: int) -> bytes:
        return self._ledger.batch_bytes(key)

    def split(self, rows: int, size: int) -> None:
        self._ledger.split(rows, size)

    def set_acknowledged(self, key: int, entry: int, digest: str) -> None:
        self._ledger.set_acknowledged(key, entry, digest)

    def follow(self, news: Sequence[TakenEntry]) -> None:
        self._ledger.follow(map(_entry, news))

    def fence(self) -> int:
        return self._ledger.fence(self._ledger.node)

    def moving(self) -> int | None:
        move = moving.under_way(self._ledger)
        return None if move is None else move[1]

    def origins(self) -> Sequence[NodeId]:
        return self._ledger.origins()

    def find(self, digest: bytes) -> bytes | None:
        return self._ledger.find_payload(digest)

    def rebase(self, log: Sequence[TakenEntry], fence: int) -> None:
        with self._ledger.savepoint():
            self._ledger.rebase(map(_entry, log), fence)
            moving.finish(self._ledger)

    def set_fence(self, fence: int) -> None:
        self._ledger.set_fence(fence)

    def adoptions(self) -> Sequence[Adoption]:
        return self._ledger.adoptions()

    def settle(self, asked: Asked) -> None:
        self._ledger.settle(self._of(asked))

    def refuse(self, asked: Asked) -> None:
        self._ledger.refuse(self._of(asked))

    def _of(self, asked: Asked) -> Adoption:
        known = self._ledger.adoption(asked.node)
        if known is None or known.fence != asked.fence:
            raise RemoteProtocolError(f"node {asked.node}: move {asked.fence} is not what was asked for last")
        return known

    def newest(self, link: Link, publisher: NodeId) -> Stored | None:
        return self._ledger.newest(link, publisher)

    def logits_bytes(self, stored: WireStored) -> bytes:
        return dump_logits(stored.knowledge.logits)

    def put_knowledge(self, knowledge: Knowledge, basis: int) -> None:
        self._ledger.put_knowledge(knowledge, basis)

    def receipts(self) -> Sequence[bytes]:
        return receipts.pending(self._ledger) if self._ledger.relays else ()
