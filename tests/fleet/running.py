"""A real gateway on loopback in a thread, and raw requests to it."""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pki import Authority, identify
from threads import in_thread
from toy_ends import ToyHandler, ToyLedger

from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.serve import Service, ServiceSettings


@dataclass
class Running:
    service: Service[Any]
    loop: asyncio.AbstractEventLoop
    authority: Authority
    log: io.StringIO
    connections: list[http.client.HTTPSConnection] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.service.port

    def call(self, work: Callable[[], Any]) -> Any:
        """Run `work` in the gateway's thread."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def ask(self, operation: Callable[[Any], Any]) -> Any:
        """Run an operation on the gateway's ledger."""
        return asyncio.run_coroutine_threadsafe(self.service.writer.run(operation), self.loop).result(10)

    def connect(self, node: str | None = "device-1", role: str = "device") -> http.client.HTTPSConnection:
        """A connection that the fixture closes."""
        context = self.authority.client(node, role)
        self.connections.append(http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10))
        return self.connections[-1]


def post(
    connection: http.client.HTTPConnection, path: str, body: bytes = b"", method: str = "POST", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection.request(method, path, body or None, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


@contextmanager
def running(folder: Path, *, open_ledger: Callable[[], Any] | None = None, **options: Any) -> Iterator[Running]:
    """A service with the toy handler, stopped in the end."""
    authority = Authority(folder)
    context: ssl.SSLContext = authority.server()
    text = io.StringIO()
    settings = options.pop("settings", None) or ServiceSettings("127.0.0.1", 0, admin_port=0)
    handler = options.pop("handler", None) or ToyHandler()

    async def start() -> Running:
        service: Service[Any] = Service(
            settings,
            handler,
            open_ledger or (lambda: ToyLedger(folder / "ledger")),
            lambda: context,
            identify,
            log=Log(text, debug=True),
            **options,
        )
        await service.start()
        return Running(service, asyncio.get_running_loop(), authority, text)

    with in_thread(start, lambda made: made.service.stop()) as made:
        try:
            yield made
        finally:
            for connection in made.connections:
                connection.close()
