"""The gateway's process: sockets, signals, housekeeping, a drain that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from fedagg_edge.errors import StorageFull
from fedagg_edge.fleet.ends import Handler, Peer
from fedagg_edge.fleet.exits import Exit
from fedagg_edge.fleet.gateway import Gateway, GatewayLimits, Hook
from fedagg_edge.fleet.gateway_metrics import GatewayMetrics
from fedagg_edge.fleet.http1 import Answer, HttpConnection, Incoming
from fedagg_edge.fleet.listener import Listener, ListenerLimits, bind, small_tls_buffers, tell_why
from fedagg_edge.fleet.logs import Log, where
from fedagg_edge.fleet.metrics import MEDIA_TYPE, Registry
from fedagg_edge.fleet.notify import notify, watchdog_seconds
from fedagg_edge.fleet.peers import Connections
from fedagg_edge.fleet.writer import Store, Writer, WriterBusy, WriterStopped

__all__ = ["Doorbell", "Service", "ServiceSettings", "serve"]

L = TypeVar("L", bound=Store)

_READ = 5.0  # seconds beyond the drain's in which answers may be read; the supervisor waits for twenty in all
_PAT = 5.0  # seconds between signs of life at most: nearly all of what the supervisor allows is left to one operation


class Doorbell(Protocol):
    """Wake-ups from other processes (ledger/signal.py: Listener)."""

    def fileno(self) -> int: ...
    def topics(self) -> Collection[str]:
        """The topics that came in, without waiting."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Where to listen, and how much to take on. Port 0 picks one."""

    host: str
    port: int
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None  # plain HTTP for /metrics, /healthz, /readyz; None: not served
    group: int = 256  # operations a commit at most: what comes while a slow disk syncs
    linger: float = 0.002
    first_request_seconds: float = 15.0
    keepalive_seconds: float = 150.0
    connections_per_node: int = 4
    gateway: GatewayLimits = field(default_factory=GatewayLimits)
    listener: ListenerLimits = field(default_factory=ListenerLimits)
    metrics_files: tuple[Path, ...] = ()  # texts that other processes save; /metrics appends them


