"""Accepts TLS connections for an asyncio server: bounded in number, in handshakes at a time and in memory each.

asyncio's own server starts a handshake for whoever connects. Here a connection over a limit is closed before that costs
anything, and one that shakes hands or sends its first request too slowly is cut (slowloris).
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
from typing import Any

from fedagg_edge.errors import FedaggError

__all__ = ["Listener", "ListenerLimits", "bind", "small_tls_buffers", "tell_why", "unsent"]

TLS_BUFFER = 16 * 1024
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    connections: int = 4096
    connections_per_address: int = 4096  # a site's devices may all come from one address
    handshakes: int = 64
    handshake_seconds: float = 10.0


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
    """The accept loop. `context` is asked for each connection, so that a renewed certificate takes effect.

    `closed` must be called (by the protocol's owner) when a connection that `factory` made is lost.
    """

    def __init__(
        self,
        sockets: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext | None],
        limits: ListenerLimits,
        refused: Callable[[str], None],
    ) -> None:
        self._socket, self._factory, self._context = sockets, factory, context
        self._limits, self._refused = limits, refused
        self._per_address: Counter[str] = Counter()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Connections, those that shake hands included."""
        return self._per_address.total()

    def start(self) -> None:
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def stop(self) -> None:
        """Accept no more; let go of handshakes that have not ended."""
        tasks = [t for t in (self._accepting, *self._handshakes) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    def closed(self, address: str) -> None:
        """A connection from `address` is gone."""
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
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
            self._per_address[address[0]] += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(self._shake_hands(connection, address[0]))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def _over(self, address: str) -> str | None:
        if len(self) >= self._limits.connections:
            return "connections"
        if self._per_address[address] >= self._limits.connections_per_address:
            return "connections per address"
        if len(self._handshakes) >= self._limits.handshakes:
            return "handshakes"
        return None

    async def _shake_hands(self, connection: socket.socket, address: str) -> None:
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
            self.closed(address)
            connection.close()
        except asyncio.CancelledError:
            self.closed(address)
            connection.close()
            raise
