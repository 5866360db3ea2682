"""The newest knowledge of each publisher on each link, and the one before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedagg_edge.errors import Conflict
from fedagg_edge.failpoints import reach
from fedagg_edge.ledger.database import Database
from fedagg_edge.records import Knowledge, Link, NodeId
from fedagg_edge.wire.tensors import dump_logits, load_logits

__all__ = ["Packed", "Stored", "get", "newest", "packed", "put", "version"]

_KEEP = 2
_COLUMNS = "federation, version, digest, view_seed, format, rows, classes, logits, basis, at"
_PLACES = ", ".join("?" * 13)
_SET = ", ".join(f"{column} = ?" for column in _COLUMNS.split(", "))
_WHERE = "child = ? AND parent = ? AND publisher = ?"


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


@dataclass(frozen=True, slots=True)
class Packed:
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
    """Keep `knowledge`; False if it, or a newer one, was there. Raises Conflict for a version with other content, but
    for one of this node's `own` that was forgotten: that version stays taken, the next one has what it knows now."""
    k, logits = knowledge, dump_logits(knowledge.logits)
    where = (k.link.child, k.link.parent, k.publisher)
    rows, classes = k.logits.value_NC.shape
    said = (k.federation, k.version, k.digest, k.view_seed, str(k.logits.format), rows, classes)
    with db.savepoint():
        known = db.all(f"SELECT version FROM knowledge WHERE {_WHERE} ORDER BY version DESC", where)
        if (k.version,) in known:
            same = db.one(f"SELECT {_COLUMNS} FROM knowledge WHERE {_WHERE} AND version = ?", (*where, k.version))
            if own and same[7] is None:
                return False
            if same[:7] != said or same[7] not in (None, logits):
                raise Conflict(f"knowledge on {k.link}: version {k.version} of {k.publisher} came with two contents")
        if known and known[0][0] >= k.version:
            return False
        values = (*said, logits, basis, at)
        if len(known) < _KEEP:
            db.execute(f"INSERT INTO knowledge ({_COLUMNS}, child, parent, publisher) VALUES ({_PLACES})",
                       (*values, *where))  # fmt: skip
            reach("knowledge.put.after-insert")
        else:  # the oldest makes room: its row is written over, which touches half the pages that a new one does
            db.execute(f"UPDATE knowledge SET {_SET} WHERE {_WHERE} AND version = ?",
                       (*values, *where, known[-1][0]))  # fmt: skip
            reach("knowledge.put.after-insert")
            if len(known) > _KEEP:
                db.execute(f"DELETE FROM knowledge WHERE {_WHERE} AND version < ?", (*where, known[_KEEP - 2][0]))
            reach("knowledge.put.after-delete")
    return True


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
