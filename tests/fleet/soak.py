"""Thousands of simulated devices at one real gateway, for many rounds: does its memory stay where it is?

    python tests/fleet/soak.py --clients 2000 --rounds 30 [--json]      ends with 1 if it does not

Every client is the protocol's own child end with its own certificate on its own mTLS connection, from another process;
nobody trains. A round: the parent publishes to all, each answers with knowledge of its own, all of it committed. The
gateway is a process of its own, whose resident memory is read after each round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from pki import Authority
from real_parent import CLASSES, PARENT, child_end, real_parent

from fedagg_edge.fleet.views import ParentView
from fedagg_edge.records import Embeddings, Knowledge, Link, LogitsFormat, NodeId, PackedLogits, SampleSet
from fedagg_edge.wire.child import Idle, KnowledgeArrived, Welcomed
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.state import EMPTY_DIGEST
from fedagg_edge.wire.tensors import dump_embeddings, dump_logits

ROWS, CODE_BYTES = 20, 64
WARM_UP = 4  # rounds until caches are full and every connection has carried something
GROWTH = 1.03  # of resident memory, at most
PATIENCE = 900.0  # seconds for all clients to connect, and for a round


def names(count: int) -> list[str]:
    return [f"d{i:05d}" for i in range(count)]


def knowledge(link: Link, publisher: NodeId, version: int, digest: str) -> Knowledge:
    value_NC = np.full((ROWS, CLASSES), version + len(publisher), np.float32)
    return Knowledge("test", link, publisher, version, digest, 0, PackedLogits(LogitsFormat.F32, value_NC))


# the gateway's process


def serve(folder: Path, count: int) -> None:
    """A gateway until stdin ends; each line of stdin is a version to publish to all."""
    children = [NodeId(name) for name in names(count)]

    def publish(version: int) -> Any:
        def operation(view: ParentView) -> int:
            for child in children:
                link = Link(child, NodeId(PARENT))
                known = knowledge(link, link.parent, version, view.head(child).digest)
                view.ledger.put_knowledge(known, version - 1, 0.0)
            return version

        return operation

    def answered(version: int) -> Any:
        def operation(view: ParentView) -> int:
            sql = "SELECT count(*) FROM knowledge WHERE publisher <> ? AND version = ?"
            return int(view.ledger.db.one(sql, (PARENT, version))[0])

        return operation

    with real_parent(folder, children) as gateway:
        tell({"port": gateway.port})
        for line in sys.stdin:
            version = int(line)
            gateway.ask(publish(version))
            gateway.call(lambda: gateway.service.gateway.waiters.wake(children))
            while gateway.ask(answered(version)) < count:
                time.sleep(0.05)
            waiting = gateway.call(lambda: len(gateway.service.connections))
            tell({"version": version, "rss": rss(), "connections": waiting, "ledger": size_of(folder)})


def tell(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def rss() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.glob("ledger.sqlite*"))


# the clients


@dataclass(frozen=True, slots=True)
class _Position:
    entry: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Kept:
    knowledge: Knowledge
    basis: int
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Batch:
    key: int
    kind: int
    rows: int
    size: int


@dataclass(slots=True)
class Memory:
    """A child's state without a file."""

    node: NodeId
    position: _Position = _Position(0, EMPTY_DIGEST)
    waiting: bytes = b""
    kept: dict[NodeId, _Kept] = field(default_factory=dict)

    def transaction(self) -> Any:
        return contextlib.nullcontext()

    def get(self, key: str) -> object:
        return None

    def joined(self) -> bool:
        return True  # it begins with its state, and never loses it

    def join(self) -> None:
        pass

    def acknowledged(self) -> _Position:
        return self.position

    def pending(self, limit: int) -> list[_Batch]:
        return [_Batch(1, 1, ROWS, len(self.waiting))] if self.waiting else []

    def batch_bytes(self, key: int) -> bytes:
        return self.waiting

    def split(self, rows: int, size: int) -> None:
        raise AssertionError("this parent takes entries as long as ours")

    def set_acknowledged(self, key: int, entry: int, digest: str) -> None:
        self.position, self.waiting = _Position(entry, digest), b""

    def follow(self, news: Any) -> None:
        raise AssertionError("this parent writes no entries")

    def fence(self) -> int:
        return 0

    def moving(self) -> None:
        return None

    def parent(self) -> None:
        return None

    def set_parent(self, parent: NodeId) -> None:
        pass  # it never moves

    def adoptions(self) -> tuple[()]:
        return ()

    def receipts(self) -> tuple[()]:
        return ()

    def newest(self, link: Link, publisher: NodeId) -> _Kept | None:
        return self.kept.get(publisher)

    def logits_bytes(self, stored: Any) -> bytes:
        return dump_logits(stored.knowledge.logits)

    def put_knowledge(self, known: Knowledge, basis: int) -> None:
        self.kept[known.publisher] = _Kept(known, basis)


