"""Batches of this node for its parent, until the parent has committed them; and the child's end of the own log.

A batch is put once, keeps its key for ever and leaves only when the parent has named the entry that it became. The
outbox is bounded in bytes and age: at the bound new samples are refused, nothing is dropped. `now` and `at` here are
seconds that this node has run (uptime.py), which no setting of the clock moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from fedagg_edge.errors import OutboxFull, RemoteProtocolError
from fedagg_edge.failpoints import reach
from fedagg_edge.ledger import log, numbering, payloads
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.fold import EMPTY, Fold, only, pick, pieces, pieces_of, union, without
from fedagg_edge.ledger.log import Kind, LogEntry, Position
from fedagg_edge.records import Embeddings, NodeId, SampleSet
from fedagg_edge.wire.tensors import OWN, dump_embeddings, dump_samples, load_embeddings, load_samples

__all__ = [
    "Batch",
    "Bounds",
    "accept",
    "aside",
    "batch_bytes",
    "expected",
    "follow",
    "forget_late",
    "forgotten",
    "held",
    "join",
    "keep_version",
    "pending",
    "put_forget",
    "put_rows",
    "rebase",
    "set_aside",
    "split",
]


_FEW = 16  # origins
_VERSIONS = "outbox.versions/"  # facts, by key: what a batch named before rows of it were erased
_ASIDE = "outbox.aside.keys"  # a fact: batches that the parent does not take, but those behind them
_GONE = "outbox.gone"  # a fact: samples that were to be forgotten when this node changed parents


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait: payload bytes, and seconds that this node has run since the oldest batch was put (None: any
    age). What is set aside does not age: it waits for the parent to take more, not to be reached."""

    size: int = 256 << 20
    age: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that waits; `payload` is None when it is over the bytes that were asked for."""

    key: int
    kind: Kind
    rows: int
    size: int
    payload: bytes | None
    at: float


def put_rows(db: Database, node: NodeId, embeddings: Embeddings, bounds: Bounds, now: float) -> int | None:
    """Put the rows that the parent neither has nor will get; the last batch's key, None if there are none.

    Raises OutboxFull, and DataError for a sample with other content than before.
    """
    log.fold(db, node).check(embeddings)
    new = without(embeddings.samples, expected(db, node, embeddings.samples.origins))
    if not len(new):
        return None
    batches = [(dump_embeddings(rows), rows.samples) for rows in pieces(only(embeddings, new))]
    _check_room(db, sum(len(payload) for payload, _ in batches), bounds, now)
    return [_put(db, Kind.APPEND, payload, samples, now) for payload, samples in batches][-1]


def put_forget(db: Database, node: NodeId, samples: SampleSet, now: float) -> int | None:
    """Put what forgets those of `samples` that the parent has or will get; the last batch's key, None if there are
    none. It is never refused for room."""
    known = expected(db, node, samples.origins)
    gone = without(samples, without(samples, known))
    if not len(gone):
        return None
    return [_put(db, Kind.FORGET, dump_samples(part), part, now) for part in pieces_of(gone)][-1]


def _put(db: Database, kind: Kind, payload: bytes, samples: SampleSet, now: float) -> int:
    stored = payloads.keep(db, payload)
    reach("outbox.put.after-payload")
    values = (int(kind), len(samples), payloads.content_of(payload), stored, dump_samples(samples), now)
    sql = "INSERT INTO outbox (kind, rows, content, payload, ids, at) VALUES (?, ?, ?, ?, ?, ?)"
    key = db.execute(sql, values).lastrowid
    reach("outbox.put.after-batch")
    return int(key or 0)


def _check_room(db: Database, size: int, bounds: Bounds, now: float) -> None:
    (waiting,) = db.one("SELECT coalesce(sum(size), 0) FROM outbox JOIN payloads ON payloads.id = payload")
    ages = "SELECT min(at) FROM outbox WHERE key NOT IN (SELECT value FROM json_each(?))"
    (oldest,) = db.one(ages, (msgspec.json.encode(aside(db)).decode(),))
    if waiting + size > bounds.size:
        raise OutboxFull(
            f"outbox: got {size} bytes more, {waiting} of {bounds.size} wait for the parent; "
            "new samples are refused until it can be reached, or raise the bound"
        )
    if bounds.age is not None and oldest is not None and now - oldest > bounds.age:
        raise OutboxFull(
            f"outbox: the oldest batch waits for {now - oldest:.0f} s, the bound is {bounds.age:.0f} s; "
            "new samples are refused until the parent can be reached"
        )


def set_aside(db: Database, keys: Iterable[int]) -> None:
    """Note which batches the parent does not take as they are."""
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_ASIDE, msgspec.msgpack.encode(list(keys))))


def aside(db: Database) -> list[int]:
    """The keys of these."""
    row = db.one("SELECT value FROM facts WHERE key = ?", (_ASIDE,))
    return [] if row is None else msgspec.msgpack.decode(row[0], type=list[int])


def expected(db: Database, node: NodeId, origins: tuple[NodeId, ...] | None = None) -> SampleSet:
    """The set, or what is in it of these origins, that the parent will have once it has committed all that waits."""
    known = log.fold(db, node).samples()
    known = known if origins is None else pick(known, origins)
    for kind, ids in _waiting(db, origins):
        batch = load_samples(ids, OWN)
        batch = batch if origins is None else pick(batch, origins)
        known = without(known, batch) if kind == Kind.FORGET else union(known, batch)
    return known


def _waiting(db: Database, origins: tuple[NodeId, ...] | None) -> list[tuple[int, bytes]]:
    """Kind and ids of the batches that may have samples of these origins."""
    if origins is None or len(origins) > _FEW:
        return db.all("SELECT kind, ids FROM outbox ORDER BY key")
    # an edge of a thousand devices may have a thousand batches, of which one concerns this device
    named = " OR ".join(["instr(ids, ?) > 0"] * len(origins)) or "0"
    return db.all(f"SELECT kind, ids FROM outbox WHERE {named} ORDER BY key", tuple(o.encode() for o in origins))


def pending(db: Database, limit: int = 256, inline: int = log.INLINE) -> list[Batch]:
    """Up to `limit` batches in the order they must be committed in."""
    found = db.all(
        "SELECT key, kind, rows, size, CASE WHEN size <= ? THEN bytes END, at"
        " FROM outbox JOIN payloads ON payloads.id = payload ORDER BY key LIMIT ?",
        (inline, limit),
    )
    return [Batch(key, Kind(kind), *rest) for key, kind, *rest in found]


def batch_bytes(db: Database, key: int, start: int = 0, size: int | None = None) -> bytes:
    """Bytes of the payload of batch `key`; empty if it is committed."""
    row = db.one("SELECT payload FROM outbox WHERE key = ?", (key,))
    return b"" if row is None else payloads.read(db, row[0], start, size)


def split(db: Database, rows: int, size: int) -> None:
    """Cut the batches over `rows` rows or `size` bytes, as a parent takes no longer entry: into several, down to one
    row each. They and those behind them get new keys, as the order is that of the keys and none is used twice.

    A batch that the parent has committed all the same, under its old key, comes back as an entry of the log; then its
    parts are rows that the log has, which changes nothing.
    """
    first = db.one(
        "SELECT min(key) FROM outbox JOIN payloads ON payloads.id = payload WHERE rows > ? OR (size > ? AND rows > 1)",
        (rows, size),
    )[0]
    if first is None:
        return
    waiting = db.all("SELECT key, kind, payload, at FROM outbox WHERE key >= ? ORDER BY key", (first,))
    for key, kind, stored, at in waiting:
        payload = payloads.read(db, stored)
        for part, samples in _cut(Kind(kind), payload, rows, size):
            _put(db, Kind(kind), part, samples, at)
        _drop(db, key, stored)


def _drop(db: Database, key: int, stored: int) -> None:
    db.execute("DELETE FROM outbox WHERE key = ?", (key,))
    db.execute("DELETE FROM facts WHERE key = ?", (f"{_VERSIONS}{key}",))
    payloads.drop_unused(db, stored)


def keep_version(db: Database, key: int, ids: bytes) -> None:
    """Remember what batch `key` named until now, as rows of it are about to be erased: it may be on its way so."""
    fact = f"{_VERSIONS}{key}"
    row = db.one("SELECT value FROM facts WHERE key = ?", (fact,))
    known = [] if row is None else msgspec.msgpack.decode(row[0], type=list[bytes])
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (fact, msgspec.msgpack.encode([*known, ids])))


def _versions(db: Database, key: int, ids: bytes) -> list[bytes]:
    """What batch `key` named when it was put, and each time before rows of it were erased."""
    row = db.one("SELECT value FROM facts WHERE key = ?", (f"{_VERSIONS}{key}",))
    later = [] if row is None else msgspec.msgpack.decode(row[0], type=list[bytes])
    return [ids, *(other for other in later if other != ids)]


def _cut(kind: Kind, payload: bytes, rows: int, size: int) -> list[tuple[bytes, SampleSet]]:
    """The payload in parts of at most `rows` rows and `size` bytes, or of one row, with the samples of each."""
    step = rows
    found: list[tuple[bytes, SampleSet]] = []
    while not found or (step > 1 and max(len(part) for part, _ in found) > size):
        step = step if not found else max(1, step // 2)
        if kind is Kind.FORGET:
            found = [(dump_samples(part), part) for part in pieces_of(load_samples(payload, OWN), step)]
        else:
            parts = pieces(load_embeddings(payload, OWN), step)
            found = [(dump_embeddings(part), part.samples) for part in parts]
    return found


def accept(db: Database, node: NodeId, key: int, entry: int, digest: str) -> Position:
    """The parent has committed batch `key` as `entry`, which left the set `digest`; the own log's head.

    The same answer again changes nothing. Raises RemoteProtocolError if entries before it are missing here, or if the
    parent's set is not the one that the batch leaves here.
    """
    with db.savepoint():
        row = db.one("SELECT kind, rows, content, payload, ids FROM outbox WHERE key = ?", (key,))
        now = log.head(db, node)
        if row is None:
            return now
        if entry <= now.entry:
            _check_told(db, node, entry, digest)
        elif entry > now.entry + 1:
            raise log.refuse_gap(node, entry, now.entry + 1)
        else:
            _commit(db, node, key, row, digest)
        _drop(db, key, row[3])
        reach("outbox.accept.after-delete")
        return log.head(db, node)


def _commit(db: Database, node: NodeId, key: int, row: tuple[int, int, bytes, int, bytes], digest: str) -> None:
    kind, rows, content, stored, ids = row
    payload = payloads.read(db, stored)
    reduced = payloads.content_of(payload) != content
    log.open_link(db, node)
    log.insert(
        db, node, Kind(kind), payload, key=key, by="child", told=digest, rows=rows, content=content,
        ids=_committed(db, node, _versions(db, key, ids), digest) if reduced else None,
    )  # fmt: skip
    _check_set(db, node, digest)


def _committed(db: Database, node: NodeId, versions: Iterable[bytes], digest: str) -> bytes | None:
    """Which version of a batch the parent committed, if that was before the last rows of it were forgotten here; the
    digest tells."""
    known = log.fold(db, node).samples()
    return next((ids for ids in versions if union(known, load_samples(ids, OWN)).digest == digest), None)


def follow(db: Database, node: NodeId, news: Iterable[LogEntry]) -> Position:
    """Apply entries that the parent has committed; those that are known change nothing. The own log's head.

    Raises RemoteProtocolError for a gap, for another set at an entry that is known, and if the last entry's set is not
    the one that the entries leave here; then nothing was applied.
    """
    with db.savepoint():
        log.open_link(db, node)
        whole = True
        last = log.head(db, node)
        for entry in news:
            if entry.number <= last.entry:
                _check_told(db, node, entry.number, entry.digest)
                continue
            if entry.number != last.entry + 1:
                raise log.refuse_gap(node, entry.number, last.entry + 1)
            if entry.payload is None:
                raise RemoteProtocolError(f"link {node}: entry {entry.number} came without its payload")
            last = log.insert(
                db, node, entry.kind, entry.payload, key=None, by="parent", told=entry.digest, rows=entry.rows
            )
            _note_numbers(db, node, entry)
            whole = whole and (entry.kind is not Kind.APPEND or _rows(entry) == entry.rows)
            reach("outbox.follow.after-entry")
        if whole:
            _check_set(db, node, last.digest)
        return last


def _note_numbers(db: Database, node: NodeId, entry: LogEntry) -> None:
    """What this node gave in a state that it lost is named in its parent's log, forgotten samples, too."""
    if entry.key is not None:
        numbering.raise_keys(db, entry.key)
    payload = entry.payload or b""
    append = entry.kind is Kind.APPEND
    named = load_embeddings(payload, OWN).samples if append else log.removed(entry.kind, payload)
    if node in named.origins:
        numbering.raise_counters(db, int(named.counters[named.origins.index(node)].max()))


