"""The connections of a gateway: whose each is, how many a node has, which to cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from fedagg_edge.fleet.ends import Peer

__all__ = ["Connections"]

Identify = Callable[[Any], Peer | None]


class _Connection:
    __slots__ = ("address", "made", "peer", "requests", "transport")

    def __init__(self, transport: asyncio.Transport, peer: Peer | None, address: str, made: float) -> None:
        self.transport, self.peer, self.address, self.made = transport, peer, address, made
        self.requests = 0


class Connections(web.Server):
    """An aiohttp server (requests go to `handler`) that knows the peer of each connection.

    `identify` reads the peer from the transport's ssl object, once a connection; `lost` is told the address of each
    connection that is gone. A node's oldest connection is closed when it opens one over `per_node`: after a partition
    the dead ones are the old ones.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Any],
        *,
        identify: Identify,
        lost: Callable[[str], None],
        per_node: int = 4,
        keepalive: float = 150.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=keepalive,
            auto_decompress=False,
            lingering_time=2.0,
            max_line_size=1024,
            max_field_size=1024,
            max_headers=32,
        )
        self._identify, self._lost, self._per_node, self._clock = identify, lost, per_node, clock
        self._known: dict[RequestHandler, _Connection] = {}
        self._of_node: dict[str, list[_Connection]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        peer = self._identify(transport.get_extra_info("ssl_object"))
        address = (transport.get_extra_info("peername") or ("",))[0]
        connection = self._known[handler] = _Connection(transport, peer, address, self._clock())
        if peer is not None:
            mine = self._of_node.setdefault(peer.node, [])
            mine.append(connection)
            if len(mine) > self._per_node:
                mine[0].transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        connection = self._known.pop(handler, None)
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

    def of(self, request: web.BaseRequest) -> _Connection:
        """The connection that a request came by."""
        return self._known[request.protocol]

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
