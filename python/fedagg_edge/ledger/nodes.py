"""A parent's children: who is enrolled, with which certificates, who is revoked, and the tokens that let nodes in."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from fedagg_edge.errors import DataError
from fedagg_edge.failpoints import reach
from fedagg_edge.ledger.database import Database
from fedagg_edge.records import NodeId, Tier

__all__ = [
    "NodeFacts",
    "Token",
    "Usage",
    "certified",
    "children",
    "count_usage",
    "enrol",
    "introduce",
    "join",
    "knows_serial",
    "leave",
    "names",
    "node",
    "put_token",
    "revocations",
    "revoke",
    "revoked_serials",
    "spend_token",
    "usage",
]

_REVISION = "nodes.revision"


class NodeFacts(msgspec.Struct, frozen=True):
    """A node: its role, its newest certificate's serial, times in seconds since 1970."""

    node: NodeId
    role: Tier
    serial: str
    enrolled: float
    active: bool
    revoked: float | None


@dataclass(frozen=True, slots=True)
class Token:
    """What a token buys; `node` None: any id."""

    node: NodeId | None
    role: Tier
    expires: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a node has asked for since it was enrolled."""

    requests: int
    bytes: int


def enrol(db: Database, name: NodeId, role: Tier, serial: str, now: float) -> None:
    """Take in a node, or its next certificate. Raises DataError if it is revoked or was enrolled in another role."""
    with db.savepoint():
        known = node(db, name)
        if known is not None and (known.revoked is not None or known.role is not role):
            state = "is revoked" if known.revoked is not None else f"is enrolled as {known.role}"
            raise DataError(f"node {name} {state}; enrol it under another id")
        db.execute(
            "INSERT INTO nodes VALUES (?, ?, ?, ?, 1, NULL)"
            " ON CONFLICT (node) DO UPDATE SET serial = excluded.serial, active = 1",
            (name, str(role), serial, now),
        )
        reach("nodes.enrol.after-node")
        db.execute("INSERT OR IGNORE INTO serials VALUES (?, ?, ?)", (serial, name, now))


def introduce(db: Database, name: NodeId, role: Tier, serial: str, now: float) -> None:
    """Make known a node of the federation that moves here; `enrol` takes it in. Raises DataError as that does."""
    with db.savepoint():
        known = node(db, name)
        if known is not None and (known.revoked is not None or known.role is not role):
            enrol(db, name, role, serial, now)  # says what is wrong
        db.execute(
            "INSERT INTO nodes VALUES (?, ?, ?, ?, 0, NULL) ON CONFLICT (node) DO UPDATE SET serial = excluded.serial",
            (name, str(role), serial, now),
        )
        db.execute("INSERT OR IGNORE INTO serials VALUES (?, ?, ?)", (serial, name, now))


def node(db: Database, name: NodeId) -> NodeFacts | None:
    """The facts of a node."""
    row = db.one("SELECT node, role, serial, enrolled, active, revoked FROM nodes WHERE node = ?", (name,))
    return None if row is None else NodeFacts(row[0], Tier(row[1]), row[2], row[3], bool(row[4]), row[5])


def names(db: Database) -> set[NodeId]:
    """Everyone that this ledger has ever heard of: enrolled or moved here, whose samples came through whatever child,
    who may enrol."""
    found = db.all(
        "SELECT node FROM nodes UNION SELECT child FROM links UNION SELECT origin FROM owners"
        " UNION SELECT node FROM tokens WHERE node IS NOT NULL"
        " UNION SELECT substr(key, 10) FROM facts WHERE key > 'adoption/' AND key < 'adoption/' || x'7f'"
    )
    return {row[0] for row in found}


def certified(db: Database, name: NodeId) -> float | None:
    """When the newest certificate of a node was first seen, or made, here: not before it was made."""
    row = db.one("SELECT at FROM serials WHERE serial = (SELECT serial FROM nodes WHERE node = ?)", (name,))
    return None if row is None else float(row[0])


def children(db: Database) -> list[NodeId]:
    """Those enrolled here that have neither left nor been revoked, ascending."""
    return [row[0] for row in db.all("SELECT node FROM nodes WHERE active = 1 AND revoked IS NULL ORDER BY node")]


def join(db: Database, name: NodeId) -> None:
    """The node is a child from now on."""
    db.execute("UPDATE nodes SET active = 1 WHERE node = ? AND revoked IS NULL", (name,))


def leave(db: Database, name: NodeId) -> None:
    """The node has another parent now; its certificate stays good."""
    db.execute("UPDATE nodes SET active = 0 WHERE node = ?", (name,))


def revoke(db: Database, name: NodeId, now: float) -> int:
    """Refuse the node from now on, whatever certificate it shows; the revision of the list after that."""
    with db.savepoint():
        done = db.execute("UPDATE nodes SET revoked = ?, active = 0 WHERE node = ? AND revoked IS NULL", (now, name))
        if not done.rowcount and node(db, name) is None:
            raise DataError(f"node {name}: not enrolled here")
        if done.rowcount:
            db.execute(
                "INSERT INTO facts VALUES (?, x'31') ON CONFLICT (key) DO UPDATE"
                " SET value = CAST(CAST(CAST(value AS TEXT) AS INTEGER) + 1 AS BLOB)",
                (_REVISION,),
            )
    return revocations(db)


def revocations(db: Database) -> int:
    """The revision of the list of revoked nodes: one more with each."""
    row = db.one("SELECT value FROM facts WHERE key = ?", (_REVISION,))
    return 0 if row is None else int(row[0])


def revoked_serials(db: Database) -> list[str]:
    """Serials of all certificates of revoked nodes, ascending."""
    sql = "SELECT serials.serial FROM serials JOIN nodes USING (node) WHERE revoked IS NOT NULL ORDER BY serials.serial"
    return [row[0] for row in db.all(sql)]


def knows_serial(db: Database, serial: str) -> bool:
    """Whether a node showed, or got, the certificate with this serial here."""
    return db.one("SELECT 1 FROM serials WHERE serial = ?", (serial,)) is not None


def put_token(db: Database, digest: bytes, name: NodeId | None, role: Tier, expires: float) -> None:
    """Allow one enrolment to whoever shows the token whose SHA-256 is `digest`."""
    db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, NULL)", (digest, name, str(role), expires))


def spend_token(db: Database, digest: bytes, now: float) -> Token | None:
    """What the token buys, once: of two that ask at the same time one gets None, as for an expired or unknown one."""
    with db.savepoint():
        sql = "UPDATE tokens SET spent = ?1 WHERE hash = ?2 AND spent IS NULL AND expires > ?1"
        if not db.execute(sql, (now, digest)).rowcount:
            return None
        reach("nodes.spend-token.after-update")
        name, role, expires = db.one("SELECT node, role, expires FROM tokens WHERE hash = ?", (digest,))
        return Token(name, Tier(role), expires)


def count_usage(db: Database, name: NodeId, requests: int, size: int) -> None:
    """Add to a node's counters."""
    db.execute(
        "INSERT INTO usage VALUES (?1, ?2, ?3) ON CONFLICT (node) DO UPDATE"
        " SET requests = requests + ?2, bytes = bytes + ?3",
        (name, requests, size),
    )


def usage(db: Database, name: NodeId) -> Usage:
    """A node's counters."""
    return Usage(*(db.one("SELECT requests, bytes FROM usage WHERE node = ?", (name,)) or (0, 0)))
