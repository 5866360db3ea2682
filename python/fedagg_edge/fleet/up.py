"""A whole fleet on this machine, as real processes on loopback with TLS: for a first look, and for tests.

Lays one folder a node below the run's folder, founds a federation, enrols everybody with one-time tokens as an operator
would, starts the processes, and watches the cloud's metrics until it says that the training is over.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from fedagg_edge.autoencoder import artefact as autoencoders
from fedagg_edge.config import SimulationConfig
from fedagg_edge.errors import ConfigError, FedaggError
from fedagg_edge.fleet.plan import PlannedNode, plan
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation.build import obtain_autoencoder, read_data
from fedagg_edge.simulation.moves import choose
from fedagg_edge.simulation.progress import Progress
from fedagg_edge.tree import plant

__all__ = ["Fleet", "lay_out", "make_moves", "read_metrics", "run_fleet"]

_PATIENCE = 60.0  # seconds for a process to stop


@dataclass(slots=True)
class Fleet:
    """A fleet below `folder`; `processes` are running while it is up."""

    folder: Path
    nodes: list[PlannedNode]
    processes: dict[NodeId, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def cloud(self) -> PlannedNode:
        """The root."""
        return self.nodes[0]

    def home(self, node: PlannedNode) -> Path:
        """A node's folder: its configuration, its state, a device's private samples, its log."""
        return self.folder / node.place.id

    def start(self, node: PlannedNode) -> None:
        """Start a node's process; its log goes on where it was."""
        home, tier = self.home(node), node.place.tier
        with (home / "log.txt").open("ab") as log:
            self.processes[node.place.id] = subprocess.Popen(
                [sys.executable, "-m", "fedagg_edge", tier.value, "--config", str(home / f"{tier}.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise FedaggError if a process has ended by itself."""
        for name, process in self.processes.items():
            code = process.poll()
            if code is not None:
                said = (self.folder / name / "log.txt").read_text(errors="replace").strip().splitlines()
                last = said[-1] if said else "no message"
                raise FedaggError(f"{name} ended with exit code {code}: {last}; see {self.folder / name / 'log.txt'}")

    def stop(self) -> dict[NodeId, int]:
        """SIGTERM to all, devices first; their exit codes. Whoever does not stop in a minute is killed."""
        for node in reversed(self.nodes):
            process = self.processes.get(node.place.id)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.processes.clear()
        return codes


def lay_out(
    config: SimulationConfig,
    folder: Path,
    *,
    rounds: Mapping[str, Any],
    progress: Progress,
    knowledge: str | None = None,
    overwrite: bool = False,
) -> Fleet:
    """Write everything that a fleet's processes need. Raises ConfigError if the folder holds a run already."""
    if folder.exists():
        if not overwrite:
            raise ConfigError(f"{folder}: a fleet is there already; take --overwrite, or --out another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    dataset = read_data(config)
    autoencoders.save(obtain_autoencoder(config, dataset, progress), folder / "autoencoder.safetensors")
    np.savez(folder / "test.npz", x=dataset.test_x, y=dataset.test_y)
    parents = [p.id for p in plant(config.tree, config.seed).places.values() if p.children]
    with _free_ports(len(parents)) as free:
        ports = dict(zip(parents, free, strict=True))
    fleet = Fleet(folder, plan(config, dataset, ports, rounds=rounds, knowledge=knowledge))
    for node in fleet.nodes:
        _write_node(fleet, node)
    progress.stage(f"enrolling {len(fleet.nodes)} nodes")
    _found(fleet, config.name)
    return fleet


def _write_node(fleet: Fleet, node: PlannedNode) -> None:
    home = fleet.home(node)
    (home / "private").mkdir(parents=True) if node.private else home.mkdir()
    if node.private is not None:
        np.savez(home / "private" / "first.npz", x=node.private[0], y=node.private[1])
    (home / f"{node.place.tier}.toml").write_text(tomli_w.dumps(_without_none(node.table)), encoding="utf-8")


def _without_none(table: Any) -> Any:
    """TOML has no null: a key that is not given is left out."""
    if isinstance(table, Mapping):
        return {k: _without_none(v) for k, v in table.items() if v is not None}
    return table


def _found(fleet: Fleet, federation: str) -> None:
    """The operator's part: an authority, identities for the servers, one-time tokens for the devices."""
    authority = fleet.folder / "authority"
    _fedagg("pki", "init", str(authority), "--federation", federation)
    for node in fleet.nodes:
        place, home = node.place, fleet.home(node)
        if place.children:
            identity = home / "state" / "identity"
            identity.parent.mkdir(exist_ok=True)
            _fedagg(
                "pki", "server", str(authority), str(identity), "--node", place.id, "--role", place.tier.value,
                "--host", "127.0.0.1",
            )  # fmt: skip
        else:
            parent = next(n for n in fleet.nodes if n.place.id == place.parent)
            identity = fleet.home(parent) / "state" / "identity"
            token = _fedagg("pki", "token", str(identity), "--node", place.id)
            path = home / "token"
            path.touch(mode=0o600)
            path.write_text(token)


def _fedagg(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fedagg_edge", *words], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode != 0:
        raise FedaggError(f"fedagg {' '.join(words[:2])}: {done.stderr.strip().removeprefix('fedagg: ')}")
    return done.stdout.strip()


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Ports that are free now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]


def make_moves(fleet: Fleet, config: SimulationConfig) -> Callable[[int], list[NodeId]]:
    """What an operator would do: at each configured round, tell the devices that the simulator would move to move.

    The function gets the round that the cloud has finished and returns who was told. Who moves where is the same as in
    the simulator; the rounds that a device misses are those of the fleet, whatever `away` says.
    """
    tree = plant(config.tree, config.seed)
    due = sorted(enumerate(config.moves), key=lambda pair: pair[1].round)
    node_of = {n.place.id: n for n in fleet.nodes}

    def told(finished: int) -> list[NodeId]:
        nonlocal tree
        names: list[NodeId] = []
        while due and due[0][1].round <= finished + 1:
            number, move = due.pop(0)
            chosen = choose(tree, move, config.seed, number)
            tree = tree.moved(chosen)
            for device, parent in chosen.items():
                listen = node_of[parent].table["listen"]
                url = f"https://{listen['host']}:{listen['port']}"
                _fedagg("move", device, "--to", url, "--state", str(fleet.home(node_of[device]) / "state"))
            names += chosen
        return names

    return told


def run_fleet(fleet: Fleet, on_row: Callable[[Mapping[str, Any]], None], *, seconds: float = 3600.0) -> None:
    """Start all processes and wait until the cloud has finished; stop them all, whatever happens.

    `on_row` gets each of the cloud's rounds. Raises FedaggError if a process ends by itself or time runs out.
    """
    try:
        for node in fleet.nodes:
            fleet.start(node)
        seen, deadline = 0, time.monotonic() + seconds
        while True:
            rows = read_metrics(fleet, fleet.cloud)
            for row in rows[seen:]:
                on_row(row)
            seen = len(rows)
            if _is_over(fleet, rows):
                return
            fleet.check()
            if time.monotonic() > deadline:
                raise FedaggError(f"the cloud has made {len(rows)} rounds in {seconds:.0f} s; see {fleet.folder}")
            time.sleep(0.1)
    finally:
        fleet.stop()


def _is_over(fleet: Fleet, rows: list[dict[str, Any]]) -> bool:
    return bool(rows) and bool(rows[-1]["finished"])


def read_metrics(fleet: Fleet, node: PlannedNode) -> list[dict[str, Any]]:
    """The rounds that a node has finished; a line that is being written is left for the next time."""
    path = fleet.home(node) / "state" / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def tier_accuracy(fleet: Fleet, tier: Tier) -> float | None:
    """The mean of what the nodes of a tier measured last."""
    found = [read_metrics(fleet, n)[-1:] for n in fleet.nodes if n.place.tier is tier]
    scores = [rows[0]["accuracy"] for rows in found if rows and rows[0]["accuracy"] is not None]
    return float(np.mean(scores)) if scores else None
