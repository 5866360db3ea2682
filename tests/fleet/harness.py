"""Whole fleets for tests: real processes on loopback over TLS, restarted by hand, their faults chosen by the test."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tomli_w
from proxy import Proxy

from fedagg_edge import checkpoint, simulate
from fedagg_edge.config import SimulationConfig, parse_config, read_toml
from fedagg_edge.fleet import moving, up, weights
from fedagg_edge.fleet.plan import PlannedNode
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Link, NodeId, Tier
from fedagg_edge.simulation.progress import Silent

HERE = Path(__file__).parent


def experiment(rounds: int = 4, devices: int = 2, edges: int = 1, **changes: Any) -> SimulationConfig:
    """What both the simulator and a fleet run: no torch in any process of the fleet."""
    return parse_config(table(rounds, devices, edges) | changes, base_dir=HERE)


def table(rounds: int, devices: int = 2, edges: int = 1) -> dict[str, Any]:
    """The same in the shape of its TOML."""
    return {
        "name": "small",
        "rounds": rounds,
        "schedule": "snapshot",
        "data": {"source": "softmax:blobs"},
        "partition": {"rule": "iid"},
        "autoencoder": {"epochs": 1, "embedding_channels": 1},
        "tree": {
            "model": "softmax",
            "children": [{"model": "softmax", "count": edges, "children": [{"model": "softmax", "count": devices}]}],
        },
        "models": {"softmax": {"builder": "softmax"}},
        "training": {"engine": "softmax:make_learner", "learning_rate": 0.05},
        "evaluation": {"references": False},
    }


def lay_out(
    config: SimulationConfig,
    folder: Path,
    *,
    mode: str = "sync",
    change: Callable[[PlannedNode, dict[str, Any]], None] | None = None,
    **rounds: Any,
) -> up.Fleet:
    """A fleet that is ready to start. `change` may edit each node's table before anything runs."""
    rounds = {"mode": mode, "target": config.rounds, "deadline": 600.0, **rounds}
    fleet = up.lay_out(config, folder, rounds=rounds, progress=Silent())
    for node in fleet.nodes:
        edit(fleet, node, lambda table, node=node: change and change(node, table))
    return fleet


def config_path(fleet: up.Fleet, node: PlannedNode) -> Path:
    return fleet.home(node) / f"{node.place.tier}.toml"


