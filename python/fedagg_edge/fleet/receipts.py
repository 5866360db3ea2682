"""Receipts of what was forgotten: made where it happened, handed up from parent to parent, kept and shown there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fedagg_edge.fleet.keys import RECEIPTS, SENT
from fedagg_edge.ledger.erase import Receipt
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.wire.chunks import digest_of
from fedagg_edge.wire.parent_exchange import MOST_RECEIPTS

__all__ = ["MOST_BYTES", "Stamped", "keep", "known", "mark_scrubbed", "mark_sent", "own", "pending", "shown"]

MOST_BYTES = 4096
"""Of one receipt: what the wire takes (`Exchange.receipts`)."""

_MOST, _BYTES = 16, 16_384  # of receipts that travel in one exchange


class Stamped(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt of one order to forget: `order` is the order's own id, the same at every ancestor; `below`: how many
    edges this node handed it down to, whose receipts are to come up."""

    order: str
    receipt: Receipt
    below: Annotated[int, Meta(ge=0)] = 0


def keep(ledger: Ledger, stamped: Stamped) -> None:
    """Keep a receipt of this node's own, in place of one of the same order; inside a transaction of the caller."""
    key = RECEIPTS + ledger.node
    blobs = [b for b in ledger.get(key) or () if _order(b) != stamped.order]
    ledger.put(key, [*blobs, _encoded(stamped)][-MOST_RECEIPTS:])


def own(ledger: Ledger) -> list[Stamped]:
    """The receipts of this node's own that are kept."""
    return [stamped for b in ledger.get(RECEIPTS + ledger.node) or () if (stamped := _read(b)) is not None]


def mark_scrubbed(ledger: Ledger) -> None:
    """No file of the ledger holds any bytes that were forgotten: each receipt of this node's own says so now."""
    with ledger.transaction():
        for stamped in own(ledger):
            if not stamped.receipt.scrubbed:
                receipt = msgspec.structs.replace(stamped.receipt, scrubbed=True)
                keep(ledger, msgspec.structs.replace(stamped, receipt=receipt))


def _encoded(stamped: Stamped) -> bytes:
    """As it travels. The digests of many links would not fit into a message, and a parent would refuse each exchange
    that brings them: one digest over all of them stands for those of the children then."""
    blob = msgspec.msgpack.encode(stamped)
    if len(blob) <= MOST_BYTES:
        return blob
    return _shortened(stamped)


def _fitting(blob: bytes) -> bytes | None:
    """A kept receipt as it travels: what older software kept may be too long; None if it cannot be shortened."""
    if len(blob) <= MOST_BYTES:
        return blob
    stamped = _read(blob)
    short = None if stamped is None else _shortened(stamped)
    return short if short is not None and len(short) <= MOST_BYTES else None


def _shortened(stamped: Stamped) -> bytes:
    """With one digest in place of those of the children's links."""
    receipt = stamped.receipt
    lines = "".join(f"{child} {digest}\n" for child, digest in sorted(receipt.digests.items()) if child != receipt.node)
    digests = {child: digest for child, digest in receipt.digests.items() if child == receipt.node}
    digests[f"{len(receipt.digests) - len(digests)} links"] = hashlib.sha256(lines.encode()).hexdigest()
    short = msgspec.structs.replace(receipt, digests=digests)
    return msgspec.msgpack.encode(msgspec.structs.replace(stamped, receipt=short))


def known(ledger: Ledger, order: str) -> list[Stamped]:
    """The receipts of an order that are here: this node's own, and those that came from below.

    A child's own counts only from the child itself; what it hands on from further down is its word.
    """
    direct = {ledger.node, *ledger.children()}
    found = {}
    for key, blobs in ledger.find(RECEIPTS).items():
        for blob in blobs:
            stamped = _read(blob)
            if stamped is None or stamped.order != order:
                continue
            if stamped.receipt.node not in direct or key == RECEIPTS + stamped.receipt.node:
                found[stamped.receipt.node] = stamped  # the last word of each
    return list(found.values())


def pending(ledger: Ledger) -> tuple[bytes, ...]:
    """Receipts that the parent does not have yet: the first few, this node's own and those from below."""
    sent = set(ledger.get(SENT) or ())
    found: list[bytes] = []
    for blobs in ledger.find(RECEIPTS).values():
        for blob in filter(None, map(_fitting, blobs)):
            if digest_of(blob) in sent:
                continue
            if len(found) == _MOST or (found and sum(map(len, found)) + len(blob) > _BYTES):
                return tuple(found)
            found.append(blob)
    return tuple(found)


def mark_sent(ledger: Ledger, blobs: Iterable[bytes]) -> None:
    """The parent has these; what is no longer kept here is no longer remembered either."""
    with ledger.transaction():
        kept = (blob for each in ledger.find(RECEIPTS).values() for blob in each)
        here = {digest_of(blob) for blob in map(_fitting, kept) if blob is not None}
        sent = {*(ledger.get(SENT) or ()), *map(digest_of, blobs)}
        ledger.put(SENT, sorted(sent & here))


def shown(blob: bytes) -> dict[str, Any]:
    """A receipt for people, as values that fit JSON; what another node sent may be anything."""
    stamped = _read(blob)
    if stamped is None:
        return {"unreadable": len(blob)}
    built: dict[str, Any] = msgspec.to_builtins(stamped)
    return {"order": built["order"], **built["receipt"]}


def _read(blob: bytes) -> Stamped | None:
    try:
        return msgspec.msgpack.decode(blob, type=Stamped)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError):
        return None


def _order(blob: bytes) -> str | None:
    stamped = _read(blob)
    return None if stamped is None else stamped.order
