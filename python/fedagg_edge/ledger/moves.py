"""Which child an origin's rows come through, and moving them from one child to another.

A move goes up to the root: the new parent asks its own parent to adopt the node, and so on; the root gives the rows to
the link that they belong to now and releases them on the one before, and each parent on the way down does the same. The
fence, the move's number at the node that moves, decides between two moves, whichever arrives first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.failpoints import reach
from fedagg_edge.ledger import log, nodes, notices, payloads
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.fold import EMPTY, Fold, pick, pieces_of, union, without
from fedagg_edge.ledger.relay import give_rows, of_origins, release_rows
from fedagg_edge.records import Embeddings, NodeId, SampleSet
from fedagg_edge.wire.tensors import OWN, Release, dump_samples, load_embeddings, load_samples

__all__ = [
    "Adoption",
    "Owner",
    "adoption",
    "claim",
    "move_in",
    "overtaken",
    "owner",
    "redirect",
    "settle",
    "waiting",
    "want",
]

_PREFIX = "adoption/"


@dataclass(frozen=True, slots=True)
class Owner:
    """The link that an origin's rows belong to, since the move number `fence`."""

    child: NodeId
    fence: int


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """A node that moved to below `child`. `head`: the entry of the child's log up to which its rows are there, None
    while this parent waits for its own; `refused`: a newer move of the node was known above; `more`: some of its
    origins have not come yet; `former`: the parent that it had, "" if nobody has said."""

    node: NodeId
    child: NodeId
    origins: tuple[NodeId, ...]
    fence: int
    head: int | None = None
    refused: bool = False
    more: bool = False
    former: str = ""


def adoption(db: Database, node: NodeId) -> Adoption | None:
    """The newest move of `node` that was asked for here."""
    row = db.one("SELECT value FROM facts WHERE key = ?", (_PREFIX + node,))
    return None if row is None else msgspec.msgpack.decode(row[0], type=Adoption)


def want(db: Database, adopted: Adoption) -> None:
    """Note a move that was asked for, or how it went."""
    values = (_PREFIX + adopted.node, msgspec.msgpack.encode(adopted))
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)
    reach("moves.want.after-note")


def waiting(db: Database) -> list[Adoption]:
    """The moves that the own parent has to be asked about."""
    rows = db.all("SELECT value FROM facts WHERE key > ?1 AND key < ?1 || x'7f' ORDER BY key", (_PREFIX,))
    found = [msgspec.msgpack.decode(value, type=Adoption) for (value,) in rows]
    return [a for a in found if a.head is None and not a.refused and not a.more]


def settle(db: Database, asked: Adoption, *, node: NodeId, now: float) -> Adoption:
    """Take the node in: all rows of its origins here go to its link. If it moved to this very parent, it is a child."""
    with db.savepoint():
        everything, origins = Fold(), _along(db, asked, node)
        for link in log.links(db):
            rows = of_origins(log.fold(db, link).embeddings(), origins)
            if len(rows):
                everything.add(1, rows)
        at = move_in(
            db, asked.child, everything.embeddings(), asked.fence, node=node, now=now, mover=asked.node,
            origins=origins,
        )  # fmt: skip
        reach("moves.settle.after-rows")
        at = _forget_again(db, asked.child, origins, now) or at
        if asked.child == asked.node:
            nodes.join(db, asked.node)
            notices.drop(db, asked.node, "move")  # it was told to go when it was here before
        done = msgspec.structs.replace(asked, head=at.entry)
        want(db, done)
        return done


def _forget_again(db: Database, child: NodeId, origins: Sequence[NodeId], now: float) -> log.Position | None:
    """Say on the link, too, what parents have forgotten of these origins: a node that was away then, and comes to
    another parent, would send it again. The link's head if there was anything to say."""
    gone = without(_forgotten(db, origins), _forgotten(db, origins, child))
    at = None
    if len(gone):
        for part in pieces_of(gone):
            at = log.append(db, child, log.Kind.FORGET, dump_samples(part), key=None, by="parent", at=now)
    return at


def _forgotten(db: Database, origins: Sequence[NodeId], child: NodeId | None = None) -> SampleSet:
    """The samples of these origins that parents' entries have forgotten, on the link of `child` or on any."""
    where = "kind = ?1 AND by = 'parent' AND (?2 IS NULL OR child = ?2)"
    gone = EMPTY
    for (stored,) in db.all(f"SELECT payload FROM entries WHERE {where}", (int(log.Kind.FORGET), child)):
        gone = union(gone, pick(load_samples(payloads.read(db, stored), OWN), set(origins)))
    return gone


