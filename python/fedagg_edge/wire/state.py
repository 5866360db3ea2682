"""What the two ends ask of the ledger that keeps their state; ledger/ has it on SQLite, the tests in dictionaries.

Every call of an end runs inside one ledger transaction. Digests are hexadecimal text, as in `SampleSet.digest`; chunks
are named by 32 raw bytes. Other content under a committed name raises `errors.Conflict`, a full disk
`errors.StorageFull`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from fedagg_edge.records import Knowledge, Link, NodeId, SampleSet, Tier
from fedagg_edge.wire.messages import Artefact, Payload

__all__ = [
    "EMPTY_DIGEST",
    "Batch",
    "ChildState",
    "LogEntry",
    "NodeFacts",
    "ParentLedger",
    "Peer",
    "Position",
    "Shelf",
    "Stored",
    "StoredNotice",
]

EMPTY_DIGEST = SampleSet((), ()).digest
"""The digest of a log without entries."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, from its certificate."""

    node: NodeId
    role: Tier
    serial: str


class Position(Protocol):
    """A place in a log: an entry's number (0: before the first) and the digest of the set behind it."""

    @property
    def entry(self) -> int: ...
    @property
    def digest(self) -> str: ...


class LogEntry(Protocol):
    """A committed entry. `key` is None where the parent wrote it; `digest` names the set behind it."""

    @property
    def number(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def key(self) -> int | None: ...
    @property
    def rows(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class Batch(Protocol):
    """A batch of this node's own that its parent has not committed."""

    @property
    def key(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def payload(self) -> bytes: ...


class Stored(Protocol):
    """Knowledge as the ledger keeps it; `basis` is the receiver's version that it was based on, `at` Unix time."""

    @property
    def knowledge(self) -> Knowledge: ...
    @property
    def basis(self) -> int: ...
    @property
    def at(self) -> float: ...


class StoredNotice(Protocol):
    """One notice of the parent; `body` is msgpack."""

    @property
    def number(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> bytes: ...


class NodeFacts(Protocol):
    """What a parent knows of a child; `revoked` is Unix time, None while it is not."""

    @property
    def role(self) -> Tier: ...
    @property
    def revoked(self) -> float | None: ...


class _Common(Protocol):
    """What both ends need. `stage` and the like keep chunks for `node`: the one they came from."""

    def get(self, key: str) -> object: ...
    def put(self, key: str, value: object) -> None: ...
    def stage(self, node: NodeId, digest: bytes, chunk: bytes) -> None: ...
    def missing(self, node: NodeId, digests: Sequence[bytes]) -> Sequence[bytes]: ...
    def take(self, node: NodeId, payload: Payload) -> bytes: ...
    def put_knowledge(self, knowledge: Knowledge, basis: int, at: float) -> None: ...
    def newest(self, link: Link, publisher: NodeId) -> Stored | None: ...


class ParentLedger(_Common, Protocol):
    """A parent's state, seen by its end of the links to its children.

    `savepoint`: what was done inside is undone if an exception leaves it. `append` with a key that is committed already
    changes nothing and gives that entry's position. `samples` raises DataError for a digest that no entry has.
    `staged`: bytes of chunks kept for `node`. `fence` counts the moves of `child`, 0 for one that never moved.
    """

    def savepoint(self) -> AbstractContextManager[object]: ...
    def head(self, child: NodeId) -> Position: ...
    def append(
        self, child: NodeId, kind: int, payload: bytes, *, key: int | None, by: Literal["child", "parent"]
    ) -> Position: ...
    def entries(self, child: NodeId, after: int, limit: int) -> Sequence[LogEntry]: ...
    def samples(self, child: NodeId, digest: str | None) -> SampleSet: ...
    def staged(self, node: NodeId) -> int: ...
    def node(self, node: NodeId) -> NodeFacts | None: ...
    def fence(self, child: NodeId) -> int: ...
    def notices(self, child: NodeId, after: int) -> Sequence[StoredNotice]: ...


class ChildState(_Common, Protocol):
    """A child's state, seen by its end of the link to its parent; `child` is always the node itself.

    `acknowledged`: the newest entry that the parent has committed and that this node has taken over. `pending`: own
    batches that are not among those, in the order of their keys. `set_acknowledged`: the pending batch `key` is entry
    `entry`, the next one; the log is then at `digest`, else Conflict. `append` takes over an entry that the parent wrote.
    `rebase`: the log goes on under the numbers of another parent, from `entry` on, with the same set. `restart`: the
    log is empty and its parent another; all that it had of this node's own batches is pending again. A batch whose
    samples the acknowledged set has is never pending.
    """

    def transaction(self) -> AbstractContextManager[object]: ...
    def acknowledged(self, child: NodeId) -> Position: ...
    def set_acknowledged(self, child: NodeId, entry: int, digest: str, *, key: int) -> None: ...
    def pending(self) -> Sequence[Batch]: ...
    def append(
        self, child: NodeId, kind: int, payload: bytes, *, key: int | None, by: Literal["child", "parent"]
    ) -> Position: ...
    def rebase(self, child: NodeId, entry: int, digest: str) -> None: ...
    def restart(self, child: NodeId) -> None: ...


class Shelf(Protocol):
    """Where a parent's pinned artefacts are read from."""

    def listing(self) -> tuple[Artefact, ...]: ...
    def read(self, digest: bytes, start: int, size: int) -> bytes | None: ...
