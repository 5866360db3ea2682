"""A real gateway with real identities on loopback, in a thread; what a server's process is, without the process."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threads import in_thread

from fedagg_edge.fleet import server
from fedagg_edge.fleet.config import FleetConfig, parse_fleet_config
from fedagg_edge.fleet.logs import Log
from fedagg_edge.records import Tier


@dataclass
class Serving:
    gateway: Any
    service: Any
    loop: asyncio.AbstractEventLoop
    log: io.StringIO
    config: FleetConfig

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.service.port}"

    def call(self, work: Any) -> Any:
        """Run a coroutine function in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(30)

    def ask(self, operation: Any) -> Any:
        """Run an operation on the gateway's ledger."""
        return asyncio.run_coroutine_threadsafe(self.service.writer.run(operation), self.loop).result(30)


def server_config(state: Path, tier: Tier, node: str, **more: Any) -> FleetConfig:
    """A server of federation ``fed`` whose state folder is `state`."""
    table: dict[str, Any] = {
        "federation": "fed",
        "node": {"id": node, "state": state.name, "model": "mlp"},
        "listen": {"host": "127.0.0.1", "port": 0},
        **more,
    }
    if tier is Tier.CLOUD:
        table |= {"classes": 3, "autoencoder": {"path": "autoencoder.safetensors"}}
    else:
        table.setdefault("parent", {"url": "https://127.0.0.1:1"})
    return parse_fleet_config(table, tier, base_dir=state.parent)


@contextmanager
def serving(config: FleetConfig, tier: Tier) -> Iterator[Serving]:
    """The gateway of `config`, stopped in the end."""
    text = io.StringIO()

    async def start() -> Serving:
        gateway = server._Gateway(config, tier, Log(text))
        service = gateway.service()
        await service.start()
        return Serving(gateway, service, asyncio.get_running_loop(), text, config)

    async def stop(made: Serving) -> None:
        await made.service.stop()
        made.service._doorbell.close()

    with in_thread(start, stop) as made:
        yield made
