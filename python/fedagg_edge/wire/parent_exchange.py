"""The parent's half of an exchange: take the child's knowledge, give what is new. Functions of the ledger, no state."""

from __future__ import annotations

import msgspec

from fedagg_edge.errors import DataError, RemoteProtocolError
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.chunks import check_payload
from fedagg_edge.wire.knowledge import check_packed, same_frame, same_logits, wire_packed
from fedagg_edge.wire.limits import check
from fedagg_edge.wire.messages import Exchange, Exchanged, Notice, WireKnowledge
from fedagg_edge.wire.parent_log import bytes_of, entries_after
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import ParentLedger, Peer
from fedagg_edge.wire.terms import Terms, draining, finished, refuse_while_draining

__all__ = [
    "MOST_RECEIPTS",
    "Later",
    "check_have",
    "committed",
    "exchanged",
    "has_news",
    "take_knowledge",
    "take_receipts",
]

_FINISHED_WAIT = 60.0
"""Seconds between the polls of a child once the training is over: such a poll is answered at once, so that each child
hears of the end, and without a pause it would come again every second for ever."""

MOST_RECEIPTS = 256
"""Kept a child: the newest."""


class Later(msgspec.Struct, frozen=True):
    """Nothing new for `node` yet: wait for a wake-up or for `until` (Unix time), then `ParentEnd.resume`."""

    node: NodeId
    have: int
    head: int
    noticed: int
    until: float


def take_knowledge(terms: Terms, ledger: ParentLedger, peer: Peer, given: WireKnowledge, now: float) -> None:
    """Commit the child's knowledge if it is newer than what is here; refuse what does not fit the link (422)."""
    refuse_while_draining(ledger)
    _check_shape(terms, given)
    link = terms.link(peer.node)
    version = ledger.version(link, peer.node)
    if given.version < version:
        ledger.drop(peer.node, given.payload.chunks)
        return  # a late copy: what is newer stands
    if given.version == version:
        newest = ledger.newest(link, peer.node)
        if newest is not None and not same_frame(given, newest):
            raise Refusal(409, "conflict", f"knowledge.version: got {given.version} with other content than committed")
        if newest is None or same_logits(given, newest):
            ledger.drop(peer.node, given.payload.chunks)
            return
        # other logits may be the same ones before rows of them were forgotten here: `put_packed` tells
    _check_rows(ledger, peer.node, given)
    data = bytes_of("knowledge.payload", ledger, peer.node, given.payload)
    try:
        check_packed(given, data)
    except Refusal:
        raise
    except RemoteProtocolError as e:
        raise Refusal(422, "unfit", f"knowledge.payload: {e}") from e
    ledger.put_packed(terms.federation, link, peer.node, given, data, at=now)
    # a child sends one payload at a time, entries before knowledge: what else is staged was of versions that this one
    # replaces. Were it not, the child would hear what is missing, and send it again.
    ledger.drop(peer.node)


def _check_shape(terms: Terms, given: WireKnowledge) -> None:
    limits = terms.limits
    check("knowledge.classes", given.classes, limits.classes, "classes")
    check("knowledge.rows", given.rows, limits.samples, "samples")
    check_payload("knowledge.payload", given.payload, limits, limits.staged)
    if given.format not in terms.formats:
        raise Refusal(
            422, "unfit", f"knowledge.format: got {given.format!r}, expected one of {', '.join(terms.formats)}"
        )
    if given.classes != terms.classes:
        raise Refusal(422, "unfit", f"knowledge.classes: got {given.classes}, this link agreed on {terms.classes}")


def _check_rows(ledger: ParentLedger, child: NodeId, given: WireKnowledge) -> None:
    try:
        rows = ledger.rows(child, given.digest.hex())
    except DataError as e:
        text = f"knowledge.digest: got set {given.digest.hex()[:12]}, which no entry of this link has"
        raise Refusal(422, "unknown_digest", text) from e
    if given.rows != rows:
        raise Refusal(422, "unfit", f"knowledge.rows: got {given.rows}, the set it names has {rows}")


def take_receipts(ledger: ParentLedger, peer: Peer, receipts: tuple[bytes, ...]) -> None:
    """Keep the child's receipts, each once, the newest `MOST_RECEIPTS` of them. Refuses (403) those of a device: orders
    to forget do not go to devices."""
    if not receipts:
        return
    if peer.role is not Tier.EDGE:
        raise Refusal(403, "role", f"receipts: got {len(receipts)} from a {peer.role}, expected none: edges send them")
    key = f"receipts/{peer.node}"
    kept = ledger.get(key)
    known = list(kept) if isinstance(kept, list | tuple) else []
    fresh = [r for r in dict.fromkeys(receipts) if r not in known]
    if fresh:
        ledger.put(key, [*known, *fresh][-MOST_RECEIPTS:])


def committed(terms: Terms, ledger: ParentLedger, child: NodeId) -> int:
    """The version of the child's newest knowledge here, -1 if there is none."""
    return ledger.version(terms.link(child), child)


def has_news(terms: Terms, ledger: ParentLedger, asked: Later) -> bool:
    """Whether there is anything that the child has not seen, or no use in waiting for it."""
    return (
        ledger.version(terms.link(asked.node), terms.node) > asked.have
        or ledger.head(asked.node).entry > asked.head
        or bool(ledger.notices(asked.node, asked.noticed))
        or finished(ledger)
        or draining(ledger) is not None
    )


def exchanged(terms: Terms, ledger: ParentLedger, asked: Later) -> Exchanged:
    """What the parent has of the child and what the child has not seen."""
    child, link = asked.node, terms.link(asked.node)
    fresh = ledger.version(link, terms.node) > asked.have
    newest = ledger.packed(link, terms.node) if fresh else None
    entries, notices = entries_after(terms, ledger, child, asked.head), _notices(terms, ledger, child, asked.noticed)
    over, wait = finished(ledger), draining(ledger)
    if wait is None:  # more may follow what is new, or be asked for because of it: then it comes again at once
        wait = _FINISHED_WAIT if over and not (fresh or entries or notices) else 0.0
    return Exchanged(
        version=ledger.version(link, child),
        head=ledger.head(child).entry,
        entries=entries,
        knowledge=None if newest is None else wire_packed(newest, terms.limits),
        notices=notices,
        finished=over,
        retry_after=wait,
    )


def _notices(terms: Terms, ledger: ParentLedger, child: NodeId, noticed: int) -> tuple[Notice, ...]:
    """The notices behind `noticed` that fit into a quarter of a message, at least one if there is any."""
    found: list[Notice] = []
    room = terms.limits.message // 4
    for stored in ledger.notices(child, noticed):
        room -= len(stored.body) + len(stored.kind) + 16
        if found and room < 0:
            break
        found.append(Notice(stored.number, stored.kind, stored.body))
    return tuple(found)


def check_have(ledger: ParentLedger, peer: Peer, asked: Exchange) -> None:
    """Refuse (409) a child that knows more entries than there are: one of the two has lost some."""
    head = ledger.head(peer.node).entry
    if asked.head > head:
        raise Refusal(409, "conflict", f"exchange.head: got {asked.head}, this log ends at {head}")
