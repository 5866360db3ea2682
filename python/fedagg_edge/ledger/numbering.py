"""The numbers that a node gives, its own samples' counters and its batches' keys: none twice, whatever it has lost.

A node that lost its state counts from the beginning again, while its parent's log names what it gave before. So each
entry that is taken over raises both, and a ledger is `fresh` until it has seen all that its parent had of the node:
nothing that waits in a fresh ledger was ever asked for, so it may still get other numbers. How much that was is kept:
what the parent has asked for before is nothing to this ledger, whose rows came without what had been forgotten.
"""

from __future__ import annotations

import msgspec

from fedagg_edge.ledger.database import Database

__all__ = ["begin", "counters_given", "end_fresh", "is_fresh", "joined_at", "raise_counters", "raise_keys"]

_FRESH = "numbering.fresh"  # a fact that only a fresh ledger has: one of an older version has none, and is not fresh
_COUNTERS = "numbering.counters"  # a fact: counters below this were given, here or in a state that was lost
_JOINED = "numbering.joined"  # a fact: the entry of the parent's log up to which all came to a fresh ledger
_MOST = 1 << 61  # no node gets there by counting: what a log names from here on raises nothing, or nothing were left


def begin(db: Database) -> None:
    """Note that this ledger is new: what this node gave before it, if anything, only its parent can tell."""
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_FRESH, msgspec.msgpack.encode(True)))


def is_fresh(db: Database) -> bool:
    """Whether this node's parent may have more of it than this ledger has seen."""
    return db.one("SELECT 1 FROM facts WHERE key = ?", (_FRESH,)) is not None


def end_fresh(db: Database, entry: int = 0) -> None:
    """All that the parent had, up to this entry of its log, has been seen. 0: or this ledger was not fresh, and has
    another parent."""
    db.execute("DELETE FROM facts WHERE key = ?", (_FRESH,))
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_JOINED, msgspec.msgpack.encode(entry)))


def joined_at(db: Database) -> int:
    """The last entry of the parent's log that is older than this ledger, 0 if none is."""
    row = db.one("SELECT value FROM facts WHERE key = ?", (_JOINED,))
    return 0 if row is None else msgspec.msgpack.decode(row[0], type=int)


def counters_given(db: Database) -> int:
    """The first counter that this node has never given to a sample of its own."""
    (here,) = db.one("SELECT coalesce(max(last), 0) FROM parcels")
    row = db.one("SELECT value FROM facts WHERE key = ?", (_COUNTERS,))
    return max(int(here), 0 if row is None else msgspec.msgpack.decode(row[0], type=int))


def raise_counters(db: Database, counter: int) -> None:
    """A sample of this node's own has `counter`: later ones get higher ones."""
    if counters_given(db) <= counter < _MOST:
        db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_COUNTERS, msgspec.msgpack.encode(counter + 1)))


def raise_keys(db: Database, key: int) -> None:
    """A batch of this node's own had `key`: later ones get higher ones."""
    (last,) = db.one("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'")
    if last < key < _MOST:  # SQLite's own count, which a table with AUTOINCREMENT goes on from
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
        db.execute("INSERT INTO sqlite_sequence VALUES ('outbox', ?)", (key,))