def edit(fleet: up.Fleet, node: PlannedNode, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a node's configuration file."""
    table = read_toml(config_path(fleet, node))
    change(table)
    config_path(fleet, node).write_text(tomli_w.dumps(table), encoding="utf-8")


@contextmanager
def proxied(fleet: up.Fleet, make: Callable[[str, int], Proxy]) -> Iterator[dict[str, Proxy]]:
    """A proxy in front of each node that has a parent: ``make(child, the parent's port)``."""
    proxies: dict[str, Proxy] = {}
    try:
        for node in fleet.nodes:
            if node.place.parent is None:
                continue
            name = str(node.place.id)

            def redirect(table: dict[str, Any], name: str = name) -> None:
                port = int(table["parent"]["url"].rpartition(":")[2])
                proxies[name] = make(name, port)
                table["parent"]["url"] = f"https://127.0.0.1:{proxies[name].port}"

            edit(fleet, node, redirect)
        yield proxies
    finally:
        for proxy in proxies.values():
            proxy.close()


def wait_for(what: Callable[[], Any], fleet: up.Fleet, why: str, *, seconds: float = 240.0) -> Any:
    """Look until `what` is true; the bound is for a test that hangs, not a claim about speed."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        fleet.check()
        if time.monotonic() > deadline:
            raise AssertionError(f"{why}: not within {seconds:.0f} s; {tails(fleet)}")
        time.sleep(0.05)
    return found


def tails(fleet: up.Fleet, lines: int = 6) -> str:
    """The ends of all logs, for a test that failed."""
    found = []
    for path in sorted(fleet.folder.glob("*/*.txt")):
        last = path.read_text(errors="replace").splitlines()[-lines:]
        found.append(f"\n[{path.parent.name}/{path.name}]\n" + "\n".join(last))
    return "".join(found)


def rounds_done(fleet: up.Fleet, node: PlannedNode | None = None) -> int:
    """How many rounds a node (the cloud) has told of."""
    return len(up.read_metrics(fleet, node or fleet.cloud))


def is_over(fleet: up.Fleet) -> bool:
    rows = up.read_metrics(fleet, fleet.cloud)
    return bool(rows) and bool(rows[-1]["finished"])


def settled(fleet: up.Fleet, rounds: int) -> bool:
    """Whether every node has finished all rounds: the cloud may be ahead of the devices by one."""
    return all(weights.newest_version(fleet.home(n) / "state" / "weights") == rounds - 1 for n in fleet.nodes)


def ledger_of(fleet: up.Fleet, node: PlannedNode) -> Ledger:
    """A node's ledger, to read; also while its processes run."""
    return Ledger.open(
        fleet.home(node) / "state" / "ledger.sqlite",
        node=node.place.id,
        federation=str(read_toml(config_path(fleet, node))["federation"]),
        options=Options(tier=node.place.tier),
        read_only=True,
    )


def state(fleet: up.Fleet) -> dict[str, Any]:
    """What must be the same whatever happened on the way: sample sets, labels and codes of each link, versions of
    knowledge and their logits, round counters, weights."""
    return {str(node.place.id): _state(fleet, node) for node in fleet.nodes}


def _state(fleet: up.Fleet, node: PlannedNode) -> dict[str, Any]:
    ledger = ledger_of(fleet, node)
    found: dict[str, Any] = {"waiting": len(ledger.pending()), "links": {}, "knowledge": {}}
    for (child,) in ledger.db.all("SELECT child FROM links WHERE head > 0 ORDER BY child"):
        if not len(ledger.samples(NodeId(child))):  # all went elsewhere, or were forgotten
            found["links"][child] = {"samples": {}, "labels": [], "codes": ""}
            continue
        rows = ledger.embeddings(NodeId(child))
        found["links"][child] = {
            "samples": {o: c.tolist() for o, c in zip(rows.samples.origins, rows.samples.counters, strict=True)},
            "labels": rows.label_N.tolist(),
            "codes": rows.code_NB.tobytes().hex(),
        }
    for child, parent, publisher in ledger.db.all("SELECT DISTINCT child, parent, publisher FROM knowledge"):
        newest = ledger.newest(Link(NodeId(child), NodeId(parent)), NodeId(publisher))
        if newest is not None:
            k = newest.knowledge
            found["knowledge"][f"{child}>{parent}:{publisher}"] = (k.version, newest.basis, k.logits.value_NC.tolist())
    found["kept"] = _kept(ledger)
    ledger.close()
    saved, problems = weights.load_newest(fleet.home(node) / "state" / "weights")
    assert problems == [], problems  # no test module: pytest does not show it
    found["version"] = -1 if saved is None else saved.version
    found["weights"] = [] if saved is None else saved.state.weights.tolist()
    # a pass while the parent is away is told beside, under the version that the node has
    found["rounds"] = [row["version"] for row in up.read_metrics(fleet, node) if "offline" not in row]
    return found


def kept_knowledge(fleet: up.Fleet) -> dict[str, Any]:
    """Of `state` what `knowledge_apart` compares; also while the fleet runs."""
    found = {}
    for node in fleet.nodes:
        ledger = ledger_of(fleet, node)
        found[str(node.place.id)] = {"kept": _kept(ledger)}
        ledger.close()
    return found


def _kept(ledger: Ledger) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for child, parent, publisher, *content in ledger.db.all(
        f"SELECT child, parent, publisher, {', '.join(_CONTENT)} FROM knowledge"
    ):
        version, *rest = content
        found.setdefault(f"{child}>{parent}:{publisher}", {})[version] = None if rest[-1] is None else tuple(rest)
    return found


_CONTENT = ("version", "basis", "digest", "view_seed", "format", "rows", "classes", "logits")


def knowledge_apart(nodes: Sequence[PlannedNode], found: Mapping[str, Any], behind: int) -> list[str]:
    """Where the two ends of a link do not have the same knowledge, by what `state` found: a version that nobody gave or
    that did not come, or one with two contents. `behind`: how many of the newest may still be on their way."""
    wrong = []
    for node in nodes:
        if node.place.parent is None:
            continue
        child, parent = str(node.place.id), str(node.place.parent)
        for giver, taker in ((child, parent), (parent, child)):
            link = f"{child}>{parent}:{giver}"
            given, came = (found[end]["kept"].get(link, {}) for end in (giver, taker))
            newest, last = max(given, default=-1), max(came, default=-1)
            if newest < 0 or not newest - behind <= last <= newest:
                wrong.append(f"{link}: {giver} gave version {newest}, {taker} has {last}")
            both = [v for v in sorted(given.keys() & came.keys()) if None not in (given[v], came[v])]
            wrong += [f"{link}: version {v} has two contents" for v in both if given[v] != came[v]]
    return wrong


def simulated(config: SimulationConfig, fleet: up.Fleet, out: Path) -> dict[str, Any]:
    """The weights of all nodes after the simulator ran the same experiment with the same autoencoder."""
    raw = msgspec.to_builtins(config)
    base = raw.pop("base_dir")
    raw["autoencoder"] = {"path": str(fleet.folder / "autoencoder.safetensors")}
    simulate(parse_config(raw, base_dir=base), out=out)
    return dict(checkpoint.load(out / "checkpoints").tensors)


def assert_as_simulated(fleet: up.Fleet, config: SimulationConfig, out: Path) -> None:
    """Every node's weights are, to the last bit, the simulator's; each round was told once, no sample twice."""
    tensors = simulated(config, fleet, out)
    found = state(fleet)
    for node in fleet.nodes:
        mine = found[str(node.place.id)]
        assert mine["version"] == config.rounds - 1
        np.testing.assert_array_equal(np.array(mine["weights"], np.float32), tensors[f"{node.place.id}/weights"])
        assert mine["rounds"] == list(range(config.rounds)), node.place.id
        assert mine["waiting"] == 0
    _assert_same_samples(fleet, found)


def _assert_same_samples(fleet: up.Fleet, found: dict[str, Any]) -> None:
    """Every private sample is at every ancestor once, with one content."""
    for node in fleet.nodes:
        if node.private is None:
            continue
        name, count = str(node.place.id), len(node.private[1])
        mine = found[name]["links"][name]
        assert mine["samples"] == {name: list(range(count))} or len(mine["samples"][name]) == count
        edge = str(node.place.parent)
        assert found[edge]["links"][name] == mine
        for above in (found[edge]["links"][edge], found["cloud"]["links"][edge]):
            assert above["samples"][name] == mine["samples"][name]


def url_of(node: PlannedNode) -> str:
    """Where a server listens."""
    return f"https://127.0.0.1:{node.table['listen']['port']}"


def moved(fleet: up.Fleet, device: PlannedNode, url: str, fence: int) -> bool:
    """Whether the device is at home at `url`, after so many moves."""
    ledger = ledger_of(fleet, device)
    try:
        done = ledger.get("parent.url") == url and moving.under_way(ledger) is None
        return done and ledger.fence(device.place.id) == fence
    finally:
        ledger.close()


def held(fleet: up.Fleet, node: PlannedNode, link: NodeId | str) -> dict[str, list[int]]:
    """A node's samples of the link with the child `link`: {origin: counters}."""
    ledger = ledger_of(fleet, node)
    try:
        found = ledger.samples(NodeId(link))
        return {str(o): c.tolist() for o, c in zip(found.origins, found.counters, strict=True)}
    finally:
        ledger.close()


def lost_and_doubled(
    nodes: Sequence[PlannedNode], found: Mapping[str, Any], due: Mapping[str, range], moved: Collection[str] = ()
) -> tuple[int, int]:
    """How many samples some node lacks, and has more than once or has although it should not, by what `state` found;
    rounds told twice count as doubled. `nodes`: where each is now; `due`: the counters of each device's samples;
    `moved`: who changed parents, and has a round of one number once with each, as parents may be at the same one."""
    lost = doubled = 0
    for node in nodes:
        name, mine = str(node.place.id), found[str(node.place.id)]
        doubled += 0 if name in moved else len(mine["rounds"]) - len(set(mine["rounds"]))
        own = {child: link for child, link in mine["links"].items() if child == name}
        below = {child: link for child, link in mine["links"].items() if child != name}
        children = node.place.children or below  # those that a child left behind are too many
        for links in ([own] if node.place.parent is not None else []) + ([below] if children else []):
            rows = sum(len(link["labels"]) for link in links.values())
            seen = Counter((o, c) for link in links.values() for o, n in link["samples"].items() for c in n)
            wanted = {(o, c) for o, counters in due.items() if name in (o, *_above(nodes, o)) for c in counters}
            lost += len(wanted - set(seen))
            doubled += seen.total() - len(wanted & set(seen)) + max(0, rows - seen.total())
    return lost, doubled


def _above(nodes: Sequence[PlannedNode], device: str) -> list[str]:
    """The ancestors of a device."""
    parent_of = {str(n.place.id): n.place.parent for n in nodes}
    found, at = [], parent_of[device]
    while at is not None:
        found.append(str(at))
        at = parent_of[str(at)]
    return found


@dataclass(slots=True)
class Daemons:
    """The processes of a fleet one by one, without supervisors, so that each can be killed, armed and started alone."""

    fleet: up.Fleet
    environment: Callable[[str], Mapping[str, str]] = lambda name: {}  # what a process has beside the test's own
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    kills: list[tuple[str, str]] = field(default_factory=list)
    armed: dict[str, str] = field(default_factory=dict)

    def names(self) -> dict[str, PlannedNode]:
        """``device-000``, ``edge-0/gateway``, ``edge-0/train``, ... parents first."""
        found = {}
        for node in self.fleet.nodes:
            if node.place.tier is Tier.DEVICE:
                found[str(node.place.id)] = node
            else:
                found |= {f"{node.place.id}/gateway": node, f"{node.place.id}/train": node}
        return found

    def start(self, name: str, failpoint: str | None = None) -> None:
        """Start one process, armed to die at ``place:n``."""
        node = self.names()[name]
        what = name.partition("/")[2] or "train"
        environment = {k: v for k, v in os.environ.items() if k != "FEDAGG_FAILPOINT"} | self.environment(name)
        if failpoint is not None:
            environment["FEDAGG_FAILPOINT"] = failpoint
            self.armed[name] = failpoint
        else:
            self.armed.pop(name, None)
        with (self.fleet.home(node) / f"{what}.txt").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "fedagg_edge.fleet.run", what, node.place.tier.value,
                 str(config_path(self.fleet, node))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            )  # fmt: skip

    def start_all(self) -> None:
        for name in self.names():
            self.start(name)

    def reap(self) -> list[str]:
        """Those that have died; a death that nobody asked for fails the test."""
        dead = []
        for name, process in self.running.items():
            code = process.poll()
            if code is None:
                continue
            assert code == -signal.SIGKILL, (
                f"{name} ended with {code} (armed {self.armed.get(name)}){tails(self.fleet)}"
            )
            self.kills.append((name, self.armed.get(name, "signal")))
            dead.append(name)
        return dead

    def kill(self, name: str) -> None:
        """SIGKILL, whatever it does."""
        self.armed.pop(name, None)
        self.running[name].kill()
        self.running[name].wait()

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to those that do not hear."""
        for process in reversed(list(self.running.values())):
            if process.poll() is None:
                process.terminate()
        for process in self.running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def spread(rng: random.Random, most: int) -> int:
    """Mostly small numbers: how often a place is passed before it kills."""
    return 1 + int(most * rng.random() ** 2)
