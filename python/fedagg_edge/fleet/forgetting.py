"""Forgetting a node: an order that the cloud's operator gives, that every ancestor carries out, and their receipts.

The order goes down as a notice from each parent to the edges below it, never to devices: an edge may hold rows that
its parent has not got yet. Each erases what it has in one transaction with its receipt, and hands the order on; the
receipts come up with exchanges. Weights that were trained meanwhile stay as they are.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from fedagg_edge.errors import ConfigError, DataError, FedaggError, RemoteProtocolError, nearest
from fedagg_edge.failpoints import reach
from fedagg_edge.fleet import receipts
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.receipts import Stamped
from fedagg_edge.identity import revocation, tokens
from fedagg_edge.ledger.erase import Receipt
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.ledger.nodes import names
from fedagg_edge.records import NodeId, Tier, node_id
from fedagg_edge.wire.messages import Notice

__all__ = ["KIND", "Order", "Told", "Waited", "check_known", "finish", "give", "obey", "wait_for_receipts"]

KIND = "forget"
_DONE = "forget.done/"  # facts, by order: taken by this ledger; only so many receipts are kept
_NONE = 1 << 61  # behind what any log gets to by counting
_SCRUBS = 20  # tries, a quarter of a second apart, while another process reads


class Order(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body of a notice of kind ``forget``: the order's id, the same at every ancestor, whom it is about, the entry
    of the receiver's log by which its parent forgot rows of it (above 2^61: it had none, and the log's next entry after
    the order is this one less 2^61; 0: nothing is said), and since when (Unix time, 0: not) its certificates are
    refused: each node refuses first, so that nothing of what it forgets comes in again."""

    id: str
    origin: str
    entry: Annotated[int, Meta(ge=0, le=2**62)] = 0
    revoked: Annotated[float, Meta(ge=0)] = 0.0

    @property
    def followed_by(self) -> int:
        """The first entry of the receiver's log that did not come before the order; 0: not known."""
        return self.entry - _NONE if self.entry > _NONE else self.entry


@dataclass(frozen=True, slots=True)
class Told:
    """An order that was given: this node's own receipt, and the edges below that it went to."""

    order: Order
    receipt: Receipt
    edges: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Waited:
    """The receipts of all who have carried an order out, the edges right below that have not said so, and how many
    further down: each edge says how many it has handed the order to."""

    found: list[Receipt]
    missing: list[NodeId]
    further: int


def check_known(ledger: Ledger, identity: Path, origin: NodeId) -> None:
    """Raise ConfigError for a name that neither the ledger nor the lists beside it have ever had: it is mistyped, and
    an order for it would be carried out, with a receipt, while the node that was meant stays. Raises IdentityError for
    a list that is damaged."""
    known = names(ledger.db)
    if origin in known:
        return
    known |= {NodeId(n) for n in (*revocation.load(identity).nodes, *tokens.granted(identity))}
    known |= {NodeId(stamped.receipt.origin) for stamped in receipts.own(ledger)}
    if origin not in known:
        raise ConfigError(
            f"node: got {origin!r}{nearest(origin, known)}, which nothing at {ledger.node} has ever named; of a device "
            "whose samples have not come up from its edge nothing is known here yet: wait for them, or revoke it "
            f"first: fedagg pki revoke {identity} --node {origin}"
        )


