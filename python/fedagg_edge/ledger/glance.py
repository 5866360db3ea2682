"""All that a child's exchange asks a ledger about that child, read by one statement: docs/decisions/gateway-cpu.md.

An exchange asks some twenty times, and asking costs more than what SQLite does for the answer. A glance is true for as
long as nothing is written: whoever keeps one compares `Database.writes`, and keeps it within one transaction only.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.fold import EMPTY
from fedagg_edge.ledger.log import Position
from fedagg_edge.ledger.nodes import NodeFacts
from fedagg_edge.records import NodeId, Tier

__all__ = ["Glance", "glance"]

_VERSION = (
    "(SELECT version FROM knowledge WHERE child = ?1 AND parent = ?2 AND publisher = {publisher} AND logits IS NOT NULL"
    " ORDER BY version DESC LIMIT 1)"
)


@dataclass(slots=True)
class Glance:
    """`versions` of the newest knowledge on the child's link, by publisher, -1 for none; `staged`: whether chunks of
    the child are; `notice`: the last one's number, whoever it is for; `facts`: their bytes, None for one that is
    not there."""

    child: NodeId
    node: NodeFacts | None
    head: Position
    fence: int
    versions: dict[NodeId, int]
    staged: bool
    notice: int
    facts: dict[str, bytes | None]
    writes: int  # that the database had seen


def glance(db: Database, child: NodeId, parent: NodeId, facts: tuple[str, ...]) -> Glance:
    """What is known of `child` now, and these facts."""
    row = db.one(_sql(len(facts)), (child, parent, *facts))
    role, serial, enrolled, active, revoked, head, digest, fence, mine, given, staged, notice, *values = row
    return Glance(
        child,
        None if role is None else NodeFacts(child, Tier(role), serial, enrolled, bool(active), revoked),
        Position(0, EMPTY.digest) if head is None else Position(head, digest),
        fence or 0,
        {child: -1 if mine is None else mine, parent: -1 if given is None else given},
        bool(staged),
        notice or 0,
        dict(zip(facts, values, strict=True)),
        db.writes,
    )


_known: dict[int, str] = {}


def _sql(facts: int) -> str:
    sql = _known.get(facts)
    if sql is None:
        values = "".join(f", (SELECT value FROM facts WHERE key = ?{i + 3})" for i in range(facts))
        sql = _known[facts] = (
            "SELECT role, serial, enrolled, active, revoked, head, links.digest, fence,"
            f" {_VERSION.format(publisher='?1')}, {_VERSION.format(publisher='?2')},"
            f" EXISTS (SELECT 1 FROM chunks WHERE node = ?1), (SELECT max(number) FROM notices){values}"
            " FROM (SELECT 1) LEFT JOIN nodes ON nodes.node = ?1 LEFT JOIN links ON links.child = ?1"
        )
    return sql
