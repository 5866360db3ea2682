"""What an operator tells a node that runs, through its state folder: move a node, drain a parent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fedagg_edge.errors import ConfigError
from fedagg_edge.failpoints import reach
from fedagg_edge.fleet import moving
from fedagg_edge.fleet.endpoints import parse_endpoint
from fedagg_edge.fleet.keys import LEFT_TO
from fedagg_edge.ledger import notices
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.signal import Signal
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.messages import MoveTo, encode
from fedagg_edge.wire.terms import LEAVING

__all__ = ["Remaining", "drain", "drain_until_empty", "open_node", "remaining", "serve_again", "tell_to_move"]


def open_node(state: Path, *, read_only: bool = False) -> Ledger:
    """The ledger in a node's state folder, beside the node's own processes. Raises ConfigError if there is none,
    StorageError if it cannot be read."""
    path = state / "ledger.sqlite"
    if not path.is_file() or path.stat().st_size == 0:
        raise ConfigError(f"{state}: no node's state is here; give the folder that node.state names")
    db = Database(path, read_only=True)
    try:
        row = db.one("SELECT value FROM facts WHERE key = 'ledger.identity'")
    finally:
        db.close()
    if row is None:
        raise ConfigError(f"{state}: the node here has not run yet")
    mine = msgspec.msgpack.decode(row[0], type=dict[str, str])
    options = Options(tier=Tier(mine["tier"]))
    return Ledger.open(
        path, node=NodeId(mine["node"]), federation=mine["federation"], options=options,
        read_only=read_only,
    )  # fmt: skip


def tell_to_move(ledger: Ledger, state: Path, node: NodeId, urls: Sequence[str]) -> None:
    """Have `node` change its parent to the first of `urls`: the node whose state this is, or a child of it.

    Raises ConfigError for an address or a node that cannot be meant.
    """
    for url in urls:
        parse_endpoint(url)
    if node == ledger.node:
        if ledger.options.tier is Tier.CLOUD:
            raise ConfigError(f"node: got {node!r}, the cloud, which has no parent to change")
        moving.want(ledger, urls)
        return
    if node not in ledger.children():
        known = ", ".join(ledger.children()) or "none"
        raise ConfigError(f"node: got {node!r}, expected {ledger.node!r} itself or one of its children: {known}")
    _notify(ledger, state, [node], urls)


def _notify(ledger: Ledger, state: Path, nodes: Sequence[NodeId], urls: Sequence[str], **facts: object) -> None:
    """Leave the notice, together with what is to be known of it, and wake those that wait."""
    with ledger.transaction():
        for key, value in facts.items():
            ledger.put(key, value)
        for node in nodes:
            ledger.notify(node, "move", encode(MoveTo(tuple(urls))))
            reach("operating.notify.after-notice")
    reach("operating.notify.after-commit")
    bell = Signal(state / "gateway.sock")
    for node in nodes:
        bell.notify(node)
    bell.close()


@dataclass(frozen=True, slots=True)
class Remaining:
    """What keeps a parent from stopping: children whose rows are still here, batches that its own parent lacks."""

    children: tuple[NodeId, ...]
    batches: int

    def __bool__(self) -> bool:
        return bool(self.children or self.batches)


def drain(ledger: Ledger, state: Path, urls: Sequence[str] = ()) -> None:
    """Take in nobody more, and tell all children to go to `urls`, or to their own fallbacks.

    Again it tells those that were enrolled since, and with other `urls` all that are still here.

    Raises ConfigError for a node without a parent: the cloud's children have nowhere to go.
    """
    for url in urls:
        parse_endpoint(url)
    if ledger.options.tier is not Tier.EDGE:
        raise ConfigError(
            f"drain: got {ledger.node!r}, a {ledger.options.tier}; only an edge's children can go elsewhere"
        )
    children, before = ledger.children(), ledger.get(LEFT_TO) if ledger.get(LEAVING) is True else None
    if before is not None and list(urls) in ([], before):
        urls, children = before, [c for c in children if not any(n.kind == "move" for n in ledger.notices(c, 0))]
    if before is None or children:
        _notify(ledger, state, children, urls, **{LEAVING: True, LEFT_TO: list(urls)})


def serve_again(ledger: Ledger) -> None:
    """A server that starts takes nodes in, also if it was drained before; who has not heard of that need not go."""
    if ledger.get(LEAVING) is True:
        with ledger.transaction():
            ledger.put(LEAVING, None)
            reach("operating.serve-again.after-fact")
            for child in ledger.children():
                notices.drop(ledger.db, child, "move")


def remaining(ledger: Ledger) -> Remaining:
    """What is still here."""
    children = tuple(c for c in ledger.children() if len(ledger.samples(c)))
    return Remaining(children, len(ledger.pending(inline=0)))


def drain_until_empty(
    ledger: Ledger,
    seconds: float,
    on_change: Callable[[Remaining], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Remaining:
    """Wait until nothing remains, for at most `seconds`; what still does."""
    deadline, told = clock() + seconds, None
    while (left := remaining(ledger)) and clock() < deadline:
        if left != told:
            on_change(left)
            told = left
        sleep(0.5)
    return left
