"""The protocol's own parent end on a real ledger behind a real gateway, with children enrolled by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from running import Running, post, running

from fedagg_edge.fleet.gateway import GatewayLimits
from fedagg_edge.fleet.serve import ServiceSettings
from fedagg_edge.fleet.views import ParentView
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.child import ChildEnd
from fedagg_edge.wire.http import Request
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import PROTOCOL, Hello, encode
from fedagg_edge.wire.parent import ParentEnd
from fedagg_edge.wire.state import EMPTY_DIGEST, Peer
from fedagg_edge.wire.terms import Terms

CLASSES = 10
PARENT = "edge-1"


class RealHandler:
    """The parent's end as fleet/server.py has it, its terms fixed."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.end = ParentEnd(Terms("test", NodeId(PARENT), CLASSES, limits or Limits(), "test 1"))

    def handle(self, ledger: ParentView, peer: Any, request: Request, now: float) -> Any:
        return self.end.handle(ledger, self._peer(peer), request, now)

    def resume(self, ledger: ParentView, peer: Any, later: Any, now: float) -> Any:
        return self.end.resume(ledger, self._peer(peer), later, now)

    def _peer(self, peer: Any) -> Peer:
        return Peer(NodeId(peer.node), Tier(peer.role), peer.serial)


def open_parent(path: Path, children: Sequence[str]) -> ParentView:
    """A parent's ledger that knows these children."""
    ledger = Ledger.open(path, node=NodeId(PARENT), federation="test", options=Options(tier=Tier.CLOUD))
    with ledger.transaction():
        for child in children:
            ledger.enrol(NodeId(child), Tier.DEVICE, "01")
    return ParentView(ledger)


@contextmanager
def real_parent(folder: Path, children: Sequence[str], *, linger: float = 0.002, **options: Any) -> Iterator[Running]:
    """A gateway on loopback until the end of the block."""
    limits = GatewayLimits(requests_per_minute=1e6, bytes_per_minute=1e12, chunk=Limits().chunk)
    options.setdefault("settings", ServiceSettings("127.0.0.1", 0, admin_port=0, linger=linger, gateway=limits))
    with running(
        folder,
        open_ledger=lambda: open_parent(folder / "ledger.sqlite", children),
        handler=RealHandler(),
        poll=lambda ledger, topics: topics,
        **options,
    ) as gateway:
        yield gateway


def hello(node: str, head: int = 0, digest: str = EMPTY_DIGEST) -> bytes:
    return encode(
        Hello(PROTOCOL, PROTOCOL, "test", node, "device", "test", ("f32",), 0, head, bytes.fromhex(digest), "all")
    )


def ask(connection: Any, what: str, body: bytes, method: str = "POST") -> Any:
    """(status, headers, body)."""
    return post(connection, f"/v1/{what}", body, method)


def child_end(view: Any, node: str, seed: int) -> ChildEnd:
    return ChildEnd(view, NodeId(node), Tier.DEVICE, "test", "test 1", random.Random(seed))
