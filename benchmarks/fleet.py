"""What a fleet costs on one machine: CPU, latency, memory and bytes of a gateway; memory of a device; a fleet's round.

    python benchmarks/fleet.py              all of it, some 8 minutes on 2 cores that are otherwise idle
    python benchmarks/fleet.py --quick      fewer devices, seconds and rounds
    python benchmarks/fleet.py --json       one list of rows: figure, value, unit, goal, holds, machine, date

The gateway is the real process, on core 0; its clients are one thread (benchmarks/support/tls_load.py) on core 1,
beside a process that trains a ResNet-10 there meanwhile, as an edge's node loop would. An exchange carries knowledge of
222 samples x 10 classes both ways, over mTLS, committed before it is answered. CPU is user and system time of the
gateway, bytes are those on the TCP connection: TLS and HTTP headers included, TCP/IP's own not.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from support.board import board_config, equip_board, without_torch
from support.site import Site, make_site, resident
from support.tls_load import Connection, connect, drive

from fedagg_edge import load_config, simulate
from fedagg_edge.config import parse_config
from fedagg_edge.fleet.up import Fleet, lay_out, read_metrics, run_fleet
from fedagg_edge.records import LogitsFormat, NodeId
from fedagg_edge.simulation.progress import Silent

ROWS, CLASSES, HELLO, PATH = 222, 10, "/v1/hello", "/v1/exchange"
DEMO = Path(__file__).parents[1] / "examples" / "digits.toml"
Figure = tuple[str, float, str, float | None]  # name, value, unit, at most

_TRAIN = """
import torch
from fedagg_edge.learners.zoo import resnet10
torch.set_num_threads(1)
model = resnet10((1, 8, 8), 10, width=16, stem="small")
x, y = torch.rand(32, 1, 8, 8), torch.randint(0, 10, (32,))
while True:
    torch.nn.functional.cross_entropy(model(x), y).backward()
"""


def free_ports() -> tuple[int, int]:
    """Two ports that are free now."""
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


@contextmanager
def training(core: int) -> Iterator[None]:
    """A process that trains on this core meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", _TRAIN])
    os.sched_setaffinity(process.pid, {core})
    time.sleep(5)
    try:
        assert process.poll() is None, "the training process ended"
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def gateway(devices: int, form: LogitsFormat) -> Iterator[Site]:
    """A gateway on core 0, this process on the last one."""
    last = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as place:
        site = make_site(Path(place), devices=devices, ports=free_ports(), rows=ROWS, classes=CLASSES, form=form)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {last - 1})
        try:
            site.start(0)
            yield site
        finally:
            site.stop()
            os.sched_setaffinity(0, before)


def bytes_of_one(form: LogitsFormat) -> tuple[float, float]:
    """(up, down): bytes of one exchange on a connection that is open already."""
    with gateway(1, form) as site:
        node = NodeId("device-0")
        one = connect(node, site.port, site.credentials(node))
        drive([one], HELLO, lambda c, k: site.hello(node), rounds=1, period=0.05)
        one.sent = one.received = 0
        drive([one], PATH, lambda c, k: site.exchange(node, k), rounds=8, period=0.05)
        return one.sent / 8, one.received / 8


