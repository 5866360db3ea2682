"""Payload bytes, kept once each however many entries and batches name them, and gone with the last of those."""

from __future__ import annotations

import hashlib

from fedagg_edge.ledger.database import Database

__all__ = ["content_of", "drop_unused", "find", "keep", "read"]


def content_of(payload: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(payload).digest()


def keep(db: Database, payload: bytes) -> int:
    """The number of `payload`, stored now if it was not yet."""
    digest = content_of(payload)
    known = db.one("SELECT id FROM payloads WHERE digest = ?", (digest,))
    if known is not None:
        return int(known[0])
    values = (digest, len(payload), payload)
    return int(db.execute("INSERT INTO payloads (digest, size, bytes) VALUES (?, ?, ?)", values).lastrowid or 0)


def find(db: Database, digest: bytes) -> bytes | None:
    """The payload of this SHA-256, if anything here names it."""
    known = db.one("SELECT bytes FROM payloads WHERE digest = ?", (digest,))
    return None if known is None else bytes(known[0])


def read(db: Database, number: int, start: int = 0, size: int | None = None) -> bytes:
    """`size` bytes from `start` on, or all."""
    if start == 0 and size is None:
        return bytes(db.one("SELECT bytes FROM payloads WHERE id = ?", (number,))[0])
    wanted = (start + 1, -1 if size is None else size, number)
    return bytes(db.one("SELECT substr(bytes, ?1, CASE WHEN ?2 < 0 THEN size ELSE ?2 END) FROM payloads WHERE id = ?3",
                        wanted)[0])  # fmt: skip


def drop_unused(db: Database, number: int) -> int:
    """Delete payload `number` if nothing names it any more; the bytes that this frees."""
    used = db.one(
        "SELECT EXISTS (SELECT 1 FROM entries WHERE payload = ?1) OR EXISTS (SELECT 1 FROM outbox WHERE payload = ?1)",
        (number,),
    )
    if used[0]:
        return 0
    size = db.one("SELECT size FROM payloads WHERE id = ?", (number,))
    db.execute("DELETE FROM payloads WHERE id = ?", (number,))
    return 0 if size is None else int(size[0])
