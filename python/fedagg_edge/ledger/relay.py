"""From the children's logs into the outbox for the own parent, and from the parent's log down to the children."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fedagg_edge.failpoints import reach
from fedagg_edge.ledger import log, nodes, outbox
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.fold import EMPTY, Fold, only, pieces, without
from fedagg_edge.ledger.log import Kind, LogEntry
from fedagg_edge.ledger.outbox import Bounds
from fedagg_edge.records import Embeddings, NodeId, SampleSet
from fedagg_edge.wire.tensors import (
    OWN,
    Release,
    dump_embeddings,
    dump_release,
    dump_samples,
    load_embeddings,
    load_release,
    load_samples,
)

__all__ = [
    "down",
    "forget_rows",
    "give_rows",
    "held_back",
    "nowhere",
    "of_origins",
    "release_rows",
    "up",
    "with_labels",
]


def held_back(embeddings: Embeddings) -> Embeddings:
    """The rows without their labels."""
    return Embeddings(embeddings.samples, embeddings.code_NB, np.full(len(embeddings), -1, np.int64))


def up(
    db: Database, node: NodeId, kind: Kind, payload: bytes, *, hold_labels: bool, bounds: Bounds, now: float
) -> int | None:
    """Put into the outbox what a child's entry means for the parent; the batch's key, None if it means nothing.

    Rows that the parent has or will get do not go again; a sample is forgotten above once no child has it, and what a
    link released is with another child or came down from the parent.
    """
    if kind is Kind.RELEASE:
        return None
    if kind is Kind.APPEND:
        rows = load_embeddings(payload, OWN)
        return outbox.put_rows(db, node, held_back(rows) if hold_labels else rows, bounds, now)
    return outbox.put_forget(db, node, nowhere(db, node, load_samples(payload, OWN)), now)


def nowhere(db: Database, node: NodeId, samples: SampleSet) -> SampleSet:
    """Those of `samples` that no child has."""
    for child in log.links(db):
        if child != node:
            samples = without(samples, log.fold(db, child).samples())
    return samples


def down(db: Database, node: NodeId, news: Iterable[LogEntry], now: float, late: SampleSet = EMPTY) -> None:
    """Hand entries that came from the parent to the children that they concern: new rows to their origin's owner,
    forgotten and released samples to every child that has them. A child that moved away leaves with its release.
    Rows of `late` were forgotten here since: no child gets them back."""
    children = [child for child in log.links(db) if child != node]
    if not children:
        return
    owner = {o: child for o, child in db.all("SELECT origin, child FROM owners") if child in children}
    for entry in news:
        if entry.kind is Kind.RELEASE:
            release = load_release(entry.payload or b"", OWN)
            if release.mover in children and release.fence > log.fence(db, release.mover):
                nodes.leave(db, release.mover)  # before its log says so: it must never follow that
                reach("relay.down.after-leave")
                log.open_link(db, release.mover, release.fence)
            for child in children:
                release_rows(db, child, release, now)
            continue
        if entry.kind is Kind.FORGET:
            gone = load_samples(entry.payload or b"", OWN)
            for child in children:
                forget_rows(db, child, gone, now)
            continue
        rows = load_embeddings(entry.payload or b"", OWN)
        rows = only(rows, without(rows.samples, late))
        for child in children:
            names = [o for o in rows.samples.origins if owner.get(o) == child]
            if names:
                give_rows(db, child, of_origins(rows, names), now)


def of_origins(embeddings: Embeddings, names: Iterable[NodeId]) -> Embeddings:
    """The rows of these origins."""
    wanted = set(names)
    kept = [i for i, o in enumerate(embeddings.samples.origins) if o in wanted]
    origins, counters = embeddings.samples.origins, embeddings.samples.counters
    return only(embeddings, SampleSet(tuple(origins[i] for i in kept), tuple(counters[i] for i in kept)))


def give_rows(db: Database, child: NodeId, rows: Embeddings, now: float) -> None:
    """The parent's end appends those of `rows` that the link lacks."""
    if not len(rows):
        return
    log.fold(db, child).check(rows)
    new = without(rows.samples, log.fold(db, child).samples())
    if len(new):
        for part in pieces(only(rows, new)):
            log.append(db, child, Kind.APPEND, dump_embeddings(part), key=None, by="parent", at=now)


def forget_rows(db: Database, child: NodeId, gone: SampleSet, now: float) -> int:
    """The parent's end forgets those of `gone` that the link has; how many."""
    known = log.fold(db, child).samples()
    mine = without(gone, without(gone, known))
    if len(mine):
        log.append(db, child, Kind.FORGET, dump_samples(mine), key=None, by="parent", at=now)
    return len(mine)


def release_rows(db: Database, child: NodeId, release: Release, now: float) -> int:
    """The parent's end releases those samples that the link has; how many."""
    known = log.fold(db, child).samples()
    mine = without(release.samples, without(release.samples, known))
    if len(mine):
        payload = dump_release(release._replace(samples=mine))
        log.append(db, child, Kind.RELEASE, payload, key=None, by="parent", at=now)
    return len(mine)


def with_labels(db: Database, node: NodeId, rows: Embeddings) -> Embeddings:
    """The rows of the own log with the labels that were held back from the parent, as the children gave them."""
    if not (rows.label_N < 0).any():
        return rows
    filled = Fold()
    filled.add(1, rows)
    for child in log.links(db):
        if child != node:
            filled.add(1, only(log.fold(db, child).embeddings(), rows.samples))
    return filled.embeddings()