def crowd(devices: int, rounds: int) -> list[Figure]:
    """Many devices at one exchange a second, while the other core trains."""
    with gateway(devices, LogitsFormat.INT8) as site:
        empty = site.resident()
        nodes = [NodeId(f"device-{i}") for i in range(devices)]
        each = [connect(n, site.port, site.credentials(n)) for n in nodes]

        def body(one: Connection, k: int) -> bytes:
            return site.exchange(NodeId(one.name), first + k)

        first = 0
        drive(each, HELLO, lambda c, k: site.hello(NodeId(c.name)), rounds=1, period=max(1.0, devices / 500))
        drive(each, PATH, body, rounds=2, period=max(1.0, devices / 500))  # everybody has spoken
        idle = (site.resident() - empty) / devices
        first = 2
        with training((os.cpu_count() or 1) - 1):
            cpu, count = site.cpu(), site.metrics()
            latency = np.sort(drive(each, PATH, body, rounds=rounds, period=1.0))
            cpu, after = site.cpu() - cpu, site.metrics()
        commits = {name: after[name] - count.get(name, 0.0) for name in after if "commit_seconds" in name}
        soon = commits['fedagg_commit_seconds_bucket{le="0.01"}'] / commits["fedagg_commit_seconds_count"]
        operations = (after["fedagg_commit_operations_sum"] - count["fedagg_commit_operations_sum"]) / commits[
            "fedagg_commit_seconds_count"
        ]
        settled = (site.resident() - empty) / devices
    at = f"{devices} devices, 1 exchange/s each"
    return [
        (f"gateway CPU per exchange, {at}", 1e6 * cpu / len(latency), "us", 250.0),
        (f"share of the gateway's core, {at}", 100 * cpu / rounds, "%", 100.0),
        (f"latency, median, {at}", 1e3 * latency[len(latency) // 2], "ms", None),
        (f"latency, p99, {at}", 1e3 * latency[int(0.99 * len(latency))], "ms", 150.0),
        ("commits that took over 10 ms", 100 * (1 - soon), "%", None),
        ("exchanges a commit", operations, "", None),
        (f"gateway memory per idle mTLS connection, of {devices}", idle / 1024, "KB", 128.0),
        ("the same after the exchanges", settled / 1024, "KB", None),
    ]


class Rounds(Silent):
    """Notes when each round ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def finished(self, number: int, text: str) -> None:
        self.ended.append(time.perf_counter())

    def mean(self) -> float:
        """Seconds a round, without the first, in which everything is made."""
        return (self.ended[-1] - self.ended[0]) / (len(self.ended) - 1)


def round_times(rounds: int) -> list[Figure]:
    """Seconds a round of the demo: in one process, and as a fleet of 16 on loopback."""
    raw = msgspec.to_builtins(load_config(DEMO))
    base_dir = raw.pop("base_dir")
    fixed = {"rounds": rounds, "schedule": "snapshot", "checkpoint_every": rounds}
    config = parse_config({**raw, **fixed, "evaluation": {"references": False, "devices": 1}}, base_dir=base_dir)
    with tempfile.TemporaryDirectory() as place:
        clock = Rounds()
        simulate(config, out=Path(place) / "one", overwrite=True, progress=clock)
        alone = clock.mean()
        clock = Rounds()
        fleet = lay_out(config, Path(place) / "many", rounds={"mode": "sync", "target": rounds}, progress=Silent())
        run_fleet(fleet, lambda row: clock.finished(row["version"], ""))
        many = clock.mean()
    return [
        ("the demo's round in one process", alone, "s", None),
        ("the demo's round as a fleet on loopback", many, "s", None),
        ("fleet's round against one process", many / alone, "x", 1.3),
    ]


def board_memory() -> list[Figure]:
    """Resident memory of a device agent that cannot import torch: before it has samples, when nothing has made it load
    its engine; with the engine that took its samples in, when no round can begin as the cloud stands still; and after
    its rounds."""
    with tempfile.TemporaryDirectory() as place:
        fleet = lay_out(
            parse_config(board_config(3, 24)), Path(place) / "fleet", rounds={"target": 3}, progress=Silent()
        )
        device = fleet.nodes[-1]
        home, blocked = fleet.home(device), without_torch(Path(place) / "blocked")
        equip_board(fleet, home, 24)
        (home / "private" / "first.npz").rename(home / "later.npz")
        usual = os.environ.get("PYTHONPATH")
        for node in fleet.nodes:
            os.environ["PYTHONPATH"] = str(blocked) if node is device else usual or ""
            fleet.start(node)
        try:
            while "artefact_kept" not in (home / "log.txt").read_text():  # enrolled, connected, and nothing to do
                fleet.check()
                time.sleep(1)
            time.sleep(15)
            pid = fleet.processes[device.place.id].pid
            assert not maps_runtime(pid), "the agent has loaded its engine, so this is no idle figure"
            idle = resident(pid)
            with stopped(fleet.processes[fleet.cloud.place.id].pid):
                (home / "later.npz").rename(home / "private" / "first.npz")
                time.sleep(25)  # a look for samples every 5 s, and memory given back every 10 s
                assert maps_runtime(pid), "the agent has not loaded its engine"
                assert not read_metrics(fleet, device), "the agent has trained"
                loaded = resident(pid)
            run_fleet_on(fleet)
            assert len(read_metrics(fleet, device)) == 3, "the agent did not train on TFLite"
            trained = resident(pid)
        finally:
            fleet.stop()
    return [
        ("device agent, connected, no samples, engine not loaded, memory", idle / 1e6, "MB", 45.0),
        ("device agent, engine loaded, no round yet, memory", loaded / 1e6, "MB", 55.0),
        ("device agent after three rounds on TFLite, memory", trained / 1e6, "MB", 55.0),
    ]


@contextmanager
def stopped(supervisor: int) -> Iterator[None]:
    """The processes of an edge or the cloud stand still for the body."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    processes = [supervisor, *map(int, children)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def maps_runtime(pid: int) -> bool:
    """Whether a process has a TFLite runtime in its memory."""
    return "litert" in Path(f"/proc/{pid}/maps").read_text() or "tflite" in Path(f"/proc/{pid}/maps").read_text()


def run_fleet_on(fleet: Fleet) -> None:
    """Wait until the cloud has finished, and a little more."""
    for _ in range(1200):
        rows = read_metrics(fleet, fleet.cloud)
        if rows and rows[-1]["finished"]:
            time.sleep(3)
            return
        fleet.check()
        time.sleep(0.1)
    raise SystemExit(f"no end after two minutes; see {fleet.folder}")


def measure(quick: bool) -> Iterator[Figure]:
    for form, goal in ((LogitsFormat.INT8, 3.4), (LogitsFormat.F32, 9.8)):
        up, down = bytes_of_one(form)
        yield f"bytes on the wire per exchange, up, {form.value}", up / 1000, "KB", goal
        yield f"bytes on the wire per exchange, down, {form.value}", down / 1000, "KB", goal
    yield from crowd(100 if quick else 1000, 5 if quick else 30)
    yield from board_memory()
    yield from round_times(3 if quick else 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    rows = []
    for name, value, unit, goal in measure(args.quick):
        holds = None if goal is None else bool(value <= goal)
        rows.append({"figure": name, "value": float(value), "unit": unit, "goal": goal, "holds": holds, **about})
        if not args.json:
            print(f"{name:70} {value:9.2f} {unit}{'' if goal is None else f'   at most {goal:g}'}", flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
