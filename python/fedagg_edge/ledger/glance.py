"""All that a child's exchange asks a ledger about that child, read by one statement: docs/decisions/gateway-cpu.md.

An exchange asks some twenty times, and asking costs more than what SQLite does for the answer. A glance is true for as
long as nothing is written: whoever keeps one compares `Database.writes`, and keeps it within one transaction only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.fold import EMPTY
from fedagg_edge.ledger.log import Position
from fedagg_edge.ledger.nodes import NodeFacts
from fedagg_edge.records import NodeId, Tier

__all__ = ["Glance", "glance"]

_SHORT = 65_536
"""Bytes of logits that are read at once, wanted or not: whoever waits for news looks every second."""

_TIERS = {str(tier): tier for tier in Tier}


@dataclass(slots=True)
class Glance:
    """`versions` of the newest knowledge on the child's link, by publisher, -1 for none; `kept`: the child's that are
    here, newest first, forgotten ones too; `given`: the fields of `knowledge.Packed` of the parent's newest, its bytes
    None if there are many, itself None if there is none; `staged`: whether chunks of the child are; `notice`: the last
    one's number, whoever it is for; `facts`: their bytes, None for one that is not there."""

    child: NodeId
    node: NodeFacts | None
    head: Position
    fence: int
    versions: dict[NodeId, int]
    kept: tuple[int, ...]
    given: tuple[Any, ...] | None
    staged: bool
    notice: int
    facts: dict[str, bytes | None]
    writes: int  # that the database had seen


def glance(db: Database, child: NodeId, parent: NodeId, facts: tuple[str, ...]) -> Glance:
    """What is known of `child` now, and these facts."""
    row = db.one(_sql(len(facts)), (child, parent, *facts))
    role, serial, enrolled, active, revoked, head, digest, fence, mine, staged, notice = row[:11]
    kept, newest = _versions(mine)
    return Glance(
        child,
        None if role is None else NodeFacts(child, _TIERS[role], serial, enrolled, bool(active), revoked),
        Position(0, EMPTY.digest) if head is None else Position(head, digest),
        fence or 0,
        {child: newest, parent: -1 if row[11] is None else row[11]},
        kept,
        None if row[11] is None else row[11:19],
        bool(staged),
        notice or 0,
        dict(zip(facts, row[19:], strict=True)),
        db.writes,
    )


def _versions(mine: str | None) -> tuple[tuple[int, ...], int]:
    """(all, newest first; the newest that was not forgotten, -1 if there is none) of what `_MINE` selects."""
    if mine is None:
        return (), -1
    marked = [int(text) for text in mine.split(",")]
    return tuple(sorted((v if v >= 0 else -1 - v for v in marked), reverse=True)), max(-1, *marked)


_OWN = "child = ?1 AND parent = ?2 AND publisher = {publisher}"
_MINE = (
    "(SELECT group_concat(iif(logits IS NULL, -1 - version, version)) FROM knowledge"
    f" WHERE {_OWN.format(publisher='?1')})"
)
_GIVEN = (
    "(SELECT rowid FROM knowledge"
    f" WHERE {_OWN.format(publisher='?2')} AND logits IS NOT NULL ORDER BY version DESC LIMIT 1)"
)
_known: dict[int, str] = {}


def _sql(facts: int) -> str:
    sql = _known.get(facts)
    if sql is None:
        values = "".join(f", (SELECT value FROM facts WHERE key = ?{i + 3})" for i in range(facts))
        sql = _known[facts] = (
            f"SELECT role, serial, enrolled, active, revoked, head, links.digest, fence, {_MINE},"
            " EXISTS (SELECT 1 FROM chunks WHERE node = ?1), (SELECT max(number) FROM notices),"
            " given.version, basis, given.digest, view_seed, format, rows, classes,"
            f" iif(length(logits) <= {_SHORT}, logits, NULL){values}"
            " FROM (SELECT 1) LEFT JOIN nodes ON nodes.node = ?1 LEFT JOIN links ON links.child = ?1"
            f" LEFT JOIN knowledge AS given ON given.rowid = {_GIVEN}"
        )
    return sql