@dataclass(slots=True)
class Client:
    """One simulated device."""

    name: str
    number: int
    port: int
    authority: Authority
    handshakes: asyncio.Semaphore
    committed: int = 0
    failures: int = 0

    async def run(self, over: asyncio.Event) -> None:
        """Do what the child end says until it is over."""
        node = NodeId(self.name)
        state = Memory(node)
        samples = SampleSet.of(node, np.arange(ROWS, dtype=np.uint64))
        code_NB = np.random.default_rng(self.number).integers(0, 256, (ROWS, CODE_BYTES), np.uint8)
        state.waiting = dump_embeddings(Embeddings(samples, code_NB, np.arange(ROWS) % CLASSES))
        end, line, now = child_end(state, self.name, self.number), None, asyncio.get_running_loop().time
        while not over.is_set():
            step = end.next(now())
            if isinstance(step, Idle):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), max(0.0, step.until - now()))
                continue
            try:
                line = line or await self._connect()
                response = await exchange(line, step)
            except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):
                self.failures += 1
                line = None
                end.failed(step, now())
                continue
            for event in end.receive(step, response, now()):
                if isinstance(event, KnowledgeArrived):  # what training would have come to
                    link = Link(node, NodeId(PARENT))
                    state.put_knowledge(knowledge(link, node, event.version, state.position.digest), event.version)
                elif isinstance(event, Welcomed):
                    self.committed += 1
        if line is not None:
            line[1].transport.abort()

    async def _connect(self) -> Any:
        async with self.handshakes:
            context = self.authority.client(self.name)
            return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, limit=1 << 18)


async def exchange(line: Any, request: Request) -> Response:
    """One HTTP exchange on an open connection."""
    reader, writer = line
    head = f"{request.method} {request.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request.body)}\r\n\r\n"
    writer.write(head.encode() + request.body)
    async with asyncio.timeout(75):
        raw = await reader.readuntil(b"\r\n\r\n")
        fields = dict(row.lower().split(b": ", 1) for row in raw.split(b"\r\n")[1:] if row)
        body = await reader.readexactly(int(fields[b"content-length"]))
    after = fields.get(b"retry-after")
    return Response(int(raw.split(b" ", 2)[1]), body, None if after is None else float(after))


# both


def soak(count: int, rounds: int, told: Any = lambda row: None) -> list[dict[str, Any]]:
    """Run it; what the gateway's process said after each round. Raises AssertionError if not all clients are let in, or
    if a round does not end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * count + 500)), hard))
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as made:
        (Path(made) / "clients").mkdir()
        command = [sys.executable, __file__, "--serve", made, "--clients", str(count)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            try:
                return asyncio.run(_drive(Path(made), server, count, rounds, told))
            finally:
                server.kill()


async def _drive(made: Path, server: Any, count: int, rounds: int, told: Any) -> list[dict[str, Any]]:
    async def said() -> dict[str, Any]:
        reading = asyncio.create_task(asyncio.to_thread(server.stdout.readline))
        done, _ = await asyncio.wait([reading], timeout=PATIENCE)
        if not done:
            server.kill()  # the thread that reads would be waited for, for ever
        line = await reading
        assert done, f"the gateway has said nothing for {PATIENCE:g} s"
        assert line, "the gateway has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    port = (await said())["port"]
    authority, over, handshakes = Authority.of(made), asyncio.Event(), asyncio.Semaphore(24)
    clients = [Client(name, i, port, authority, handshakes) for i, name in enumerate(names(count))]
    tasks = [asyncio.create_task(client.run(over)) for client in clients]
    rows = []
    deadline = time.monotonic() + PATIENCE
    while (here := sum(c.committed > 0 for c in clients)) < count:
        failures = sum(c.failures for c in clients)
        assert time.monotonic() < deadline, (
            f"{here} of {count} clients let in after {PATIENCE:g} s, {failures} failures"
        )
        await asyncio.sleep(0.1)
        for task in tasks:
            if task.done():
                task.result()
    await asyncio.sleep(1.0)  # their samples are there a moment after the welcome
    for version in range(rounds):
        began = time.perf_counter()
        server.stdin.write(f"{version}\n")
        server.stdin.flush()
        rows.append(
            await said() | {"seconds": time.perf_counter() - began, "failures": sum(c.failures for c in clients)}
        )
        told(rows[-1])
    over.set()
    await asyncio.gather(*tasks)
    return rows


def growth(rows: list[dict[str, Any]]) -> float:
    """The most resident memory in the second half of the rounds over that in the first, the warm-up left out: a large
    buffer that is there in one round and not in the next moves both alike."""
    steady = [row["rss"] for row in rows[WARM_UP:]]
    middle = len(steady) // 2
    return max(steady[middle:]) / max(steady[:middle])


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.rounds < WARM_UP + 2:
        parser.error(
            f"--rounds: got {args.rounds}, expected {WARM_UP + 2} or more: {WARM_UP} to warm up, two to compare"
        )
    if args.serve is not None:
        serve(args.serve, args.clients)
        return 0

    def show(row: dict[str, Any]) -> None:
        if not args.json:
            print(
                f"round {row['version']:>3}: {row['rss'] / 1e6:6.1f} MB resident, {row['connections']} connections, "
                f"ledger {row['ledger'] / 1e6:.1f} MB, {row['seconds']:.1f} s, {row['failures']} failures", flush=True
            )  # fmt: skip

    rows = soak(args.clients, args.rounds, show)
    ratio = growth(rows)
    figures = [
        ("soak_memory_growth", ratio, "ratio", f"<= {GROWTH}", ratio <= GROWTH),
        ("soak_memory", rows[-1]["rss"] / 1e6, "MB", None, None),
        ("soak_exchanges", args.clients * args.rounds / sum(r["seconds"] for r in rows), "1/s", None, None),
    ]
    for figure, value, unit, goal, holds in figures:
        if args.json:
            machine, date = platform.machine(), time.strftime("%Y-%m-%d", time.gmtime())
            row = {"figure": figure, "value": round(value, 4), "unit": unit, "goal": goal, "holds": holds}
            print(json.dumps(row | {"machine": machine, "date": date, "clients": args.clients, "rounds": args.rounds}))
        else:
            print(f"{figure}: {value:.4g} {unit}" + (f" (goal {goal})" if goal else ""))
    return 0 if ratio <= GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
