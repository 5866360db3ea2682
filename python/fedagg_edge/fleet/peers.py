"""The connections of a gateway: whose each is, how many a node and those without a certificate have, which to cut."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fedagg_edge.fleet.ends import Peer
from fedagg_edge.fleet.http1 import Answer, HttpConnection, Incoming, Quick
from fedagg_edge.fleet.listener import ListenerLimits

__all__ = ["Connection", "Connections"]

Identify = Callable[[Any], Peer | None]


class Connection:
    """One of them: where it comes from, since when, and how many requests it has brought."""

    __slots__ = ("address", "made", "peer", "requests", "transport")

    def __init__(self, transport: asyncio.Transport, peer: Peer | None, address: str, made: float) -> None:
        self.transport, self.peer, self.address, self.made = transport, peer, address, made
        self.requests = 0


class Connections:
    """Makes a protocol for each connection (requests go to `handler`) and knows its peer.

    `identify` reads the peer from the transport's ssl object, once a connection. A node's oldest connection is closed
    when it opens one over `per_node`: after a partition the dead ones are the old ones. Those without a certificate
    have a share of their own, an address and all of them, and take none of the nodes': `refused` is told of each
    connection that is ended for want of room.
    """

    def __init__(
        self,
        handler: Callable[[Incoming], Coroutine[Any, Any, Answer]],
        *,
        quick: Quick = lambda request, finish: False,
        identify: Identify,
        limits: ListenerLimits | None = None,
        refused: Callable[[str], None] = lambda reason: None,
        per_node: int = 4,
        keepalive: float = 150.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler, self._quick, self._keepalive = handler, quick, keepalive
        self._identify, self._refused, self._per_node, self._clock = identify, refused, per_node, clock
        self._limits = limits or ListenerLimits()
        self._known: dict[HttpConnection, Connection] = {}
        self._of_node: dict[str, list[Connection]] = {}
        self._nodes_at: Counter[str] = Counter()  # connections with a certificate, by address
        self._nodes = 0  # their sum
        self._strangers: dict[HttpConnection, Connection] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self) -> HttpConnection:
        """The protocol of a new connection."""
        return HttpConnection(
            self._handler, quick=self._quick, keepalive=self._keepalive, made=self._made, lost=self._gone
        )

    def full(self, address: str) -> str | None:
        """Why no node from `address` can be taken in now, if that is so."""
        if self._nodes >= self._limits.connections:
            return "connections"
        if self._nodes_at[address] >= self._limits.connections_per_address:
            return "connections per address"
        return None

    def _made(self, protocol: HttpConnection, transport: asyncio.Transport) -> None:
        peer = self._identify(transport.get_extra_info("ssl_object"))
        address = (transport.get_extra_info("peername") or ("",))[0]
        connection = Connection(transport, peer, address, self._clock())
        if peer is not None and (reason := self.full(address)) is not None:  # others were faster to shake hands
            self._refused(reason)
            protocol.abort()
            return
        self._known[protocol] = connection
        if peer is None:
            self._strangers[protocol] = connection
            self._bound_strangers(address)
            return
        self._nodes += 1
        self._nodes_at[address] += 1
        mine = self._of_node.setdefault(peer.node, [])
        mine.append(connection)
        if len(mine) > self._per_node:
            mine[0].transport.abort()

    def _bound_strangers(self, address: str) -> None:
        """End one if the newest, from `address`, is one too many: there, or, if it is so in all, where most are. The
        first that has asked for nothing yet goes: who enrols asks at once, and its answer is on its way."""
        count = Counter(c.address for c in self._strangers.values())
        if count[address] <= self._limits.strangers_per_address:
            if len(self._strangers) <= self._limits.strangers:
                return
            address = count.most_common(1)[0][0]
        crowd = [p for p, c in self._strangers.items() if c.address == address]
        ended = next((p for p in crowd if self._strangers[p].requests == 0), crowd[-1])
        del self._strangers[ended]
        self._refused("strangers")
        ended.abort()

    def _gone(self, protocol: HttpConnection) -> None:
        connection = self._known.pop(protocol, None)
        self._strangers.pop(protocol, None)
        if connection is None or connection.peer is None:
            return
        self._nodes -= 1
        self._nodes_at[connection.address] -= 1
        if not self._nodes_at[connection.address]:
            del self._nodes_at[connection.address]
        mine = self._of_node[connection.peer.node]
        mine.remove(connection)
        if not mine:
            del self._of_node[connection.peer.node]

    def nodes(self) -> frozenset[str]:
        """Those that are connected; may be called from any thread."""
        return frozenset(tuple(self._of_node))

    def of(self, request: Incoming) -> Connection:
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
