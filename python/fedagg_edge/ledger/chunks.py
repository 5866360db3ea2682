"""Chunks that a node has sent and no message has named yet: content-addressed, bounded per node."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fedagg_edge.errors import DataError, RemoteProtocolError, StorageFull
from fedagg_edge.ledger.database import Database
from fedagg_edge.records import NodeId

__all__ = ["drop", "drop_all", "missing", "stage", "staged", "sweep", "take"]


def stage(db: Database, node: NodeId, digest: bytes, content: bytes, *, quota: int, now: float) -> None:
    """Keep a chunk; again changes nothing. Raises RemoteProtocolError for a wrong digest, StorageFull over `quota`."""
    if hashlib.sha256(content).digest() != digest:
        raise RemoteProtocolError(
            f"chunk of {node}: its {len(content)} bytes do not have the digest {digest.hex()[:12]}"
        )
    with db.savepoint():
        if not missing(db, node, (digest,)):
            return
        held = staged(db, node)
        if held + len(content) > quota:
            raise StorageFull(f"chunks of {node}: got {len(content)} bytes more, {held} of {quota} are staged already")
        db.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", (node, digest, len(content), now, content))


def staged(db: Database, node: NodeId) -> int:
    """Bytes that are staged from `node`."""
    return int(db.one("SELECT coalesce(sum(size), 0) FROM chunks WHERE node = ?", (node,))[0])


def missing(db: Database, node: NodeId, digests: Iterable[bytes]) -> tuple[bytes, ...]:
    """Those of `digests` that are not staged from `node`, in their order."""
    sql = "SELECT 1 FROM chunks WHERE node = ? AND digest = ?"
    return tuple(digest for digest in digests if db.one(sql, (node, digest)) is None)


def take(db: Database, node: NodeId, digests: Iterable[bytes]) -> bytes:
    """The staged chunks joined; raise DataError if one is not there. They stay until `drop` or a sweep."""
    parts = []
    for digest in digests:
        row = db.one("SELECT bytes FROM chunks WHERE node = ? AND digest = ?", (node, digest))
        if row is None:
            raise DataError(f"chunk {digest.hex()[:12]} of {node} is not staged; send it first")
        parts.append(row[0])
    return b"".join(parts)


def drop_all(db: Database) -> None:
    """Remove what is staged from anybody."""
    db.execute("DELETE FROM chunks")


def drop(db: Database, node: NodeId, digests: Iterable[bytes] | None = None) -> None:
    """Remove these chunks of `node`, or all of them."""
    if digests is None:
        db.execute("DELETE FROM chunks WHERE node = ?", (node,))
    for digest in digests or ():
        db.execute("DELETE FROM chunks WHERE node = ? AND digest = ?", (node, digest))


def sweep(db: Database, older_than: float) -> int:
    """Remove what is staged from nodes that have staged nothing since `older_than` (seconds since 1970); how many.
    While more chunks come none is removed, however old: a long payload over a slow link takes its time."""
    sql = "DELETE FROM chunks WHERE node IN (SELECT node FROM chunks GROUP BY node HAVING max(at) < ?)"
    return db.execute(sql, (older_than,)).rowcount
