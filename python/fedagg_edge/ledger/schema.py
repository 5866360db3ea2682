"""The tables of a ledger, as the list of migrations that make them: number i + 1 leads from version i to i + 1.

A migration that was released is never edited; a change is one more of them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID: Final = 0x46414745  # "FAGE", in the file's header: what `file` and SQLite's tools show

_FIRST = """
CREATE TABLE facts (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

-- bytes of entries and batches, once each however many name them
CREATE TABLE payloads (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, bytes BLOB NOT NULL)
    STRICT;

-- epoch grows whenever rows of entries that exist are erased or replaced: caches are then made anew
CREATE TABLE links (child TEXT PRIMARY KEY, head INTEGER NOT NULL, digest TEXT NOT NULL, epoch INTEGER NOT NULL,
    fence INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- content: SHA-256 of the payload as it came; ids: its sample ids, kept when rows of the payload were erased
CREATE TABLE entries (child TEXT NOT NULL REFERENCES links, number INTEGER NOT NULL, kind INTEGER NOT NULL,
    by TEXT NOT NULL, key INTEGER, rows INTEGER NOT NULL, digest TEXT NOT NULL, content BLOB NOT NULL,
    payload INTEGER NOT NULL REFERENCES payloads, ids BLOB, at REAL NOT NULL, PRIMARY KEY (child, number))
    STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX entries_key ON entries (child, key) WHERE key IS NOT NULL;
CREATE INDEX entries_digest ON entries (child, digest);
CREATE INDEX entries_payload ON entries (payload);

-- batches for the own parent, not yet committed there; a key is never used twice
CREATE TABLE outbox (key INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, rows INTEGER NOT NULL,
    content BLOB NOT NULL, payload INTEGER NOT NULL REFERENCES payloads, ids BLOB NOT NULL, at REAL NOT NULL) STRICT;
CREATE INDEX outbox_payload ON outbox (payload);

CREATE TABLE owners (origin TEXT PRIMARY KEY, child TEXT NOT NULL, fence INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE chunks (node TEXT NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, at REAL NOT NULL,
    bytes BLOB NOT NULL, UNIQUE (node, digest)) STRICT;

-- logits NULL: forgotten, the version stays taken
CREATE TABLE knowledge (child TEXT NOT NULL, parent TEXT NOT NULL, publisher TEXT NOT NULL, version INTEGER NOT NULL,
    basis INTEGER NOT NULL, at REAL NOT NULL, federation TEXT NOT NULL, digest TEXT NOT NULL,
    view_seed INTEGER NOT NULL, format TEXT NOT NULL, rows INTEGER NOT NULL, classes INTEGER NOT NULL, logits BLOB,
    UNIQUE (child, parent, publisher, version)) STRICT;

CREATE TABLE nodes (node TEXT PRIMARY KEY, role TEXT NOT NULL, serial TEXT NOT NULL, enrolled REAL NOT NULL,
    active INTEGER NOT NULL, revoked REAL) STRICT, WITHOUT ROWID;
CREATE TABLE serials (serial TEXT PRIMARY KEY, node TEXT NOT NULL REFERENCES nodes, at REAL NOT NULL)
    STRICT, WITHOUT ROWID;
CREATE TABLE tokens (hash BLOB PRIMARY KEY, node TEXT, role TEXT NOT NULL, expires REAL NOT NULL, spent REAL)
    STRICT, WITHOUT ROWID;
CREATE TABLE usage (node TEXT PRIMARY KEY, requests INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- a device's own: parcels that were taken in (last: counters given so far), and the private samples it still has
CREATE TABLE parcels (key TEXT PRIMARY KEY, last INTEGER NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE samples (counter INTEGER PRIMARY KEY, form TEXT NOT NULL, x BLOB NOT NULL, y INTEGER NOT NULL,
    at REAL NOT NULL) STRICT;

CREATE TABLE notices (number INTEGER PRIMARY KEY AUTOINCREMENT, child TEXT, kind TEXT NOT NULL, body BLOB NOT NULL,
    at REAL NOT NULL) STRICT;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST,)
