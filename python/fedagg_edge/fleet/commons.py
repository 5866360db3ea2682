"""What a parent answers to any node of its federation, its own child or not: status, artefacts, revocations.

Whoever asks has shown a certificate of the federation that is in date and not revoked: the gateway has seen to that.
Nothing here tells one device about another: the list of children is for servers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from fedagg_edge import __version__
from fedagg_edge.errors import IdentityError
from fedagg_edge.fleet.config import FleetConfig
from fedagg_edge.fleet.ends import Peer
from fedagg_edge.fleet.keys import ASIDE, PARCELS, PROGRESS, PUBLISHED, RECEIPTS, TERMS
from fedagg_edge.fleet.receipts import shown
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.fleet.views import ParentView
from fedagg_edge.identity import folder, pem, revocation
from fedagg_edge.records import Link, NodeId, Tier
from fedagg_edge.wire.http import JSON_TYPE, RAW_TYPE, Request, Response
from fedagg_edge.wire.messages import PROTOCOL, Offered, encode
from fedagg_edge.wire.problems import answer
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.terms import LEAVING, PRESENT, draining, finished

__all__ = ["Commons", "certificate_until", "status"]

_PART = re.compile(r"/v1/artefacts/([0-9a-f]{64})/([0-9]{1,9})")
_REVOKED = re.compile(r"/v1/revocations/([0-9a-f]{64}|none)")
_RECEIPTS_SHOWN = 64
_MOST_WAITING = 10_000


class Commons:
    """`connected`: the nodes that have a connection now."""

    def __init__(self, config: FleetConfig, tier: Tier, connected: Callable[[], frozenset[str]] = frozenset) -> None:
        self._federation, self._node, self._tier = config.federation, NodeId(config.node.id), tier
        self._limits, self._connected = config.limits.wire(), connected
        self._identity, self._shelf = config.state / "identity", DiskShelf(config.state / "artefacts")

    def answer(self, ledger: ParentView, peer: Peer, request: Request) -> Response | None:
        """The answer, None if this is no such request."""
        if request.method != "GET":
            return None
        try:
            return self._get(ledger, peer, request.path)
        except Refusal as refusal:
            return answer(refusal)

    def _get(self, ledger: ParentView, peer: Peer, path: str) -> Response | None:
        if path == "/v1/status":
            return Response(200, msgspec.json.encode(self._status(ledger, peer)), media=JSON_TYPE)
        if path == "/v1/artefacts":
            return Response(200, encode(Offered(self._limits.chunk, self._shelf.listing())))
        if part := _PART.fullmatch(path):
            return self._part(bytes.fromhex(part[1]), int(part[2]))
        known = _REVOKED.fullmatch(path)
        return None if known is None else self._revocations(peer, known[1])

    def _part(self, digest: bytes, number: int) -> Response:
        size = self._limits.chunk
        data = self._shelf.read(digest, number * size, size)
        if not data:
            raise Refusal(
                404, "not_found", f"artefact {digest.hex()[:12]}: no part {number} here; ask for the list again"
            )
        return Response(200, data, media=RAW_TYPE)

    def _revocations(self, peer: Peer, known: str) -> Response:
        """The list, unless the caller names the digest of this very one (204). Servers alone need it."""
        if peer.role == Tier.DEVICE:
            raise Refusal(403, "role", f"device {peer.node!r}: the revocation list is for edges and the cloud")
        content = revocation.encode(revocation.load(self._identity))
        if hashlib.sha256(content).hexdigest() == known:
            return Response(204)
        return Response(200, content, media=JSON_TYPE)

    def _status(self, ledger: ParentView, peer: Peer) -> dict[str, Any]:
        told = status(ledger, self._federation, self._node, self._tier)
        told["certificate_until"] = certificate_until(self._identity)
        # of a device's own row alone: each of the others costs reading a log
        names = [name for name in _names(ledger) if peer.role != Tier.DEVICE or name == peer.node]
        connected = self._connected()
        told["children"] = [_child(ledger, self._node, name, connected) for name in names]
        if peer.role == Tier.DEVICE:
            return told
        told["receipts"] = [
            {"via": key.removeprefix(RECEIPTS), **shown(blob)}
            for key, blobs in ledger.ledger.find(RECEIPTS).items()
            for blob in blobs[-_RECEIPTS_SHOWN:]
        ]
        return told


def status(ledger: ParentView, federation: str, node: NodeId, tier: Tier) -> dict[str, Any]:
    """What a node says of itself: no child's affairs. Values fit JSON."""
    terms, progress = ledger.get(TERMS) or {}, ledger.get(PROGRESS) or {}
    published = ledger.get(PUBLISHED) or {}
    return {
        "schema": 1,
        "federation": federation,
        "node": node,
        "role": tier.value,
        "software": f"fedagg-edge {__version__}",
        "protocol": PROTOCOL,
        "parent": terms.get("parent"),
        "mode": terms.get("mode"),
        "classes": terms.get("classes"),
        "target": terms.get("target"),
        "round": progress.get("version", -1),
        "round_at": progress.get("at"),
        "rows": progress.get("rows"),
        "loss": progress.get("loss"),
        "accuracy": progress.get("accuracy"),
        "finished": finished(ledger),
        "draining": draining(ledger) is not None or ledger.get(LEAVING) is True,
        "waiting": len(ledger.ledger.pending(_MOST_WAITING, inline=0)),
        "aside": ledger.get(ASIDE),
        "parcels_refused": ledger.get(PARCELS),
        "model": {k: published[k] for k in ("version", "digest", "size", "at") if k in published} or None,
    }


def _names(ledger: ParentView) -> list[NodeId]:
    return ledger.ledger.children()


def _child(ledger: ParentView, node: NodeId, name: NodeId, connected: frozenset[str]) -> dict[str, Any]:
    """A child's row: `round` is the version of its newest knowledge here, `heard` when that came."""
    newest = ledger.newest(Link(name, node), name)
    hello = ledger.get(f"child/{name}") or {}
    facts = ledger.node(name)
    return {
        "node": name,
        "role": None if facts is None else facts.role.value,
        "present": ledger.get(PRESENT + name) is True and hello.get("left") is None,
        "connected": name in connected,
        "samples": len(ledger.samples(name, None)),
        "round": -1 if newest is None else newest.knowledge.version,
        "heard": None if newest is None else newest.at,
        "hello": hello.get("at"),
        "software": hello.get("software"),
    }


def certificate_until(identity: Path) -> float | None:
    """When the certificate in an identity folder ends; None if there is none."""
    try:
        return pem.validity(pem.certificates(folder.read(identity / folder.CERTIFICATE))[0]).not_after
    except IdentityError:
        return None
