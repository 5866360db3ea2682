"""What a parent offers its children, and what it asks of a request before it looks inside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fedagg_edge.records import Link, LogitsFormat, NodeId, Tier
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import ParentLedger, Peer, Shelf

__all__ = [
    "CHILD",
    "DRAINING",
    "FINISHED",
    "LABELS",
    "LEAVING",
    "PRESENT",
    "Terms",
    "admit",
    "check_child",
    "check_fence",
    "draining",
    "finished",
    "refuse_while_draining",
]

CHILD = "child/"
"""Prefix of facts in the ledger: what a child said in its last hello."""
LABELS = ("all", "first-edge")
"""How far up a child's labels may go: the `labels` of its hello."""
DRAINING = "draining"
"""Fact in the ledger: seconds after which a child should ask again; absent or None while the parent serves."""
FINISHED = "finished"
"""Fact in the ledger: true once the training is over."""

LEAVING = "leaving"
"""Fact in the ledger: true while this parent sends its children elsewhere; it serves them until they have gone."""

PRESENT = "present/"
"""Prefix of facts in the ledger: true for a child that has begun to exchange, so its log is here as far as it was."""

_SOON = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """A parent's end of all of its links. `mode` is "sync" or "async"; `shelf` None: no artefacts."""

    federation: str
    node: NodeId
    classes: int
    limits: Limits
    software: str
    mode: str = "sync"
    target: int = 0
    formats: tuple[str, ...] = tuple(LogitsFormat)
    shelf: Shelf | None = None

    def link(self, child: NodeId) -> Link:
        """The link to `child`."""
        return _link(child, self.node)


_link = lru_cache(4096)(Link)  # an exchange asks for it several times


def admit(ledger: ParentLedger, peer: Peer) -> None:
    """Refuse (403) a peer that is no child, is revoked, or has changed its role."""
    facts = ledger.node(peer.node)
    if facts is None:
        raise Refusal(403, "unknown", f"node {peer.node!r} is no child of this parent; enrol it or move it here")
    if facts.revoked is not None:
        raise Refusal(403, "revoked", f"node {peer.node!r} was revoked")
    if peer.role != facts.role or peer.role is Tier.CLOUD:
        raise Refusal(403, "role", f"node {peer.node!r}: got a certificate for {peer.role}, expected {facts.role}")


def check_child(ledger: ParentLedger, node: NodeId) -> None:
    """Refuse (409) a node that has gone to another parent: it must not follow the log that says so."""
    facts = ledger.node(node)
    if facts is not None and not facts.active:
        raise Refusal(409, "moved", f"node {node!r} is no child of this parent: it went to another; move it here")


def check_fence(ledger: ParentLedger, peer: Peer, fence: int) -> None:
    """Refuse a request from before the node's last move (409), or from a move not heard of yet (503)."""
    known = ledger.fence(peer.node)
    if fence == known:
        check_child(ledger, peer.node)
    if fence < known:
        raise Refusal(409, "moved", f"node {peer.node!r}: got fence {fence}, it has moved since: fence {known}")
    if fence > known:
        raise Refusal(503, "adopting", f"node {peer.node!r}: got fence {fence}, this parent knows of {known}", _SOON)


def draining(ledger: ParentLedger) -> float | None:
    """Seconds after which to ask again if this parent takes no new work, else None."""
    wait = ledger.get(DRAINING)
    return float(wait) if isinstance(wait, int | float) and not isinstance(wait, bool) else None


def finished(ledger: ParentLedger) -> bool:
    """Whether the training is over."""
    return ledger.get(FINISHED) is True


def refuse_while_draining(ledger: ParentLedger) -> None:
    """Refuse (503) new work of a parent that is about to stop."""
    wait = draining(ledger)
    if wait is not None:
        raise Refusal(503, "draining", "this parent is draining and takes no new work", wait)