def join(db: Database, node: NodeId) -> None:
    """All that the parent had of this node when it said hello is in the own log: from now on batches may be sent.

    Those that were put before get new keys: one of a state that was lost may have had theirs, and none of them was
    ever asked for. Again it changes nothing.
    """
    with db.savepoint():
        if not numbering.is_fresh(db):
            return
        if log.head(db, node).entry:
            for (key,) in db.all("SELECT key FROM outbox ORDER BY key"):
                _put_again(db, key)
                reach("outbox.join.after-batch")
        numbering.end_fresh(db, log.head(db, node).entry)
        reach("outbox.join.after-fact")


def _put_again(db: Database, key: int) -> None:
    """Batch `key` as it is under a new key, behind all others."""
    columns = "kind, rows, content, payload, ids, at"
    sql = f"INSERT INTO outbox ({columns}) SELECT {columns} FROM outbox WHERE key = ?"
    new = db.execute(sql, (key,)).lastrowid
    db.execute("UPDATE facts SET key = ? WHERE key = ?", (f"{_VERSIONS}{new}", f"{_VERSIONS}{key}"))
    db.execute("DELETE FROM outbox WHERE key = ?", (key,))


def _rows(entry: LogEntry) -> int:
    return len(load_embeddings(entry.payload or b"", OWN))


