"""Which parent this node wants: decided and numbered in the ledger before anything of it is sent.

A move has a number, the fence: one more than any that this node has tried. It is over when the new parent's log is here
(`finish`, in the same transaction); until then a restart goes on with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedagg_edge.failpoints import reach
from fedagg_edge.fleet.config import ParentConfig
from fedagg_edge.ledger.ledger import Ledger
from fedagg_edge.records import NodeId

__all__ = [
    "WANTED",
    "after",
    "arrived",
    "begin",
    "cancel",
    "finish",
    "home",
    "open_targets",
    "parent",
    "set_parent",
    "targets",
    "under_way",
    "want",
    "wanted",
]

WANTED = "move.wanted"
"""Fact: addresses that the operator asked for, where the node itself runs; None when they were taken."""

_MOVE, _TRIED, _URL, _CONFIGURED = "move", "move.tried", "parent.url", "parent.configured"
_NAME = "parent.name"


def under_way(ledger: Ledger) -> tuple[str, int] | None:
    """The new parent's address and the fence of the move that is not over."""
    move = ledger.get(_MOVE)
    return None if move is None else (str(move["url"]), int(move["fence"]))


def begin(ledger: Ledger, url: str) -> int:
    """Go to `url` from now on; the fence."""
    with ledger.savepoint():
        fence = max(ledger.fence(ledger.node), ledger.get(_TRIED) or 0) + 1
        ledger.put(_TRIED, fence)
        reach("moving.begin.after-number")
        ledger.put(_MOVE, {"url": url, "fence": fence})
        return fence


def cancel(ledger: Ledger) -> None:
    """Stay with the parent that this node has; if that has let it go already, it says so."""
    ledger.put(_MOVE, None)


def home(ledger: Ledger) -> str | None:
    """The address of the parent that this node has, None before the first."""
    here = ledger.get(_URL)
    return None if here is None else str(here)


def parent(ledger: Ledger) -> NodeId | None:
    """The name of the parent that this node has, None before it has said it."""
    here = ledger.get(_NAME)
    return None if here is None else NodeId(here)


def set_parent(ledger: Ledger, name: NodeId) -> None:
    """This node's log is that of the link to `name` now."""
    ledger.put(_NAME, name)


def finish(ledger: Ledger) -> None:
    """The new parent's log is here."""
    move = under_way(ledger)
    if move is not None:
        ledger.put(_URL, move[0])
        reach("moving.finish.after-address")
        ledger.put(_MOVE, None)
        ledger.put("noticed", 0)  # another parent numbers its own notices


def arrived(ledger: Ledger, parent: ParentConfig, url: str) -> None:
    """`url` has answered as this node's parent."""
    if ledger.get(_URL) != url:
        ledger.put(_URL, url)
        reach("moving.arrived.after-address")
    if ledger.get(_CONFIGURED) != parent.url:
        ledger.put(_CONFIGURED, parent.url)


def want(ledger: Ledger, urls: Sequence[str]) -> None:
    """The operator's wish, for the node's own process to take."""
    ledger.put(WANTED, list(urls))


def wanted(ledger: Ledger) -> tuple[str, ...]:
    """The operator's wish, empty if there is none."""
    return tuple(ledger.get(WANTED) or ())


def open_targets(ledger: Ledger, parent: ParentConfig) -> tuple[str, ...]:
    """`targets` at the start of the process: a configuration that names another parent than before is a move, too."""
    with ledger.savepoint():
        configured = ledger.get(_CONFIGURED)
        if configured is not None and configured != parent.url:
            ledger.put(_CONFIGURED, parent.url)
            if ledger.get(_URL) != parent.url or under_way(ledger) is not None:
                begin(ledger, parent.url)
        return targets(ledger, parent)


def after(ledger: Ledger, parent: ParentConfig, url: str) -> str | None:
    """The address to try when `url` has refused; None if there is no other."""
    here = ledger.get(_URL)
    known = tuple(dict.fromkeys((*([here] if here else ()), parent.url, *parent.fallback)))
    following = known[known.index(url) + 1 :] + known if url in known else known
    return next((u for u in following if u != url), None)


def targets(ledger: Ledger, parent: ParentConfig, first: Sequence[str] = ()) -> tuple[str, ...]:
    """Addresses in the order in which they are tried: `first`, else where this node is or goes to; then all others that
    it knows, so that a wrong address heals by itself."""
    move, here = under_way(ledger), ledger.get(_URL)
    now = move[0] if move is not None else here or parent.url
    known = (*(first or (now,)), *([here] if here else ()), parent.url, *parent.fallback)
    return tuple(dict.fromkeys(known))
