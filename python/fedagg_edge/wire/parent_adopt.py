"""The parent's half of a move: a node that changed its parent is taken in, here or by a parent further up."""

from __future__ import annotations

from collections.abc import Sequence

from fedagg_edge.records import NodeId, Tier, node_id
from fedagg_edge.wire.http import Response
from fedagg_edge.wire.messages import Adopt, Adopted, encode
from fedagg_edge.wire.origins import is_part, joined
from fedagg_edge.wire.problems import answer
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import Adoption, ParentLedger, Peer
from fedagg_edge.wire.terms import LEAVING, admit, refuse_while_draining

__all__ = ["adopt"]

_SOON = 0.5  # seconds until the parents further up may have answered


def adopt(ledger: ParentLedger, peer: Peer, asked: Adopt) -> Response:
    """Adopted once the node is the sender's; 503 while the parents further up are asked; 409 if a newer move is known.

    The same question again changes nothing.
    """
    node = node_id(asked.node)
    _check_sender(ledger, peer, asked)
    known = ledger.adoption(node)
    latest = max(ledger.fence(node), 0 if known is None else known.fence)
    repeated = known is not None and known.fence == asked.fence and known.child == peer.node
    if asked.fence < latest or (asked.fence == latest and not repeated) or (repeated and known and known.refused):
        text = f"node {asked.node!r}: got move {asked.fence} to {peer.node!r}, move {latest} is known"
        raise Refusal(409, "moved", text)
    if not repeated or known is None:
        refuse_while_draining(ledger)
        if ledger.get(LEAVING) is True:
            raise Refusal(409, "leaving", f"this parent is about to stop and takes nobody in: {asked.node!r}")
        if peer.node == node:
            ledger.introduce(peer.node, peer.role, peer.serial)
        known = _note(ledger, peer, asked, ())
    elif known.more:
        known = _note(ledger, peer, asked, known.origins)
    if known.more:
        text = f"node {asked.node!r}: {len(known.origins)} of its origins are noted, send the others"
        return answer(Refusal(503, "adopting", text, _SOON))
    if known.head is None:  # returned, not raised: what was noted must be committed
        return answer(Refusal(503, "adopting", f"node {asked.node!r}: the parents above are being asked", _SOON))
    return Response(200, encode(Adopted(asked.fence, known.head)))


def _note(ledger: ParentLedger, peer: Peer, asked: Adopt, before: Sequence[NodeId]) -> Adoption:
    """Note the question, with the origins that came in parts before; the last part has it looked at."""
    node, names = node_id(asked.node), tuple(node_id(o) for o in asked.origins)
    origins = joined(node, before, names)
    more = is_part(names) or (bool(before) and origins == tuple(before))  # the latter: a part said twice
    former = node_id(asked.former) if asked.former else None
    return ledger.adopt(peer.node, node, origins, asked.fence, former=former, more=more)


def _check_sender(ledger: ParentLedger, peer: Peer, asked: Adopt) -> None:
    """Refuse (403) who may not ask this: a stranger may for itself, a device for nobody else."""
    if peer.node != asked.node or ledger.node(peer.node) is not None:
        admit(ledger, peer)
    if peer.role is Tier.CLOUD:
        raise Refusal(403, "role", f"node {peer.node!r}: the cloud has no parent")
    foreign = [name for name in (asked.node, *asked.origins) if name != peer.node]
    if peer.role is Tier.DEVICE and foreign:
        raise Refusal(403, "role", f"device {peer.node!r}: asked for {foreign[0]!r}, expected itself only")