def _check_told(db: Database, node: NodeId, entry: int, digest: str) -> None:
    row = db.one("SELECT digest FROM entries WHERE child = ? AND number = ?", (node, entry))
    if row is None or row[0] != digest:
        known = "nothing" if row is None else row[0][:12]
        raise RemoteProtocolError(f"link {node}: got set {digest[:12]} at entry {entry}, this node has {known} there")


def _check_set(db: Database, node: NodeId, digest: str) -> None:
    own = log.fold(db, node).samples().digest
    if own != digest and not _reduced_before(db, node):
        raise RemoteProtocolError(f"link {node}: the parent names set {digest[:12]}, its entries leave {own[:12]} here")


def _reduced_before(db: Database, node: NodeId) -> bool:
    """Whether an entry before came without all of its rows, so that no set can be told since."""
    state = log.fold(db, node)
    rows = db.all("SELECT number, digest FROM entries WHERE child = ? ORDER BY number DESC LIMIT 2", (node,))
    return len(rows) > 1 and state.samples(rows[1][0]).digest != rows[1][1]


def rebase(db: Database, node: NodeId, news: Iterable[LogEntry], fence: int, now: float) -> Position:
    """Take a new parent's log in place of the old one: its entries from 1 on. The own log's head.

    Rows that the old parent had and the new one lacks, those whose labels it lacks, and those that wait, are put into
    the outbox under new keys: so nothing that was acknowledged is lost however late the old parent was. What the new
    one has and this node had forgotten is forgotten there, and what its log forgets is not put: an order to forget may
    come while a node is on its way. A `fence` that is not newer changes nothing.
    """
    with db.savepoint():
        log.open_link(db, node)
        if db.one("SELECT fence FROM links WHERE child = ?", (node,))[0] >= fence:
            return log.head(db, node)
        mine = held(db, node)
        gone = forgotten(db)
        _clear(db, node)
        reach("outbox.rebase.after-clear")
        db.execute("UPDATE links SET fence = ? WHERE child = ?", (fence, node))
        news = list(news)
        last = follow(db, node, [_labelled(entry, mine) for entry in news])
        reach("outbox.rebase.after-log")
        theirs = log.fold(db, node).embeddings()
        bare = only(theirs, _unlabelled(news, mine)).samples
        missing = union(without(mine.samples, log.fold(db, node).samples()), bare)
        missing = without(missing, _forgets(news))
        if len(missing):
            for rows in pieces(only(mine, missing)):
                _put(db, Kind.APPEND, dump_embeddings(rows), rows.samples, now)
        reach("outbox.rebase.after-rows")
        fresh = numbering.is_fresh(db)
        if not fresh:  # else what it lacks it has lost, not forgotten
            gone = union(gone, without(theirs.samples, mine.samples))
        forget_late(db, node, gone, now)
        # the whole log is here, and what waits was put behind it
        numbering.end_fresh(db, last.entry if fresh else 0)
        return last