def give(ledger: Ledger, origin: NodeId, *, revoked: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> Told:
    """Carry the order out at this node and hand it down. `revoked`: see `Order`; here it is refused already. Not inside
    a transaction. Raises StorageError."""
    order = Order(secrets.token_hex(8), origin, revoked=revoked)
    edges = _edges(ledger)
    return Told(order, _carry_out(ledger, order, edges, lambda: None, sleep), edges)


def obey(
    ledger: Ledger,
    notice: Notice,
    log: Log,
    refuse: Callable[[NodeId, float], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Carry out an order that came from the parent, once: the notice is taken in the same transaction. `refuse` is
    called before, with whom and since when, if the order says so.

    Notices are never taken back: a node that lost its state, or comes back to a parent, is told of orders again. One
    that was carried out here changes nothing, one that is older than this ledger leaves its receipt: what is here since
    is new. One that cannot be read, or that is none of this node's, is told and passed over. Raises StorageError.
    """
    try:
        order = msgspec.msgpack.decode(notice.body, type=Order)
        origin, edges = node_id(order.origin), _edges(ledger)
    except (msgspec.DecodeError, UnicodeDecodeError, DataError, RemoteProtocolError) as error:
        log.failure("order_refused", error, number=notice.number)
        return

    def take() -> None:
        ledger.put("noticed", notice.number)
        ledger.put(f"{_DONE}{order.id}", True)

    if _is_done(ledger, order.id):
        with ledger.transaction():
            take()
        return
    if order.revoked:
        try:
            refuse(origin, order.revoked)
        except (FedaggError, OSError) as error:  # the list comes down by itself, too
            log.failure("revocations_failed", error)
    done = _carry_out(ledger, order, edges, take, sleep)
    log.info("forgotten", peer=origin, rows=done.rows, count=done.knowledge)


def _is_done(ledger: Ledger, order: str) -> bool:
    return bool(ledger.get(f"{_DONE}{order}")) or any(stamped.order == order for stamped in receipts.own(ledger))


def finish(ledger: Ledger, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """What a kill left undone, at a node's start: its own receipts that say that bytes are in its files still would say
    so for ever, and be right. Raises StorageError."""
    if not all(stamped.receipt.scrubbed for stamped in receipts.own(ledger)):
        _scrub(ledger, ledger.scrub(), sleep)


def wait_for_receipts(
    ledger: Ledger, told: Told, seconds: float, *, sleep: Callable[[float], None] = time.sleep
) -> Waited:
    """What has come up within `seconds`, or as soon as all is there."""
    deadline = time.monotonic() + seconds
    while True:
        found = {stamped.receipt.node: stamped for stamped in receipts.known(ledger, told.order.id)}
        missing = [edge for edge in told.edges if edge not in found]
        own = {ledger.node, *told.edges}
        below = sum(stamped.below for node, stamped in found.items() if node != ledger.node)
        further = max(0, below - sum(node not in own for node in found))
        if not (missing or further) or time.monotonic() >= deadline:
            return Waited([stamped.receipt for stamped in found.values()], missing, further)
        sleep(0.2)


def _carry_out(
    ledger: Ledger, order: Order, edges: tuple[NodeId, ...], also: Callable[[], None], sleep: Callable[[float], None]
) -> Receipt:
    past = 0 < order.followed_by <= ledger.joined_at()

    def within(receipt: Receipt, entries: dict[NodeId, int]) -> None:
        receipts.keep(ledger, Stamped(order=order.id, receipt=receipt, below=len(edges)))
        reach("forgetting.carry-out.after-receipt")
        for edge in edges:
            following = 1 if past else ledger.head(edge).entry + 1  # its whole log came after an order that is past
            below = msgspec.structs.replace(order, entry=entries.get(edge, _NONE + following))
            ledger.notify(edge, KIND, msgspec.msgpack.encode(below))
            reach("forgetting.carry-out.after-notice")
        also()

    done = ledger.forget(NodeId(order.origin), within, entry=order.entry, past=past)
    reach("forgetting.carry-out.after-scrub")
    return msgspec.structs.replace(done, scrubbed=_scrub(ledger, done.scrubbed, sleep))


def _scrub(ledger: Ledger, done: bool, sleep: Callable[[float], None]) -> bool:
    """Whether the files are empty of what was forgotten: at once, or as soon as nobody else reads; the receipts say it,
    those of earlier orders, too."""
    for _ in range(_SCRUBS):
        if done:
            receipts.mark_scrubbed(ledger)
            break
        sleep(0.25)
        done = ledger.scrub()
    return done


def _edges(ledger: Ledger) -> tuple[NodeId, ...]:
    if ledger.options.tier is Tier.DEVICE:
        raise RemoteProtocolError("forget: got the order at a device, expected a node with children")
    return tuple(c for c in ledger.children() if (f := ledger.facts_of(c)) is not None and f.role is Tier.EDGE)
