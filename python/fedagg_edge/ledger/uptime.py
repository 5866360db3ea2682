"""How long this node has run while its ledger was there: a clock that no setting of the wall clock moves.

A board without a battery begins at a date of its own and jumps to the real one when the network is there, by minutes or
by decades; what waits for the parent has not waited longer for that. So the machine's clock since its start is added
up instead: after a restart, which shows as a reading below the last one, from zero. What ran between the last look and
a restart is missed, and time without power does not count: an age is at most the real one, as the bound refuses.
"""

from __future__ import annotations

import msgspec

from fedagg_edge.ledger.database import Database

__all__ = ["count"]

_FACT = "uptime"


def count(db: Database, reading: float) -> float:
    """Seconds that were counted until now, when the machine's clock shows `reading`; kept for the next look."""
    row = db.one("SELECT value FROM facts WHERE key = ?", (_FACT,))
    last, total = (reading, 0.0) if row is None else msgspec.msgpack.decode(row[0], type=tuple[float, float])
    total += reading - last if reading >= last else reading
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_FACT, msgspec.msgpack.encode((reading, total))))
    return total