def overtaken(db: Database, release: Release) -> None:
    """The node has moved on since: what was asked for before is no longer wanted."""
    known = adoption(db, release.mover)
    if known is not None and known.head is None and known.fence < release.fence:
        want(db, msgspec.structs.replace(known, refused=True))


def owner(db: Database, origin: NodeId) -> Owner | None:
    """Who owns `origin`; None before its first row."""
    row = db.one("SELECT child, fence FROM owners WHERE origin = ?", (origin,))
    return None if row is None else Owner(*row)


def claim(db: Database, child: NodeId, origins: Iterable[NodeId], fence: int, mover: NodeId | None = None) -> None:
    """Make `child` the owner; raise RemoteProtocolError if a newer fence gave an origin to somebody else.

    `mover` None: each origin itself. One that only comes along keeps the number of its own last move: two nodes'
    numbers do not compare.
    """
    for origin in origins:
        known, number = owner(db, origin), fence
        if mover not in (None, origin):
            number = 0 if known is None else known.fence
        elif known is not None and known.child != child and known.fence >= fence:
            raise RemoteProtocolError(
                f"origin {origin}: got fence {fence} from {child}, it moved to {known.child} with fence {known.fence}"
            )
        elif known is not None:
            number = max(fence, known.fence)
        db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?)", (origin, child, number))
        reach("moves.claim.after-owner")


def _along(db: Database, asked: Adoption, node: NodeId) -> tuple[NodeId, ...]:
    """Those of the origins that go with the mover. One whose rows are on another link than where the mover was has left
    it meanwhile, by a move of its own that the mover has not heard of. `node`: whose ledger this is."""
    mover, child = asked.node, asked.child
    owners = {o: owner(db, o) for o in asked.origins}
    known = {o: k for o, k in owners.items() if k is not None and o != mover}
    before, former = owner(db, mover), {child}
    if before is not None:
        former.add(before.child)
    elif (link := _link_to(db, asked, node)) is not None:
        former.add(link)
    else:  # its first move, from another link of this node or from elsewhere: where it was, those tell
        former |= {k.child for k in known.values() if k.fence == 0}  # that never moved by themselves
        if len(former) == 1 and child != mover:
            return tuple(owners)
    here = {link: log.fold(db, link).samples().origins for link in {k.child for k in known.values()} - former}
    left = {o for o, k in known.items() if o in here.get(k.child, ())}
    return tuple(o for o in owners if o not in left)


def _link_to(db: Database, asked: Adoption, node: NodeId) -> NodeId | None:
    """The link that the mover was on, by the name of the parent that it had; None if that is none of this node's
    children, nor below one as far as is known here."""
    if not asked.former or asked.former == node:
        return asked.node if asked.former else None
    former = NodeId(asked.former)
    known = owner(db, former)
    return known.child if known is not None else former if nodes.node(db, former) is not None else None


def move_in(
    db: Database,
    child: NodeId,
    rows: Embeddings,
    fence: int,
    *,
    node: NodeId,
    now: float,
    mover: NodeId | None = None,
    origins: Sequence[NodeId] = (),
) -> log.Position:
    """`origins`, and those of `rows`, belong to `child` from now on; it gets the rows, every other link releases them.

    `mover`: the node that changed its parent; the first origin if not given. The old link's rows stay readable under
    its older digests, for knowledge that is on its way, until the origin is forgotten.
    """
    origins = tuple(dict.fromkeys((*rows.samples.origins, *origins)))
    mover = mover or (*origins, child)[0]
    with db.savepoint():
        claim(db, child, origins, fence, mover)
        log.open_link(db, child, fence if mover == child else 0)
        give_rows(db, child, rows, now)
        reach("moves.move-in.after-append")
        for other in log.links(db):
            if other not in (child, node):
                late = of_origins(log.fold(db, other).embeddings(), origins)
                give_rows(db, child, late, now)
                release_rows(db, other, Release(mover, fence, late.samples), now)
        reach("moves.move-in.after-release")
        return log.head(db, child)


def redirect(db: Database, child: NodeId, payload: bytes, now: float) -> bool:
    """After an append through `child`: rows whose origin moved away go to the owner and leave `child` again.

    So what an old parent relays late is neither lost nor counted twice. An origin seen first becomes the child's.
    """
    rows = load_embeddings(payload, OWN)
    away: dict[NodeId, Owner] = {}
    for origin in rows.samples.origins:
        known = owner(db, origin)
        if known is None:
            claim(db, child, (origin,), 0)
        elif known.child != child:
            away[origin] = known
    for origin, known in away.items():
        late = of_origins(rows, (origin,))
        give_rows(db, known.child, late, now)
        reach("moves.redirect.after-append")
        release_rows(db, child, Release(origin, known.fence, late.samples), now)
    return bool(away)