def _forgets(news: Iterable[LogEntry]) -> SampleSet:
    """The samples that these entries forget; such a one is gone for good."""
    gone = EMPTY
    for entry in news:
        if entry.kind is Kind.FORGET:
            gone = union(gone, load_samples(entry.payload or b"", OWN))
    return gone


def forget_late(db: Database, node: NodeId, gone: SampleSet, now: float) -> SampleSet:
    """Forget at the parent those of `gone` that it has; the others when they get there, late, by the old parent.

    All that are to be forgotten so, those of calls before included.
    """
    row = db.one("SELECT value FROM facts WHERE key = ?", (_GONE,))
    everything = gone if row is None else union(load_samples(row[0], OWN), gone)
    if len(gone):
        db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_GONE, dump_samples(everything)))
    if len(everything):
        put_forget(db, node, everything, now)
    return everything


def forgotten(db: Database) -> SampleSet:
    """The samples that wait to be forgotten by the parent."""
    gone = EMPTY
    for (ids,) in db.all("SELECT ids FROM outbox WHERE kind = ?", (int(Kind.FORGET),)):
        gone = union(gone, load_samples(ids, OWN))
    return gone


def _unlabelled(news: Iterable[LogEntry], mine: Embeddings) -> SampleSet:
    """Samples that this node has with a label and the parent without one: it never went further than the old parent."""
    found = EMPTY
    for entry in news:
        if entry.kind is Kind.APPEND:
            theirs = load_embeddings(entry.payload or b"", OWN)
            rows = only(mine, theirs.samples.only(theirs.label_N < 0))
            found = union(found, rows.samples.only(rows.label_N >= 0))
    return found


