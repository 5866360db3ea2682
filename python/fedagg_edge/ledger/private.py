"""A device's private samples, beside its log: what came from the source, once each, until retention lets it go.

In the ledger so that taking a parcel in, giving its samples their counters and putting their embeddings into the outbox
is one commit: whatever is killed when, each sample is encoded and sent once. Nothing here ever travels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.errors import DataError, StorageError
from fedagg_edge.ledger import numbering
from fedagg_edge.ledger.database import Database
from fedagg_edge.records import NodeId, SampleSet, counters

__all__ = ["Kept", "date", "drop", "expired", "is_taken", "load", "take_in"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Raw samples x_N [N, ...], labels int64 [N], counters uint64 [N] ascending."""

    x_N: NDArray[Any]
    y_N: NDArray[np.int64]
    counter_N: NDArray[np.uint64]

    def __repr__(self) -> str:  # counts, never content
        return f"Kept(count={len(self.y_N)})"


def is_taken(db: Database, key: str) -> bool:
    """Whether the parcel `key` was taken in, also if its samples are gone since."""
    return db.one("SELECT 1 FROM parcels WHERE key = ?", (key,)) is not None


def take_in(db: Database, key: str, x_N: NDArray[Any], y_N: NDArray[np.int64], now: float) -> NDArray[np.uint64]:
    """Keep a parcel's samples; their counters, never given before. Raises DataError if they have another form than
    the samples before, or if the parcel was taken in already."""
    if is_taken(db, key):
        raise DataError(f"parcel {key!r} was taken in already")
    form = f"{x_N.dtype.str}{x_N.shape[1:]}"
    known = db.one("SELECT form FROM samples LIMIT 1")
    if known is not None and known[0] != form:
        raise DataError(f"parcel {key!r}: got samples {form}, expected {known[0]} as before")
    last = numbering.counters_given(db)
    counter_N = counters(last, len(y_N))
    db.execute("INSERT INTO parcels VALUES (?, ?, ?)", (key, last + len(y_N), now))
    for x, y, counter in zip(np.ascontiguousarray(x_N), y_N, counter_N, strict=True):
        row = (int(counter), form, x.tobytes(), int(y), now)
        db.execute("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", row)
    return counter_N


def load(db: Database, shape: tuple[int, ...]) -> Kept | None:
    """All samples, each of `shape`; None if there are none. Raises StorageError if they are not of that shape."""
    rows = db.all("SELECT counter, form, x, y FROM samples ORDER BY counter")
    if not rows:
        return None
    dtype = np.dtype(rows[0][1].partition("(")[0])
    try:
        x_N = np.frombuffer(b"".join(row[2] for row in rows), dtype).reshape(len(rows), *shape)
    except ValueError as e:
        raise StorageError(f"private samples: got {rows[0][1]}, expected {shape}; {e}") from None
    return Kept(x_N, np.array([row[3] for row in rows], np.int64), np.array([row[0] for row in rows], np.uint64))


def expired(db: Database, node: NodeId, keep: int, since: float) -> SampleSet | None:
    """The samples that retention lets go: all but the newest `keep` (0: no limit), and those from before `since`."""
    rows = db.all("SELECT counter, at FROM samples ORDER BY counter DESC")
    gone = [c for i, (c, at) in enumerate(rows) if (keep and i >= keep) or at < since]
    return SampleSet.of(node, np.array(sorted(gone), np.uint64)) if gone else None


def date(db: Database, before: float, now: float) -> None:
    """Samples from before `before`, when no time was known yet, or from after `now`, count as from `now`."""
    db.execute("UPDATE samples SET at = ? WHERE at < ? OR at > ?", (now, before, now))


def drop(db: Database, samples: SampleSet) -> None:
    """Remove samples; their parcels stay known."""
    for counter_N in samples.counters:
        for counter in counter_N:
            db.execute("DELETE FROM samples WHERE counter = ?", (int(counter),))
