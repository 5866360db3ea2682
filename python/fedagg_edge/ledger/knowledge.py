"""The newest knowledge of each publisher on each link, and the one before it.

Nothing is kept about embeddings that are erased: those rows are zeros. Whoever trains passes such rows over, so that
only the bytes are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import Conflict
from fedagg_edge.failpoints import reach
from fedagg_edge.ledger import log
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.fold import Fold, members
from fedagg_edge.records import Knowledge, Link, NodeId, PackedLogits, SampleSet
from fedagg_edge.wire.tensors import dump_logits, load_logits

__all__ = [
    "KEEP",
    "Packed",
    "Stored",
    "blank",
    "blank_erased",
    "blank_samples",
    "get",
    "newest",
    "packed",
    "put",
    "put_packed",
    "version",
    "versions",
]

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


_LOGITS = "SELECT rowid, digest, rows, format, classes, logits FROM knowledge WHERE child = ? AND logits IS NOT NULL"


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
    current: bool = False,
) -> bool:
    """Keep knowledge, without what it says about rows that are erased here; False if it, or a newer one, was there.
    Raises Conflict for a version with other content, but for one of this node's `own` that was forgotten: that version
    stays taken, the next one has what it knows now. A neighbour's comes back: it would be given for ever.

    `kept`: what `versions` gives, where the caller knows that. `current`: it is on a child's link and the caller knows
    that it names the set there is now, of which no row is erased.
    """
    p, where = packed, (link.child, link.parent, publisher)
    said = (federation, p.version, p.digest, p.view_seed, p.format, p.rows, p.classes)
    with db.savepoint():
        known = versions(db, link, publisher) if kept is None else kept
        gone_N = None if current else _erased_of(db, link, p, own_link=own == (publisher == link.child))
        data = p.data if gone_N is None else _zeroed(p.data, p.format, p.rows, p.classes, gone_N)
        refilled = False
        if p.version in known:
            same = db.one(f"SELECT {_COLUMNS} FROM knowledge WHERE {_WHERE} AND version = ?", (*where, p.version))
            if own and same[7] is None:
                return False
            if same[:7] != said or not _is_same(same[7], p, data, gone_N):
                raise Conflict(f"knowledge on {link}: version {p.version} of {publisher} came with two contents")
            refilled = same[7] is None and p.version == known[0]
        if known and known[0] >= p.version and not refilled:
            return False
        values = (*said, data, p.basis, at, *where)
        if refilled:
            db.execute(_OVERWRITE, (*values, p.version))
        elif len(known) < KEEP:
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


def _is_same(stored: bytes | None, given: Packed, data: bytes, gone_N: NDArray[np.bool_] | None) -> bool:
    """Whether logits that are kept are those `given`, `data` without the rows `gone_N`. A copy that comes late may have
    more than what is kept, and so may what is kept, if rows were erased and nobody asked for it to be forgotten."""
    if stored is None or stored in (given.data, data):
        return True
    return gone_N is not None and _zeroed(stored, given.format, given.rows, given.classes, gone_N) == data


def _erased_of(db: Database, link: Link, given: Packed, *, own_link: bool) -> NDArray[np.bool_] | None:
    """Which rows of knowledge are about erased embeddings; None if none is. On a child's link what is erased has left
    the set before: only an older set can name it, and only if anything was ever erased there. On the own link the
    parent says when a row leaves the set, and it may be erased long before that."""
    if not own_link:
        row = db.one("SELECT digest, epoch FROM links WHERE child = ?", (link.child,))
        if row is None or row[0] == given.digest or not row[1]:
            return None
    gone_N = _rows_of(db, link.child, given.digest, given.rows, _is_erased)
    return gone_N if gone_N.any() else None


def _is_erased(state: Fold, number: int) -> NDArray[np.bool_]:
    return ~state.here(number)


def _rows_of(
    db: Database, child: NodeId, digest: str, rows: int, which: Callable[[Fold, int], NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """The rows of the set that `digest` names, at the entry that left it last, of which `which` is true: all if they
    cannot be told apart, as ids of the set never came here; none of a set that no entry has left, as that is still on
    its way from the parent."""
    with db.snapshot():
        (number,) = db.one("SELECT max(number) FROM entries WHERE child = ? AND digest = ?", (child, digest))
        if number is None:
            return np.zeros(rows, bool)
        state = log.fold(db, child)
        named, found_N = state.samples(number), which(state, number)
    return found_N if len(found_N) == rows and named.digest == digest else np.ones(rows, bool)


def _zeroed(data: bytes, form: str, rows: int, classes: int, gone: slice | NDArray[np.bool_]) -> bytes:
    """The logits' bytes with zeros in these rows, the others in their places; int8's scales are zeros there, too."""
    logits = load_logits(data, form, rows, classes)
    value_NC, scale_N = logits.value_NC.copy(), logits.scale_N
    value_NC[gone] = 0
    if scale_N is not None:
        scale_N = scale_N.copy()
        scale_N[gone] = 0
    return dump_logits(PackedLogits(logits.format, value_NC, scale_N))


def blank(db: Database, child: NodeId, digest: str, rows: slice) -> int:
    """Zeros for what is kept on the link of `child` about these rows of the set `digest`. How many records were
    changed: those that say nothing about them any more are not counted again."""
    sql = _LOGITS + " AND digest = ?"
    return sum(_blank(db, stored, rows) for stored in db.all(sql, (child, digest)))


def blank_erased(db: Database, child: NodeId) -> int:
    """The same for all rows of the link that are erased."""
    return _blank_all(db, child, _is_erased)


def blank_samples(db: Database, child: NodeId, samples: SampleSet) -> int:
    """The same for the rows of these samples alone: others that are erased here, as they were released, are kept by who
    has them now, and the parent keeps what is known of them."""
    return _blank_all(db, child, lambda state, number: members(state.samples(number), samples))


def _blank_all(db: Database, child: NodeId, which: Callable[[Fold, int], NDArray[np.bool_]]) -> int:
    found = [(stored, _rows_of(db, child, stored[1], stored[2], which)) for stored in db.all(_LOGITS, (child,))]
    return sum(_blank(db, stored, gone_N) for stored, gone_N in found if gone_N.any())


def _blank(db: Database, stored: tuple[Any, ...], gone: slice | NDArray[np.bool_]) -> bool:
    number, _, rows, form, classes, data = stored
    left = _zeroed(data, form, rows, classes, gone)
    if left == data:
        return False
    db.execute("UPDATE knowledge SET logits = ? WHERE rowid = ?", (left, number))
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
