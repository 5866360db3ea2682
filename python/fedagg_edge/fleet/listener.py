"""Accepts TLS connections for an asyncio server: bounded in number, in handshakes at a time and in memory each.

asyncio's own server starts a handshake for whoever connects. Here a connection over a limit is closed before that costs
anything, and one that shakes hands or sends its first request too slowly is cut (slowloris). Who has a certificate
shows only at a handshake's end: when all that may go on at a time do, one of them makes room, so that strangers who
begin them and say nothing keep no node out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from asyncio import sslproto
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fedagg_edge.errors import FedaggError

__all__ = ["Listener", "ListenerLimits", "bind", "small_tls_buffers", "tell_why", "unsent"]

TLS_BUFFER = 16 * 1024
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """How many at a time. Those without a certificate have bounds of their own: they take no room of a node's, also
    where they come from its address, as behind one NAT."""

    connections: int = 4096  # of nodes
    connections_per_address: int = 4096  # a site's devices may all come from one address
    strangers: int = 256  # who enrols or renews, and who should not be here
    strangers_per_address: int = 64
    handshakes: int = 64
    handshake_seconds: float = 10.0
    handshake_patience: float = 2.0  # after so many one of another address may take its place
    handshake_patience_same: float = 8.0  # or one of its own: many slow ones of a site are no attack


def small_tls_buffers() -> None:
    """Let TLS connections of this process preallocate 16 KiB (a TLS record) instead of asyncio's 256 KiB each, and take
    64 KiB instead of 256 while nothing is read of them: who pipelines gets all of that parsed at once."""
    sslproto.SSLProtocol.max_size = TLS_BUFFER
    sslproto.constants.FLOW_CONTROL_HIGH_WATER_SSL_READ = 4 * TLS_BUFFER // 1024  # type: ignore[attr-defined]


def tell_why() -> None:
    """Let TLS servers of this process send the alert that says why they refuse a client: asyncio keeps it to itself,
    and a node whose certificate has expired would see a connection that breaks, and not know that it is to renew."""
    if getattr(sslproto.SSLProtocol._fatal_error, "tells_why", False):
        return
    end = sslproto.SSLProtocol._fatal_error

    def fatal_error(self: Any, error: BaseException, message: str = "Fatal error on transport") -> None:
        with contextlib.suppress(AttributeError, OSError, ssl.SSLError):
            if alert := self._outgoing.read():
                self._transport.write(alert)
        end(self, error, message)

    fatal_error.tells_why = True  # type: ignore[attr-defined]
    sslproto.SSLProtocol._fatal_error = fatal_error  # type: ignore[assignment,method-assign]


def unsent(transport: asyncio.WriteTransport) -> int:
    """Bytes that were written and that the kernel has not taken. asyncio's TLS hands all to the TCP transport below, at
    once and whatever that can take, and counts what is still its own."""
    if getattr(transport, "_ssl_protocol", transport) is None:  # it was closed twice, and has let go of all
        return 0
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return transport.get_write_buffer_size() + (0 if below is None else below.get_write_buffer_size())


def bind(host: str, port: int) -> socket.socket:
    """A listening, non-blocking TCP socket; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=False)
    listener.setblocking(False)
    return listener


class Listener:
    """The accept loop. `context` is asked for each connection, so that a renewed certificate takes effect; `full` says
    why not even a node from an address could be taken in now.
    """

    def __init__(
        self,
        sockets: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext | None],
        limits: ListenerLimits,
        refused: Callable[[str], None],
        *,
        full: Callable[[str], str | None] = lambda address: None,
    ) -> None:
        self._socket, self._factory, self._context = sockets, factory, context
        self._limits, self._refused, self._full = limits, refused, full
        self._handshakes: dict[asyncio.Task[None], tuple[str, float]] = {}  # address, since when; the oldest first
        self._unbegun: set[socket.socket] = set()  # which asyncio does not own yet
        self._accepting: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Handshakes that go on."""
        return len(self._handshakes)

    def start(self) -> None:
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def stop(self) -> None:
        """Accept no more; let go of handshakes that have not ended."""
        tasks = [t for t in (self._accepting, *self._handshakes) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if len(self._handshakes) >= self._limits.handshakes:
                await asyncio.sleep(0)  # they get on, and those that were ended end, however many wait to be taken in
            try:
                connection, address = await loop.sock_accept(self._socket)
            except OSError:  # out of file descriptors, or the client has gone
                self._refused("accept")
                await asyncio.sleep(0.1)
                continue
            if (reason := self._over(address[0])) is not None:
                self._refused(reason)
                connection.close()
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._unbegun.add(connection)
            task = loop.create_task(self._shake_hands(connection))
            self._handshakes[task] = address[0], loop.time()
            task.add_done_callback(partial(self._shaken, connection))

    def _shaken(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)
        if connection in self._unbegun:  # cancelled before that
            self._unbegun.discard(connection)
            connection.close()

    def _over(self, address: str) -> str | None:
        """Why a connection is not taken in, if it is not."""
        if (reason := self._full(address)) is not None:
            return reason
        if len(self._handshakes) >= self._limits.handshakes and not self._make_room(address):
            return "handshakes"
        return None

    def _make_room(self, address: str) -> bool:
        """End a handshake for a newcomer from `address`: of the address that has most of them the oldest, if it takes
        long, or else the newest, which is the newcomer where these are its own: after an outage all nodes of a site
        come at once, and none would ever end. Over slow links each takes seconds, so that among these only one that
        has little time left takes long."""
        count = Counter(a for a, _ in self._handshakes.values())
        crowded = address if count[address] == max(count.values()) else count.most_common(1)[0][0]
        crowd = [task for task, (a, _) in self._handshakes.items() if a == crowded]
        same = crowded == address
        patience = self._limits.handshake_patience_same if same else self._limits.handshake_patience
        long = asyncio.get_running_loop().time() - self._handshakes[crowd[0]][1] > patience
        if same and not long:
            return False
        ended = crowd[0] if long else crowd[-1]
        del self._handshakes[ended]
        ended.cancel()
        self._refused("handshakes")
        return True

    async def _shake_hands(self, connection: socket.socket) -> None:
        self._unbegun.discard(connection)
        try:
            context = self._context()
            limit = self._limits.handshake_seconds if context is not None else None
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory,
                connection,
                ssl=context,
                ssl_handshake_timeout=limit,
                ssl_shutdown_timeout=2.0 if context is not None else None,
            )
        except (TimeoutError, OSError, ssl.SSLError, FedaggError):
            self._refused("handshake")
            connection.close()
