"""The replicated log of a link: numbered entries, each naming the set it leaves. See docs/fleet.md.

Functions on a `Database`; `child` names the link, and a node's own id names its link to its own parent. What an entry
sets in motion on other links (relays, moves) is not here but in `relay` and `moves`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import Conflict, DataError, RemoteProtocolError
from fedagg_edge.failpoints import reach
from fedagg_edge.ledger import payloads
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.fold import EMPTY, Fold, members, only, without
from fedagg_edge.records import Embeddings, NodeId, SampleSet
from fedagg_edge.wire.tensors import OWN, load_embeddings, load_release, load_samples

__all__ = [
    "By",
    "Kind",
    "LogEntry",
    "Position",
    "append",
    "at_digest",
    "embeddings",
    "entries",
    "entry_bytes",
    "fence",
    "fold",
    "head",
    "insert",
    "links",
    "open_link",
    "refuse_gap",
    "remaining",
    "removed",
    "rows",
    "samples",
    "size",
]

By = Literal["child", "parent"]
INLINE = 65_536


class Kind(IntEnum):
    """What an entry does to the set."""

    APPEND = 1  # payload: embeddings
    FORGET = 2  # payload: sample ids
    RELEASE = 3  # payload: the node that went to another parent, and the sample ids that went with it


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: entry number (0: before the first) and the digest of the set there."""

    entry: int
    digest: str
    already: bool = field(default=False, compare=False)  # the key was committed before, nothing has changed


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry. `rows` counts what it named when it was written; `payload` may have fewer rows since, and is None
    when it is over the bytes that were asked for."""

    number: int
    kind: Kind
    rows: int
    digest: str
    size: int
    payload: bytes | None
    key: int | None = None
    by: By = "parent"


def head(db: Database, child: NodeId) -> Position:
    """The last entry of `child`'s link; entry 0 and the empty set's digest before the first."""
    row = db.one("SELECT head, digest FROM links WHERE child = ?", (child,))
    return Position(0, EMPTY.digest) if row is None else Position(*row)


def links(db: Database) -> list[NodeId]:
    """All links that have a log, ascending; the own one is among them."""
    return [row[0] for row in db.all("SELECT child FROM links ORDER BY child")]


def size(db: Database, child: NodeId) -> int:
    """Bytes of the payloads that the log of `child`'s link names, each once."""
    sql = "SELECT coalesce(sum(size), 0) FROM payloads WHERE id IN (SELECT payload FROM entries WHERE child = ?)"
    return int(db.one(sql, (child,))[0])


def open_link(db: Database, child: NodeId, fence: int = 0) -> None:
    """Make the empty log of `child`'s link unless it is there, and raise its fence to `fence`."""
    db.execute(
        "INSERT INTO links VALUES (?, 0, ?, 0, ?) ON CONFLICT (child) DO UPDATE SET fence = max(fence, excluded.fence)",
        (child, EMPTY.digest, fence),
    )


def fence(db: Database, child: NodeId) -> int:
    """How often `child` has moved, as far as its link here knows; on the own link, how often this node has."""
    row = db.one("SELECT fence FROM links WHERE child = ?", (child,))
    return 0 if row is None else int(row[0])


def append(
    db: Database, child: NodeId, kind: Kind, payload: bytes, *, key: int | None, by: By, at: float | None = None
) -> Position:
    """Commit an entry at the parent's end. A `key` that was committed is answered with that entry again.

    Raises Conflict for other content under that key, DataError for a sample with other content than before,
    RemoteProtocolError for a payload that is not what `kind` says, StorageFull.
    """
    with db.savepoint():
        if key is not None and (known := _committed(db, child, kind, payload, key)) is not None:
            return known
        open_link(db, child)
        return insert(db, child, kind, payload, key=key, by=by, at=at)