class Service(Generic[L]):
    """A gateway with its listener, writer and housekeeping: `start`, then `stop`; both in one event loop."""

    def __init__(
        self,
        settings: ServiceSettings,
        handler: Handler[L],
        open_ledger: Callable[[], L],
        context: Callable[[], ssl.SSLContext],
        identify: Callable[[Any], Peer | None],
        *,
        log: Log,
        is_allowed: Callable[[Peer], bool] = lambda peer: True,
        hooks: Mapping[str, Hook] | None = None,
        doorbell: Doorbell | None = None,
        poll: Callable[[L, frozenset[str]], Collection[str]] | None = None,
        chores: Sequence[tuple[float, Callable[[], Awaitable[None]]]] = (),
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """`context` is asked for each connection; `identify` reads the peer off a connection's ssl object. `poll` is
        asked once a second, in a transaction, for which of the waited-for topics have news: it stands in for wake-ups
        that were lost. `chores`: what else is done every so many seconds, beginning now. `ready`: what
        /readyz says, beside whether this drains."""
        small_tls_buffers()
        tell_why()
        self._settings, self._context, self._log, self._doorbell, self._poll = settings, context, log, doorbell, poll
        self._chores = chores
        self.registry = Registry()
        self.metrics = GatewayMetrics(self.registry)
        self.writer = Writer(open_ledger, group=settings.group, linger=settings.linger, on_group=self.metrics.committed)
        self.gateway = Gateway(
            handler,
            self.writer,
            connections=lambda: self.connections,
            is_allowed=is_allowed,
            hooks=hooks or {},
            limits=settings.gateway,
            metrics=self.metrics,
            log=log,
            ready=ready,
        )
        self.connections = Connections(
            self.gateway,
            quick=self.gateway.begin,
            identify=identify,
            limits=settings.listener,
            refused=self._count_refusal,
            per_node=settings.connections_per_node,
            keepalive=settings.keepalive_seconds,
        )
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._admin: asyncio.Server | None = None
        self.registry.gauge("fedagg_connections", "Connections open.", lambda: len(self.connections))
        self.registry.gauge("fedagg_waiting_polls", "Long polls that wait.", lambda: len(self.gateway.waiters))
        self.registry.gauge("fedagg_writer_queue", "Operations that wait for a commit.", lambda: self.writer.waiting)

    @property
    def port(self) -> int:
        """Where the gateway listens."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def admin_port(self) -> int:
        """Where /metrics is served."""
        return int(self._sockets[1].getsockname()[1])

    async def start(self) -> None:
        """Open the ledger, then listen; raises what either raised (OSError, the ledger's errors)."""
        settings = self._settings
        await self.writer.start()
        self._sockets = [bind(settings.host, settings.port)]
        self._listener = Listener(
            self._sockets[0],
            self.connections,
            self._context,
            settings.listener,
            self._count_refusal,
            full=self.connections.full,
        )
        self._listener.start()
        if settings.admin_port is not None:
            self._sockets.append(bind(settings.admin_host, settings.admin_port))
            self._admin = await asyncio.get_running_loop().create_server(
                lambda: HttpConnection(self._administer, keepalive=10.0), sock=self._sockets[1]
            )
        loop = asyncio.get_running_loop()
        if self._doorbell is not None:
            loop.add_reader(self._doorbell.fileno(), self._ring)
        self._tasks = [loop.create_task(self._every(1.0, self._look)), loop.create_task(self._every(2.0, self._cut))]
        self._tasks += [loop.create_task(self._every(seconds, work, now=True)) for seconds, work in self._chores]
        if (seconds := watchdog_seconds()) is not None:
            self._tasks.append(loop.create_task(self._every(min(seconds, _PAT), self._pat)))

    async def stop(self) -> bool:
        """Accept nothing more, answer what waits, commit what was taken, close; return whether all was answered."""
        loop = asyncio.get_running_loop()
        last = loop.time() + self._settings.gateway.drain_seconds + _READ
        await self._listener.stop()
        self.gateway.drain()
        self.connections.close_idle()
        complete = await self.gateway.finished()
        while self.connections.unread and loop.time() < last:  # what is left when the process ends is lost
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._doorbell is not None:
            loop.remove_reader(self._doorbell.fileno())
        self.connections.close()
        if self._admin is not None:
            self._admin.close()
        await self.writer.stop()
        return complete

    def metrics_text(self) -> str:
        """This process's metrics and those that others have saved."""
        texts = [self.registry.render()]
        for path in self._settings.metrics_files:
            with contextlib.suppress(OSError, UnicodeDecodeError):  # damaged: the rest is still true
                texts.append(path.read_text(encoding="utf-8"))
        return "".join(texts)

    async def _administer(self, request: Incoming) -> Answer:
        path = request.path.partition("?")[0]
        if path == "/metrics":
            return Answer(200, {"Content-Type": MEDIA_TYPE}, self.metrics_text().encode())
        if path in ("/healthz", "/readyz"):
            found = self.gateway.health(path)
            return Answer(found.status, {"Content-Type": found.media}, found.body)
        return Answer(404, {})

    def _count_refusal(self, reason: str) -> None:
        self.metrics.refused.add(1, reason)

    def _ring(self) -> None:
        assert self._doorbell is not None
        self.gateway.waiters.wake(self._doorbell.topics())

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]], *, now: bool = False) -> None:
        """Work again and again. An error that comes each time is told once, until it is over: some work is done every
        second, and only a person may be able to mend what is wrong."""
        told: str | None = None
        while True:
            if not now:
                await asyncio.sleep(seconds)
            now = False
            try:
                await work()
                told = None
            except Exception as error:
                said = f"{type(error).__name__} {where(error)}"
                if said != told:
                    self._log.failure("housekeeping_failed", error)
                told = said

    async def _look(self) -> None:
        topics = self.gateway.waiters.topics
        if self._poll is not None and topics:
            poll = self._poll
            self.gateway.waiters.wake(await self.writer.run(lambda ledger: poll(ledger, topics)))

    async def _cut(self) -> None:
        count = self.connections.cut(self.gateway.is_allowed, self._settings.first_request_seconds)
        for reason, number in count.items():
            if number:
                self.metrics.refused.add(number, reason)
                self._log.warning("connections_cut", reason=reason, count=number)

    async def _pat(self) -> None:
        """A sign of life that the writer's thread has given, too: a gateway without it takes requests and answers none.
        An error is one: the thread has answered."""
        groups = self.writer.groups
        try:
            await self.writer.run(_nothing)
        except WriterStopped:
            return
        except WriterBusy:  # its queue is full: it lives if it gets on with it
            await asyncio.sleep(_PAT)
            if self.writer.groups == groups:
                return
        except Exception as error:
            self._log.debug("housekeeping_failed", error=type(error).__name__)
        notify("WATCHDOG=1")


def _nothing(ledger: object) -> None:
    """An operation that shows that operations are run."""


SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(make: Callable[[], Service[Any]], log: Log, signals: Sequence[signal.Signals] = SIGNALS) -> Exit:
    """Run a service until a signal comes; the process's exit code. `make` is called inside the event loop."""
    return asyncio.run(_serve(make, log, signals))


async def _serve(make: Callable[[], Service[Any]], log: Log, signals: Sequence[signal.Signals]) -> Exit:
    asked = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    try:
        service = make()
        await service.start()
    except StorageFull as error:
        log.failure("start_failed", error)
        return Exit.STORAGE
    except OSError as error:  # the port is taken, or not allowed
        log.failure("start_failed", error)
        return Exit.TEMPORARY
    log.info("gateway_listens", port=service.port)
    notify("READY=1")
    await asked.wait()
    notify("STOPPING=1")
    log.info("gateway_stops")
    complete = await service.stop()
    log.info("gateway_stopped", finished=complete)
    return Exit.DONE if complete else Exit.TEMPORARY
