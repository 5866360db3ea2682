"""What the child's end asks of the ledger that keeps its state; ledger/ has it on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from fedagg_edge.records import Knowledge, Link, NodeId
from fedagg_edge.wire.state import Position, Stored

__all__ = ["Batch", "ChildState", "TakenEntry"]


class Batch(Protocol):
    """A batch of this node's own that its parent has not committed."""

    @property
    def key(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def rows(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TakenEntry:
    """An entry that the parent wrote, whole. `digest`: hexadecimal, of the set behind it."""

    number: int
    kind: int
    rows: int
    digest: str
    payload: bytes


class ChildState(Protocol):
    """A child's durable state.

    `acknowledged`: the newest entry that the parent has committed and that this node has taken over. `pending`: own
    batches that are not among those, in the order of their keys. `set_acknowledged`: the pending batch `key` is entry
    `entry`, the next one, which leaves the set `digest`; again changes nothing. `follow`: take over entries that the
    parent wrote. The last two raise RemoteProtocolError where the parent's log and this one part. `receipts`: what the
    parent is to keep and has not confirmed, a few at a time.
    """

    def transaction(self) -> AbstractContextManager[object]: ...
    def get(self, key: str) -> object: ...
    def acknowledged(self) -> Position: ...
    def pending(self, limit: int) -> Sequence[Batch]: ...
    def batch_bytes(self, key: int) -> bytes: ...
    def set_acknowledged(self, key: int, entry: int, digest: str) -> object: ...
    def follow(self, news: Sequence[TakenEntry]) -> object: ...
    def newest(self, link: Link, publisher: NodeId) -> Stored | None: ...
    def logits_bytes(self, stored: Stored) -> bytes: ...
    def put_knowledge(self, knowledge: Knowledge, basis: int) -> object: ...
    def receipts(self) -> Sequence[bytes]: ...
