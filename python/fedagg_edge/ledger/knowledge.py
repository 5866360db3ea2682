"""The newest knowledge of each publisher on each link, and the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from fedagg_edge.errors import Conflict
from fedagg_edge.failpoints import reach
from fedagg_edge.ledger.database import Database
from fedagg_edge.records import Knowledge, Link, NodeId
from fedagg_edge.wire.tensors import dump_logits, load_logits

__all__ = ["KEEP", "Packed", "Stored", "get", "newest", "packed", "put", "put_packed", "version", "versions"]

KEEP = 2
_COLUMNS = "federation, version, digest, view_seed, format, rows, classes, logits, basis, at"
_WHERE = "child = ? AND parent = ? AND publisher = ?"
_INSERT = f"INSERT INTO knowledge ({_COLUMNS}, child, parent, publisher) VALUES ({', '.join('?' * 13)})"
_OVERWRITE = (
    f"UPDATE knowledge SET {', '.join(f'{column} = ?' for column in _COLUMNS.split(', '))}"
    f" WHERE {_WHERE} AND version = ?"
)

_PACKED = (
    "SELECT version, basis, digest, view_seed, format, rows, classes, logits FROM knowledge"
    f" WHERE {_WHERE} AND logits IS NOT NULL ORDER BY version DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """Knowledge, the receiver's version that it was based on (-1: none), and when it arrived (seconds since 1970)."""

    knowledge: Knowledge
    basis: int
    at: float


class Packed(msgspec.Struct, frozen=True, gc=False):
    """Knowledge as it is kept: `data` are the logits' bytes, as wire/tensors.py has them."""

    version: int
    basis: int
    digest: str
    view_seed: int
    format: str
    rows: int
    classes: int
    data: bytes


def put(db: Database, knowledge: Knowledge, basis: int, at: float, *, own: bool = False) -> bool:
    """`put_packed` for knowledge that is arrays."""
    k, (rows, classes) = knowledge, knowledge.logits.value_NC.shape
    data = dump_logits(k.logits)
    packed = Packed(k.version, basis, k.digest, k.view_seed, str(k.logits.format), rows, classes, data)
    return put_packed(db, k.federation, k.link, k.publisher, packed, at=at, own=own)


def put_packed(
    db: Database,
    federation: str,
    link: Link,
    publisher: NodeId,
    packed: Packed,
    *,
    at: float,
    own: bool = False,
    kept: Sequence[int] | None = None,
) -> bool:
    """Keep knowledge; False if it, or a newer one, was there. Raises Conflict for a version with other content, but
    for one of this node's `own` that was forgotten: that version stays taken, the next one has what it knows now.

    `kept`: what `versions` gives, where the caller knows that.
    """
    p, where = packed, (link.child, link.parent, publisher)
    said = (federation, p.version, p.digest, p.view_seed, p.format, p.rows, p.classes)
    with db.savepoint():
        known = versions(db, link, publisher) if kept is None else kept
        if p.version in known:
            same = db.one(f"SELECT {_COLUMNS} FROM knowledge WHERE {_WHERE} AND version = ?", (*where, p.version))
            if own and same[7] is None:
                return False
            if same[:7] != said or same[7] not in (None, p.data):
                raise Conflict(f"knowledge on {link}: version {p.version} of {publisher} came with two contents")
        if known and known[0] >= p.version:
            return False
        values = (*said, p.data, p.basis, at, *where)
        if len(known) < KEEP:
            db.execute(_INSERT, values)
            reach("knowledge.put.after-insert")
        else:  # the oldest makes room: its row is written over, which touches half the pages that a new one does
            # late, as an exchange writes nothing else; a kill at the places below finds the transaction open either way
            db.execute_late(_OVERWRITE, (*values, known[-1]))
            reach("knowledge.put.after-insert")
            if len(known) > KEEP:
                db.execute(f"DELETE FROM knowledge WHERE {_WHERE} AND version < ?", (*where, known[KEEP - 2]))
            reach("knowledge.put.after-delete")
    return True


def versions(db: Database, link: Link, publisher: NodeId) -> list[int]:
    """Those that are kept, newest first, whether or not their logits were forgotten."""
    sql = f"SELECT version FROM knowledge WHERE {_WHERE} ORDER BY version DESC"
    return [row[0] for row in db.all(sql, (link.child, link.parent, publisher))]


def newest(db: Database, link: Link, publisher: NodeId) -> Stored | None:
    """The newest that was not forgotten."""
    sql = f"SELECT {_COLUMNS} FROM knowledge WHERE {_WHERE} AND logits IS NOT NULL ORDER BY version DESC LIMIT 1"
    return _stored(link, publisher, db.one(sql, (link.child, link.parent, publisher)))


def packed(db: Database, link: Link, publisher: NodeId) -> Packed | None:
    """`newest` for who passes it on: no arrays are made of it."""
    row = db.one(_PACKED, (link.child, link.parent, publisher))
    return None if row is None else Packed(*row)


def version(db: Database, link: Link, publisher: NodeId) -> int:
    """The version of the newest that was not forgotten, -1 if there is none: a tenth of what reading it costs."""
    sql = f"SELECT version FROM knowledge WHERE {_WHERE} AND logits IS NOT NULL ORDER BY version DESC LIMIT 1"
    row = db.one(sql, (link.child, link.parent, publisher))
    return -1 if row is None else int(row[0])


def get(db: Database, link: Link, publisher: NodeId, version: int) -> Stored | None:
    """That of `version`, None if it is not kept."""
    sql = f"SELECT {_COLUMNS} FROM knowledge WHERE {_WHERE} AND version = ? AND logits IS NOT NULL"
    return _stored(link, publisher, db.one(sql, (link.child, link.parent, publisher, version)))


def _stored(link: Link, publisher: NodeId, row: Any) -> Stored | None:
    if row is None:
        return None
    federation, version, digest, view_seed, form, rows, classes, logits, basis, at = row
    packed = load_logits(logits, form, rows, classes)
    return Stored(Knowledge(federation, link, publisher, version, digest, view_seed, packed), basis, at)
