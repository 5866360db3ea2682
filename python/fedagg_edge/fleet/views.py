"""The ledger as the protocol's two ends want it: names and types of one side in those of the other, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import msgspec

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.fleet import moving, receipts
from fedagg_edge.ledger.glance import Glance, glance
from fedagg_edge.ledger.knowledge import KEEP, Packed, Stored
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.ledger.log import Kind, LogEntry, Position
from fedagg_edge.ledger.moves import Adoption
from fedagg_edge.ledger.nodes import NodeFacts
from fedagg_edge.ledger.notices import Notice
from fedagg_edge.ledger.outbox import Batch
from fedagg_edge.records import Knowledge, Link, NodeId, SampleSet, Tier
from fedagg_edge.wire.child_state import Asked, TakenEntry
from fedagg_edge.wire.chunks import digest_of
from fedagg_edge.wire.messages import Payload, WireKnowledge
from fedagg_edge.wire.state import Stored as WireStored
from fedagg_edge.wire.tensors import dump_logits

__all__ = ["ChildView", "ParentView"]

_decode = msgspec.msgpack.Decoder().decode

_WHOLE = 1 << 30  # payloads as they are, however long


class ParentView:
    """A ledger as `wire.state.ParentLedger`; also what `fleet.writer` wants of a store.

    After `look` what an exchange asks of a child is answered from one statement's row, until something was written
    that this view did not see.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self._db = ledger, ledger.db
        self._glance: Glance | None = None

    def look(self, child: NodeId, facts: tuple[str, ...]) -> None:
        """Read at once what is likely to be asked of `child` in this operation, and these facts."""
        self._glance = glance(self.ledger.db, child, self.ledger.node, facts)

    def forget_look(self) -> None:
        """The operation is over."""
        self._glance = None

    def _seen(self, child: NodeId | None = None) -> Glance | None:
        """What `look` read, if it is of `child` (None: any) and still true."""
        seen = self._glance
        if seen is None or seen.writes != self._db.writes or (child is not None and child != seen.child):
            return None
        return seen

    def _on(self, link: Link) -> Glance | None:
        """The same of a child's link to this node."""
        return self._seen(link.child) if link.parent == self.ledger.node else None

    def transaction(self) -> AbstractContextManager[None]:
        return self.ledger.transaction()

    def savepoint(self) -> AbstractContextManager[None]:
        return self.ledger.savepoint()

    def close(self) -> None:
        self.ledger.close()

    def get(self, key: str) -> Any:
        value = self.raw(key)
        return None if value is None else _decode(value)

    def raw(self, key: str) -> bytes | None:
        """A fact as it is kept: whoever only compares it need not decode it."""
        seen = self._seen()
        return self.ledger.raw(key) if seen is None or key not in seen.facts else seen.facts[key]

    def put(self, key: str, value: object) -> None:
        self.ledger.put(key, value)

    def introduce(self, node: NodeId, role: Tier, serial: str) -> None:
        self.ledger.introduce(node, role, serial)

    def adoption(self, node: NodeId) -> Adoption | None:
        return self.ledger.adoption(node)

    def adopt(
        self, child: NodeId, node: NodeId, origins: Sequence[NodeId], fence: int, *, former: NodeId | None, more: bool
    ) -> Adoption:
        return self.ledger.adopt(
            Adoption(node=node, child=child, origins=tuple(origins), fence=fence, former=former or "", more=more)
        )

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
        seen = self._seen(node)
        if seen is None or seen.staged:
            self.ledger.drop(node, digests)

    def staged(self, node: NodeId) -> int:
        return self.ledger.staged(node)

    def put_packed(
        self, federation: str, link: Link, publisher: NodeId, given: WireKnowledge, data: bytes, *, at: float
    ) -> None:
        g = given
        packed = Packed(g.version, g.basis, g.digest.hex(), g.view_seed, g.format, g.rows, g.classes, data)
        seen = self._on(link)
        if seen is None or publisher != seen.child:
            self.ledger.put_packed(federation, link, publisher, packed, at=at)
            return
        now = packed.digest == seen.head.digest
        if self.ledger.put_packed(federation, link, publisher, packed, at=at, kept=seen.kept, current=now):
            seen.versions[publisher] = g.version
            if g.version not in seen.kept:  # else it was forgotten, and has come back
                seen.kept = (g.version, *seen.kept)[:KEEP]
            seen.writes = self._db.writes  # nothing else was written

    def newest(self, link: Link, publisher: NodeId) -> Stored | None:
        return self.ledger.newest(link, publisher)

    def packed(self, link: Link, publisher: NodeId) -> Packed | None:
        seen = self._on(link)
        if seen is None or publisher != link.parent or (seen.given is not None and seen.given[-1] is None):
            return self.ledger.packed(link, publisher)
        return None if seen.given is None else Packed(*seen.given)

    def version(self, link: Link, publisher: NodeId) -> int:
        seen = self._on(link)
        if seen is None or publisher not in seen.versions:
            return self.ledger.version(link, publisher)
        return seen.versions[publisher]

    def head(self, child: NodeId) -> Position:
        seen = self._seen(child)
        return self.ledger.head(child) if seen is None else seen.head

    def append(
        self, child: NodeId, kind: int, payload: bytes, *, key: int | None, by: Literal["child", "parent"]
    ) -> Position:
        return self.ledger.append(child, kind, payload, key=key, by=by)

    def entries(self, child: NodeId, after: int, limit: int) -> Sequence[Any]:
        seen = self._seen(child)
        if seen is not None and after >= seen.head.entry:
            return ()
        return self.ledger.entries(child, after, limit, inline=_WHOLE)

    def samples(self, child: NodeId, digest: str | None) -> SampleSet:
        return self.ledger.samples(child, digest)

    def rows(self, child: NodeId, digest: str) -> int:
        seen = self._seen(child)
        return self.ledger.rows(child, digest, left=seen is not None and digest == seen.head.digest)

    def node(self, node: NodeId) -> NodeFacts | None:
        seen = self._seen(node)
        return self.ledger.facts_of(node) if seen is None else seen.node

    def fence(self, child: NodeId) -> int:
        seen = self._seen(child)
        return self.ledger.fence(child) if seen is None else seen.fence

    def notices(self, child: NodeId, after: int) -> Sequence[Notice]:
        seen = self._seen(child)
        if seen is not None and after >= seen.notice:
            return ()
        return self.ledger.notices(child, after)


def _entry(taken: TakenEntry) -> LogEntry:
    e = taken
    key = None if e.key < 0 else e.key
    return LogEntry(e.number, Kind(e.kind), e.rows, e.digest, len(e.payload), e.payload, key)


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

    def joined(self) -> bool:
        return self._ledger.joined()

    def join(self) -> None:
        self._ledger.join()

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

    def parent(self) -> NodeId | None:
        return moving.parent(self._ledger)

    def set_parent(self, parent: NodeId) -> None:
        moving.set_parent(self._ledger, parent)

    def origins(self) -> Sequence[NodeId]:
        return self._ledger.origins()

    def log_size(self) -> int:
        return self._ledger.log_size()

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
