"""Numbered notices from a parent to one child or to all."""

from __future__ import annotations

from dataclasses import dataclass

from fedagg_edge.ledger.database import Database
from fedagg_edge.records import NodeId

__all__ = ["Notice", "after", "drop", "put"]


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice; `body` is msgpack."""

    number: int
    kind: str
    body: bytes


def put(db: Database, child: NodeId | None, kind: str, body: bytes, now: float) -> int:
    """Leave a notice for `child`, or for all; its number."""
    sql = "INSERT INTO notices (child, kind, body, at) VALUES (?, ?, ?, ?)"
    return int(db.execute(sql, (child, kind, body, now)).lastrowid or 0)


def drop(db: Database, child: NodeId, kind: str) -> None:
    """Take back what was left for `child` of this kind."""
    db.execute("DELETE FROM notices WHERE child = ? AND kind = ?", (child, kind))


def after(db: Database, child: NodeId, number: int, limit: int = 64) -> list[Notice]:
    """Up to `limit` notices for `child` with higher numbers, ascending."""
    wanted = "number > ? AND (child IS NULL OR child = ?) ORDER BY number LIMIT ?"
    sql = f"SELECT number, kind, body FROM notices WHERE {wanted}"
    return [Notice(*row) for row in db.all(sql, (number, child, limit))]
