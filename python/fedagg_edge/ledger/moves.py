"""Which child an origin's rows come through, and moving them from one child to another at their common ancestor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.ledger import log
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.failpoints import reach
from fedagg_edge.ledger.relay import forget_rows, give_rows, of_origins
from fedagg_edge.records import Embeddings, NodeId
from fedagg_edge.wire.tensors import OWN, load_embeddings

__all__ = ["Owner", "claim", "move_in", "owner", "redirect"]


@dataclass(frozen=True, slots=True)
class Owner:
    """The link that an origin's rows belong to, since the move number `fence`."""

    child: NodeId
    fence: int


def owner(db: Database, origin: NodeId) -> Owner | None:
    """Who owns `origin`; None before its first row."""
    row = db.one("SELECT child, fence FROM owners WHERE origin = ?", (origin,))
    return None if row is None else Owner(*row)


def claim(db: Database, child: NodeId, origins: Iterable[NodeId], fence: int) -> None:
    """Make `child` the owner; raise RemoteProtocolError if a newer fence gave an origin to somebody else."""
    for origin in origins:
        known = owner(db, origin)
        if known is not None and (known.fence > fence or (known.fence == fence and known.child != child)):
            raise RemoteProtocolError(
                f"origin {origin}: got fence {fence} from {child}, it moved to {known.child} with fence {known.fence}"
            )
        db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?)", (origin, child, fence))


def move_in(db: Database, child: NodeId, rows: Embeddings, fence: int, *, node: NodeId, now: float) -> log.Position:
    """Origins of `rows` belong to `child` from now on; it gets the rows, every other link forgets them.

    The old link's rows stay readable under its older digests, for knowledge that is on its way, until it is compacted.
    """
    with db.savepoint():
        claim(db, child, rows.samples.origins, fence)
        log.open_link(db, child, fence)
        give_rows(db, child, rows, now)
        reach("moves.move-in.after-append")
        for other in log.links(db):
            if other not in (child, node):
                late = of_origins(log.fold(db, other).embeddings(), rows.samples.origins)
                give_rows(db, child, late, now)
                forget_rows(db, other, late.samples, now)
        reach("moves.move-in.after-release")
        return log.head(db, child)


def redirect(db: Database, child: NodeId, payload: bytes, now: float) -> bool:
    """After an append through `child`: rows whose origin moved away go to the owner and leave `child` again.

    So what an old parent relays late is neither lost nor counted twice. An origin seen first becomes the child's.
    """
    rows = load_embeddings(payload, OWN)
    away: dict[NodeId, list[NodeId]] = {}
    for origin in rows.samples.origins:
        known = owner(db, origin)
        if known is None:
            claim(db, child, (origin,), 0)
        elif known.child != child:
            away.setdefault(known.child, []).append(origin)
    for other, origins in away.items():
        late = of_origins(rows, origins)
        give_rows(db, other, late, now)
        reach("moves.redirect.after-append")
        forget_rows(db, child, late.samples, now)
    return bool(away)
