"""Runs the nodes' programs in one process and carries what they say to one another.

Programs only ever wait for a neighbour, so any order in which they run gives the same result, and so do several that
run at the same time; this one goes round the nodes, children first, and runs each until it has to wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from fedagg_edge.distill import (
    Gather,
    Program,
    Publish,
    Receive,
    Received,
    ReceiveEmbeddings,
    Request,
    SendEmbeddings,
    Train,
)
from fedagg_edge.errors import LocalProtocolError
from fedagg_edge.node import Node
from fedagg_edge.passes import TrainReport
from fedagg_edge.records import Embeddings, Knowledge, Link, NodeId
from fedagg_edge.simulation.crew import Crew

__all__ = ["Job", "Together", "Traffic", "drive"]

Job = tuple[Node, Train]
"""A node and the training pass that it is to make."""


@dataclass(slots=True)
class Traffic:
    """Payload bytes that went over each link: `up` towards the cloud, `down` towards the devices."""

    up: dict[Link, int] = field(default_factory=dict)
    down: dict[Link, int] = field(default_factory=dict)

    def add(self, link: Link, sender: NodeId, count: int) -> None:
        """Count one message."""
        side = self.up if sender == link.child else self.down
        side[link] = side.get(link, 0) + count

    def of(self, node: NodeId) -> int:
        """Bytes that `node` moved over the link to its parent, both ways."""
        return sum(n for side in (self.up, self.down) for link, n in side.items() if link.child == node)

    def total(self) -> int:
        """Bytes over all links."""
        return sum(self.up.values()) + sum(self.down.values())


@dataclass(slots=True)
class _Mail:
    """What was sent and is not yet fetched. For several threads."""

    traffic: Traffic
    knowledge: dict[tuple[Link, NodeId, int], Knowledge] = field(default_factory=dict)
    embeddings: dict[Link, Embeddings] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, request: Publish | SendEmbeddings) -> None:
        with self.lock:
            if isinstance(request, SendEmbeddings):
                self.embeddings[request.link] = request.embeddings
                self.traffic.add(request.link, request.link.child, request.embeddings.nbytes)
                return
            k = request.knowledge
            self.knowledge[(k.link, k.publisher, k.version)] = k
            self.traffic.add(k.link, k.publisher, k.nbytes)

    def has(self, reader: NodeId, request: Receive | Gather | ReceiveEmbeddings) -> bool:
        """Whether all that is asked for has come."""
        with self.lock:
            if isinstance(request, ReceiveEmbeddings):
                return request.link in self.embeddings
            return all(key in self.knowledge for key in _keys(reader, request))

    def fetch(
        self, reader: NodeId, request: Receive | Gather | ReceiveEmbeddings
    ) -> Received | tuple[Received, ...] | Embeddings | None:
        """What was asked for, once; None if it, or a part of it, has not come yet."""
        if not self.has(reader, request):
            return None
        with self.lock:
            if isinstance(request, ReceiveEmbeddings):
                return self.embeddings.pop(request.link)
            received = tuple(Received(self.knowledge.pop(key)) for key in _keys(reader, request))
        return received if isinstance(request, Gather) else received[0]


def _keys(reader: NodeId, request: Receive | Gather) -> list[tuple[Link, NodeId, int]]:
    links = request.links if isinstance(request, Gather) else (request.link,)
    return [(link, link.other(reader), request.version) for link in links]


class Together(Protocol):
    """Trains nodes as one model that reached their `Train` request while nobody else could go on."""

    def joins(self, node: Node) -> bool:
        """Whether the node's training pass may wait for others'."""

    def parts(self, jobs: Mapping[NodeId, Job]) -> list[dict[NodeId, Job]]:
        """The jobs in parts that have nothing to do with one another."""

    def train(self, jobs: Mapping[NodeId, Job], version: int) -> dict[NodeId, TrainReport]:
        """Make all passes of a part, each as its node alone would."""


def drive(
    programs: Mapping[NodeId, Program],
    nodes: Mapping[NodeId, Node],
    *,
    version: int,
    traffic: Traffic,
    on_train: Callable[[NodeId, TrainReport], None] | None = None,
    together: Together | None = None,
    workers: int = 1,
) -> None:
    """Run all programs to their end, counting what they send into `traffic`.

    With `together`, the training passes of nodes that join wait until only they can go on, and are made as one. Up to
    `workers` nodes are at work at a time. `programs`' order is the order in which nodes get their turn. Raises
    LocalProtocolError if all wait for one another; what a node raises passes through.
    """
    waiting: dict[NodeId, Request] = {node: next(program) for node, program in programs.items()}
    joins = {node for node in programs if together is not None and together.joins(nodes[node])}
    stage = _Stage(programs, nodes, version, _Mail(traffic), on_train, joins)
    with Crew[dict[NodeId, Request]](workers) as crew:
        while waiting or crew.busy:
            jobs = [
                partial(stage.run, node, waiting.pop(node)) for node in list(waiting) if stage.can_go(node, waiting)
            ]
            if not jobs and not crew.busy:
                parked = {n: (nodes[n], r) for n, r in waiting.items() if n in joins and isinstance(r, Train)}
                if together is None or not parked:
                    stuck = ", ".join(f"{n} for {r}" for n, r in list(waiting.items())[:3])
                    raise LocalProtocolError(f"all nodes wait for one another: {stuck}")
                jobs = [partial(stage.run_together, together, part) for part in together.parts(parked)]
                for node in parked:
                    del waiting[node]
            for job in jobs:
                crew.give(job)
            waiting |= crew.next()


@dataclass(slots=True)
class _Stage:
    """Nodes at work on their programs; called from several threads, for different nodes."""

    programs: Mapping[NodeId, Program]
    nodes: Mapping[NodeId, Node]
    version: int
    mail: _Mail
    on_train: Callable[[NodeId, TrainReport], None] | None
    joins: set[NodeId]
    heard: threading.Lock = field(default_factory=threading.Lock)

    def can_go(self, node: NodeId, waiting: Mapping[NodeId, Request]) -> bool:
        """Whether a node can do what it asks for now."""
        request = waiting[node]
        if isinstance(request, Receive | Gather | ReceiveEmbeddings):
            return self.mail.has(node, request)
        return not (node in self.joins and isinstance(request, Train))

    def run(self, name: NodeId, request: Request) -> dict[NodeId, Request]:
        """Run a program until it must wait; what it waits for, under its name, or nothing if it ended."""
        node = self.nodes[name]
        while True:
            answer: Any = None
            if name in self.joins and isinstance(request, Train):
                return {name: request}
            if isinstance(request, Receive | Gather | ReceiveEmbeddings):
                answer = self.mail.fetch(name, request)
                if answer is None:
                    return {name: request}
            elif isinstance(request, Publish | SendEmbeddings):
                self.mail.send(request)
            else:
                answer = node.perform(request, self.version)
                self.hear(name, answer)
            try:
                request = self.programs[name].send(answer)
            except StopIteration:
                return {}

    def run_together(self, together: Together, jobs: Mapping[NodeId, Job]) -> dict[NodeId, Request]:
        """Make passes as one; what each node waits for then, of those that did not end."""
        following: dict[NodeId, Request] = {}
        for name, report in together.train(jobs, self.version).items():
            self.hear(name, report)
            try:
                following[name] = self.programs[name].send(report)
            except StopIteration:
                continue
        return following

    def hear(self, name: NodeId, answer: object) -> None:
        """Tell of a training pass."""
        if self.on_train and isinstance(answer, TrainReport):
            with self.heard:
                self.on_train(name, answer)