def insert(
    db: Database,
    child: NodeId,
    kind: Kind,
    payload: bytes,
    *,
    key: int | None,
    by: By,
    at: float | None = None,
    told: str | None = None,
    rows: int | None = None,
    content: bytes | None = None,
    ids: bytes | None = None,
) -> Position:
    """Write the next entry. What the other end told of it (`told` digest, `rows` when it was written, original
    `content` and `ids` of a batch that was reduced) is kept; without it, it is computed here."""
    state = fold(db, child)
    number = state.entry + 1
    db.touch(("fold", child))  # before it changes: what fails half-way must not stay in the cache
    count = _apply(state, number, kind, payload, ids)
    _keep(db, child, state)  # it has grown
    digest = told or state.samples().digest
    stored = payloads.keep(db, payload)
    reach("log.insert.after-payload")
    db.execute(
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (child, number, kind, by, key, count if rows is None else rows, digest, content or payloads.content_of(payload),
         stored, ids, time.time() if at is None else at),
    )  # fmt: skip
    reach("log.insert.after-entry")
    db.execute("UPDATE links SET head = ?, digest = ? WHERE child = ?", (number, digest, child))
    reach("log.insert.after-head")
    return Position(number, digest)


def _apply(state: Fold, number: int, kind: Kind, payload: bytes, ids: bytes | None = None) -> int:
    """Apply an entry to `state`; the number of samples it names."""
    if kind is not Kind.APPEND:
        gone = removed(kind, payload)
        state.remove(number, gone)
        return len(gone)
    rows = load_embeddings(payload, OWN)
    named = rows.samples if ids is None else load_samples(ids, OWN)
    state.add(number, rows, named)
    return len(named)


def removed(kind: Kind, payload: bytes) -> SampleSet:
    """The samples that an entry which appends nothing takes out of the set."""
    return load_release(payload, OWN).samples if kind is Kind.RELEASE else load_samples(payload, OWN)


def _committed(db: Database, child: NodeId, kind: Kind, payload: bytes, key: int) -> Position | None:
    """Where `key` was committed; None if it was not. A batch may come again without rows that were forgotten since,
    and others of it may have been forgotten here."""
    sql = "SELECT number, kind, digest, content, payload, ids FROM entries WHERE child = ? AND key = ?"
    row = db.one(sql, (child, key))
    if row is None:
        return None
    number, kind_then, digest, content, stored, ids = row
    if content != payloads.content_of(payload) and not (
        kind == kind_then == Kind.APPEND and _is_part(db, payload, stored, ids)
    ):
        raise Conflict(
            f"link {child}: key {key} was committed as entry {number} with other content; a batch's key is used once"
        )
    return Position(number, digest, already=True)


def _is_part(db: Database, payload: bytes, stored: int, ids: bytes | None) -> bool:
    again, then = load_embeddings(payload, OWN), load_embeddings(payloads.read(db, stored), OWN)
    if len(without(again.samples, then.samples if ids is None else load_samples(ids, OWN))):
        return False
    same, again = only(then, again.samples), only(again, then.samples)
    return np.array_equal(same.code_NB, again.code_NB) and np.array_equal(same.label_N, again.label_N)


def fold(db: Database, child: NodeId) -> Fold:
    """The state of the log now, from the cache and the entries that are new since."""
    with db.snapshot():
        row = db.one("SELECT head, epoch FROM links WHERE child = ?", (child,)) or (0, 0)
        state: Fold | None = db.cache.get(("fold", child))
        if state is None or state.epoch != row[1] or state.entry > row[0]:
            state = Fold(row[1])
        if state.entry == row[0]:
            _keep(db, child, state)
            return state
        db.touch(("fold", child))
        db.cache.pop(("fold", child), None)  # half done if what follows fails
        for number, kind, stored, ids in db.all(
            "SELECT number, kind, payload, ids FROM entries WHERE child = ? AND number > ? ORDER BY number",
            (child, state.entry),
        ):
            _apply(state, number, Kind(kind), payloads.read(db, stored), ids)
        _keep(db, child, state)
        return state


def _keep(db: Database, child: NodeId, state: Fold) -> None:
    """Cache a fold, and let go of those that were used longest ago while they are together over the bound."""
    db.cache.pop(("fold", child), None)
    db.cache["fold", child] = state
    if db.fold_bytes is None:
        return
    sizes: dict[NodeId, int] = db.cache.setdefault("fold sizes", {})
    sizes.pop(child, None)
    sizes[child] = state.nbytes
    over = sum(sizes.values()) - db.fold_bytes
    for oldest in list(sizes)[:-1]:
        if over <= 0:
            break
        over -= sizes.pop(oldest)
        db.cache.pop(("fold", oldest), None)