def _labelled(entry: LogEntry, mine: Embeddings) -> LogEntry:
    """The entry with the labels that this node knows and its parent does not."""
    bare = _unlabelled((entry,), mine)
    if not len(bare):
        return entry
    rows = Fold()
    rows.add(1, load_embeddings(entry.payload or b"", OWN))
    rows.add(1, only(mine, bare))
    return replace(entry, payload=dump_embeddings(rows.embeddings()))


def held(db: Database, node: NodeId) -> Embeddings:
    """All rows that are not erased, of the log's head and of what waits, without what waits to be forgotten."""
    wanted = expected(db, node)
    rows = Fold()
    known = log.fold(db, node).embeddings()
    if len(known):
        rows.add(1, known)
    for kind, stored in db.all("SELECT kind, payload FROM outbox ORDER BY key"):
        if kind == Kind.APPEND:
            rows.add(1, load_embeddings(payloads.read(db, stored), OWN))
    return only(rows.embeddings(), wanted)


def _clear(db: Database, node: NodeId) -> None:
    stored = db.all("SELECT payload FROM entries WHERE child = ? UNION SELECT payload FROM outbox", (node,))
    db.execute("DELETE FROM entries WHERE child = ?", (node,))
    db.execute("DELETE FROM outbox")
    db.execute("DELETE FROM facts WHERE key LIKE ?", (f"{_VERSIONS}%",))
    db.execute("UPDATE links SET head = 0, digest = ?, epoch = epoch + 1 WHERE child = ?", (EMPTY.digest, node))
    for (number,) in stored:
        payloads.drop_unused(db, number)
