"""Making rows unreadable for good: payloads are rewritten without them, freed pages are zeroed, the WAL is emptied."""

from __future__ import annotations

import msgspec

from fedagg_edge.failpoints import reach
from fedagg_edge.ledger import knowledge, log, outbox, payloads
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.fold import Fold, only, parts_of, without
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import NodeId, SampleSet
from fedagg_edge.wire.tensors import OWN, dump_embeddings, dump_samples, load_embeddings

__all__ = ["Receipt", "erase_everywhere", "erase_knowledge", "erase_rows", "erase_waiting", "of_origin"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What `forget` removed at one node. `digests`: of each link's set afterwards; `scrubbed`: no file of the ledger
    holds the bytes any more (False: another process was reading, the next scrub does it)."""

    node: str
    origin: str
    rows: int
    knowledge: int
    freed: int  # bytes of payload
    digests: dict[str, str]
    at: float
    scrubbed: bool


def erase_rows(db: Database, child: NodeId, gone: SampleSet) -> int:
    """Rewrite the link's payloads without the rows of `gone`; the bytes freed."""
    freed = 0
    for number, stored, ids in db.all(
        "SELECT number, payload, ids FROM entries WHERE child = ? AND kind = ?", (child, int(Kind.APPEND))
    ):
        new = _reduced(db, stored, gone)
        if new is not None:
            values = (new[0], ids or new[1], child, number)
            db.execute("UPDATE entries SET payload = ?, ids = ? WHERE child = ? AND number = ?", values)
            reach("erase.rows.after-entry")
            freed += payloads.drop_unused(db, stored)
    db.execute("UPDATE links SET epoch = epoch + 1 WHERE child = ?", (child,))
    db.touch(("fold", child))
    return freed


def erase_waiting(db: Database, gone: SampleSet) -> int:
    """Rewrite the batches that wait without the rows of `gone`; keys and ids stay, as a batch may be on its way."""
    freed = 0
    for key, stored in db.all("SELECT key, payload FROM outbox WHERE kind = ?", (int(Kind.APPEND),)):
        new = _reduced(db, stored, gone)
        if new is not None:
            outbox.keep_version(db, key, new[1])
            left = len(load_embeddings(payloads.read(db, new[0]), OWN))  # the parent counts the rows that come
            db.execute("UPDATE outbox SET payload = ?, rows = ? WHERE key = ?", (new[0], left, key))
            freed += payloads.drop_unused(db, stored)
    return freed


def _reduced(db: Database, stored: int, gone: SampleSet) -> tuple[int, bytes] | None:
    """(the payload without the rows of `gone`, its ids before); None if it has none of them."""
    rows = load_embeddings(payloads.read(db, stored), OWN)
    left = without(rows.samples, gone)
    if len(left) == len(rows):
        return None
    return payloads.keep(db, dump_embeddings(only(rows, left))), dump_samples(rows.samples)


def erase_everywhere(db: Database, gone: SampleSet) -> int:
    """Erase the rows of `gone` on all links and in the outbox; the bytes freed."""
    return sum(erase_rows(db, child, gone) for child in log.links(db)) + erase_waiting(db, gone)


def of_origin(db: Database, origin: NodeId) -> SampleSet:
    """Every sample of `origin` that any log or the outbox ever named and whose row is not erased."""
    state = Fold()
    tables = "SELECT payload FROM entries WHERE kind = ?1 UNION SELECT payload FROM outbox WHERE kind = ?1"
    for (stored,) in db.all(tables, (int(Kind.APPEND),)):
        rows = load_embeddings(payloads.read(db, stored), OWN)
        if origin in rows.samples.origins:
            mine = SampleSet.of(origin, rows.samples.counters[rows.samples.origins.index(origin)])
            state.add(1, only(rows, mine))
    return state.samples()


def erase_knowledge(db: Database, node: NodeId, origin: NodeId) -> int:
    """Erase what knowledge says about rows of `origin` at `node`: all of it on the origin's own link, elsewhere those
    rows are set to zero and the others stay in their places. Versions stay taken. How many records were changed."""
    changed = 0
    for child, digest in db.all("SELECT DISTINCT child, digest FROM knowledge WHERE logits IS NOT NULL"):
        named = None if child == origin else _set_of(db, child, digest)
        unknown = named is None and child == node  # a former parent's, or its entry is on the way: it comes again then
        if child == origin or unknown or (named is not None and named.digest != digest):  # rows not to be told apart
            done = db.execute("UPDATE knowledge SET logits = NULL WHERE child = ? AND digest = ?", (child, digest))
            changed += done.rowcount
        elif named is not None and origin in named.origins:
            changed += knowledge.blank(db, child, digest, dict(parts_of(named))[origin])
    return changed


def _set_of(db: Database, child: NodeId, digest: str) -> SampleSet | None:
    """The set that knowledge names, as far as its ids are here; None if no entry left it."""
    row = db.one("SELECT max(number) FROM entries WHERE child = ? AND digest = ?", (child, digest))
    return None if row[0] is None else log.fold(db, child).samples(row[0])