def rows(db: Database, child: NodeId, digest: str, *, left: bool = False) -> int:
    """How many samples the set has that `digest` names; raises DataError as `samples` does. `left`: the
    caller knows that an entry left it. Kept for the set that was
    asked for last: a child names the same one in every exchange, and its rows need not be in memory for that."""
    if not left:
        at_digest(db, child, digest)
    known = db.cache.get(("rows", child))
    if known is None or known[0] != digest:
        db.touch(("rows", child))
        known = db.cache["rows", child] = (digest, len(samples(db, child, digest)))
    return int(known[1])


def entries(db: Database, child: NodeId, after: int, limit: int = 256, inline: int = INLINE) -> list[LogEntry]:
    """Up to `limit` entries after number `after`, with payloads of at most `inline` bytes."""
    found = db.all(
        "SELECT number, kind, rows, entries.digest, size, CASE WHEN size <= ? THEN bytes END, key, by"
        " FROM entries JOIN payloads ON payloads.id = payload WHERE child = ? AND number > ? ORDER BY number LIMIT ?",
        (inline, child, after, limit),
    )
    return [LogEntry(number, Kind(kind), *rest) for number, kind, *rest in found]


def entry_bytes(db: Database, child: NodeId, number: int, start: int = 0, size: int | None = None) -> bytes:
    """Bytes of an entry's payload as it is now; raise DataError if there is no such entry."""
    row = db.one("SELECT payload FROM entries WHERE child = ? AND number = ?", (child, number))
    if row is None:
        raise DataError(f"link {child}: got entry {number}, expected 1 to {head(db, child).entry}")
    return payloads.read(db, row[0], start, size)


def at_digest(db: Database, child: NodeId, digest: str) -> int:
    """The last entry that left the set `digest`; raise DataError if none did."""
    if digest == EMPTY.digest:
        return 0
    row = db.one("SELECT max(number) FROM entries WHERE child = ? AND digest = ?", (child, digest))
    if row[0] is None:
        now = head(db, child)
        raise DataError(
            f"link {child}: no entry left the set {digest[:12]}; the last is entry {now.entry}, set {now.digest[:12]}"
        )
    return int(row[0])


def samples(db: Database, child: NodeId, digest: str | None = None) -> SampleSet:
    """The set that `digest` names, or that at the head. Ids are kept when rows are erased.

    Raises DataError if no entry left it, or if its ids never came here since rows of it were erased before.
    """
    with db.snapshot():
        state = fold(db, child)
        wanted = head(db, child).digest if digest is None else digest
        found = state.samples(at_digest(db, child, wanted))
    if found.digest != wanted:
        raise DataError(f"link {child}: rows of the set {wanted[:12]} were forgotten; predict on a later set")
    return found


def embeddings(db: Database, child: NodeId, digest: str | None = None) -> Embeddings:
    """The rows of the set that `digest` names, or of that at the head.

    Raises DataError if there are none, if no entry left that set, or if rows of it are erased (see `remaining`).
    """
    with db.snapshot():
        wanted = head(db, child).digest if digest is None else digest
        found = fold(db, child).embeddings(at_digest(db, child, wanted))
    if found.samples.digest != wanted:
        raise DataError(f"link {child}: rows of the set {wanted[:12]} were forgotten; use what remains of it")
    if not len(found):
        raise DataError(f"store: nothing came through {child!r} yet")
    return found


def remaining(db: Database, child: NodeId, digest: str) -> tuple[Embeddings, NDArray[np.int64]]:
    """The rows of the set that `digest` names which are not erased, and their row numbers in that set: with these,
    knowledge that was made before rows were forgotten still teaches about the others."""
    with db.snapshot():
        named = samples(db, child, digest)
        found = fold(db, child).embeddings(at_digest(db, child, digest))
    return found, np.flatnonzero(members(named, found.samples))


def refuse_gap(child: NodeId, got: int, expected: int) -> RemoteProtocolError:
    """The error for an entry that does not follow the last one."""
    return RemoteProtocolError(f"link {child}: got entry {got}, expected {expected}; ask for the entries between")
