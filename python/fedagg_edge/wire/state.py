"""What the parent's end asks of the ledger that keeps its state; ledger/ has it on SQLite.

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
from fedagg_edge.wire.messages import Artefact, Payload, WireKnowledge

__all__ = [
    "EMPTY_DIGEST",
    "Adoption",
    "LogEntry",
    "NodeFacts",
    "Packed",
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


class Stored(Protocol):
    """Knowledge as the ledger keeps it; `basis` is the receiver's version that it was based on, `at` Unix time."""

    @property
    def knowledge(self) -> Knowledge: ...
    @property
    def basis(self) -> int: ...
    @property
    def at(self) -> float: ...


class Packed(Protocol):
    """Knowledge as it travels; `data` are the logits' bytes."""

    @property
    def version(self) -> int: ...
    @property
    def basis(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def view_seed(self) -> int: ...
    @property
    def format(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class StoredNotice(Protocol):
    """One notice of the parent; `body` is msgpack."""

    @property
    def number(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> bytes: ...


class NodeFacts(Protocol):
    """What a parent knows of a child; `revoked` is Unix time, None while it is not. Not `active`: it is on its way
    here, or has gone."""

    @property
    def role(self) -> Tier: ...
    @property
    def active(self) -> bool: ...
    @property
    def revoked(self) -> float | None: ...


class Adoption(Protocol):
    """A node that moved to below `child`. `head`: entry of the child's log up to which its rows are there, None while
    this parent waits for its own; `refused`: a newer move of the node was known above; `more`: some of its `origins`
    have not come yet."""

    @property
    def child(self) -> NodeId: ...
    @property
    def origins(self) -> Sequence[NodeId]: ...
    @property
    def more(self) -> bool: ...
    @property
    def fence(self) -> int: ...
    @property
    def head(self) -> int | None: ...
    @property
    def refused(self) -> bool: ...


class ParentLedger(Protocol):
    """A parent's state, seen by its end of the links to its children.

    `savepoint`: what was done inside is undone if an exception leaves it. `append` with a key that is committed already
    changes nothing and gives that entry's position. `samples` and `rows`, its length, raise DataError for a
    digest that no entry has.
    `put_packed`: keep checked knowledge with its logits' bytes, at Unix time `at`, without what it says about rows that
    were forgotten; it raises Conflict for a version that is here with other content.
    `version` is that of `newest`, -1 if there is none; `packed` is the same as `newest`. `staged`: bytes of chunks
    kept for `node`; `drop`: let go these chunks of it, or all. `fence` counts the moves of `child`, 0 for one that
    never moved. `introduce`: make known a node that is not active yet. `adopt`: note that `node` moved to below
    `child`, and take it in if this is the root and no `more` origins follow.
    """

    def get(self, key: str) -> object: ...
    def put(self, key: str, value: object) -> None: ...
    def stage(self, node: NodeId, digest: bytes, chunk: bytes) -> None: ...
    def missing(self, node: NodeId, digests: Sequence[bytes]) -> Sequence[bytes]: ...
    def take(self, node: NodeId, payload: Payload) -> bytes: ...
    def drop(self, node: NodeId, digests: Sequence[bytes] | None = None) -> object: ...
    def put_packed(
        self, federation: str, link: Link, publisher: NodeId, given: WireKnowledge, data: bytes, *, at: float
    ) -> object: ...
    def newest(self, link: Link, publisher: NodeId) -> Stored | None: ...
    def packed(self, link: Link, publisher: NodeId) -> Packed | None: ...
    def version(self, link: Link, publisher: NodeId) -> int: ...
    def savepoint(self) -> AbstractContextManager[object]: ...
    def head(self, child: NodeId) -> Position: ...
    def append(
        self, child: NodeId, kind: int, payload: bytes, *, key: int | None, by: Literal["child", "parent"]
    ) -> Position: ...
    def entries(self, child: NodeId, after: int, limit: int) -> Sequence[LogEntry]: ...
    def samples(self, child: NodeId, digest: str | None) -> SampleSet: ...
    def rows(self, child: NodeId, digest: str) -> int: ...
    def staged(self, node: NodeId) -> int: ...
    def node(self, node: NodeId) -> NodeFacts | None: ...
    def fence(self, child: NodeId) -> int: ...
    def introduce(self, node: NodeId, role: Tier, serial: str) -> object: ...
    def adoption(self, node: NodeId) -> Adoption | None: ...
    def adopt(
        self, child: NodeId, node: NodeId, origins: Sequence[NodeId], fence: int, *, former: NodeId | None, more: bool
    ) -> Adoption: ...
    def notices(self, child: NodeId, after: int) -> Sequence[StoredNotice]: ...


class Shelf(Protocol):
    """Where a parent's pinned artefacts are read from."""

    def listing(self) -> tuple[Artefact, ...]: ...
    def read(self, digest: bytes, start: int, size: int) -> bytes | None: ...
