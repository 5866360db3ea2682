"""The connections of a gateway: whose each is, how many a node has, which to cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fedagg_edge.fleet.ends import Peer
from fedagg_edge.fleet.http1 import Answer, HttpConnection, Incoming, Quick

__all__ = ["Connections"]

Identify = Callable[[Any], Peer | None]


class _Connection:
    __slots__ = ("address", "made", "peer", "requests", "transport")

    def __init__(self, transport: asyncio.Transport, peer: Peer | None, address: str, made: float) -> None:
        self.transport, self.peer, self.address, self.made = transport, peer, address, made
        self.requests = 0


class Connections:
    """Makes a protocol for each connection (requests go to `handler`) and knows its peer.

    `identify` reads the peer from the transport's ssl object, once a connection; `lost` is told the address of each
    connection that is gone. A node's oldest connection is closed when it opens one over `per_node`: after a partition
    the dead ones are the old ones.
    """

    def __init__(
        self,
        handler: Callable[[Incoming], Coroutine[Any, Any, Answer]],
        *,
        quick: Quick = lambda request, finish: False,
        identify: Identify,
        lost: Callable[[str], None],
        per_node: int = 4,
        keepalive: float = 150.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler, self._quick, self._keepalive = handler, quick, keepalive
        self._identify, self._lost, self._per_node, self._clock = identify, lost, per_node, clock
        self._known: dict[HttpConnection, _Connection] = {}
        self._of_node: dict[str, list[_Connection]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self) -> HttpConnection:
        """The protocol of a new connection."""
        return HttpConnection(
            self._handler, quick=self._quick, keepalive=self._keepalive, made=self._made, lost=self._gone
        )

    def _made(self, protocol: HttpConnection, transport: asyncio.Transport) -> None:
        peer = self._identify(transport.get_extra_info("ssl_object"))
        address = (transport.get_extra_info("peername") or ("",))[0]
        connection = self._known[protocol] = _Connection(transport, peer, address, self._clock())
        if peer is not None:
            mine = self._of_node.setdefault(peer.node, [])
            mine.append(connection)
            if len(mine) > self._per_node:
                mine[0].transport.abort()

    def _gone(self, protocol: HttpConnection) -> None:
        connection = self._known.pop(protocol, None)
        if connection is None:
            return
        self._lost(connection.address)
        if connection.peer is not None:
            mine = self._of_node[connection.peer.node]
            mine.remove(connection)
            if not mine:
                del self._of_node[connection.peer.node]

    def nodes(self) -> frozenset[str]:
        """Those that are connected; may be called from any thread."""
        return frozenset(tuple(self._of_node))

    def of(self, request: Incoming) -> _Connection:
        """The connection that a request came by."""
        return self._known[request.connection]

    def close_idle(self) -> None:
        """Close those on which nothing is being answered."""
        for protocol in tuple(self._known):
            if protocol.is_idle:
                protocol.close()

    def close(self) -> None:
        """Close all; requests that are not answered yet are given up."""
        for protocol in tuple(self._known):
            protocol.close()

    @property
    def unread(self) -> int:
        """Bytes of answers that wait for their clients to read."""
        return sum(protocol.unread for protocol in self._known)

    def cut(self, is_allowed: Callable[[Peer], bool], first_request: float) -> dict[str, int]:
        """Abort the connections of peers that are no longer allowed, and those that have not sent a request
        within `first_request` seconds; return how many of each reason."""
        now = self._clock()
        count = {"revoked": 0, "slow": 0}
        for connection in tuple(self._known.values()):
            if connection.peer is not None and not is_allowed(connection.peer):
                count["revoked"] += 1
            elif connection.requests == 0 and now - connection.made > first_request:
                count["slow"] += 1
            else:
                continue
            connection.transport.abort()
        return count
