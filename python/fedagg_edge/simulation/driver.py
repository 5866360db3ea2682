"""Runs the nodes' programs in one process and carries what they say to one another.

Programs only ever wait for a neighbour, so any order in which they run gives the same result; this one goes round the
nodes, children first, and runs each until it has to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

__all__ = ["Together", "Traffic", "drive"]


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
    """What was sent and is not yet fetched."""

    traffic: Traffic
    knowledge: dict[tuple[Link, NodeId, int], Knowledge] = field(default_factory=dict)
    embeddings: dict[Link, Embeddings] = field(default_factory=dict)

    def send(self, request: Publish | SendEmbeddings) -> None:
        if isinstance(request, SendEmbeddings):
            self.embeddings[request.link] = request.embeddings
            self.traffic.add(request.link, request.link.child, request.embeddings.nbytes)
            return
        k = request.knowledge
        self.knowledge[(k.link, k.publisher, k.version)] = k
        self.traffic.add(k.link, k.publisher, k.nbytes)

    def fetch(
        self, reader: NodeId, request: Receive | Gather | ReceiveEmbeddings
    ) -> Received | tuple[Received, ...] | Embeddings | None:
        """What was asked for, once; None if it, or a part of it, has not come yet."""
        if isinstance(request, ReceiveEmbeddings):
            return self.embeddings.pop(request.link, None)
        links = request.links if isinstance(request, Gather) else (request.link,)
        keys = [(link, link.other(reader), request.version) for link in links]
        if not all(key in self.knowledge for key in keys):
            return None
        received = tuple(Received(self.knowledge.pop(key)) for key in keys)
        return received if isinstance(request, Gather) else received[0]


class Together(Protocol):
    """Trains nodes as one model that reached their `Train` request while nobody else could go on."""

    def joins(self, node: Node) -> bool:
        """Whether the node's training pass may wait for others'."""

    def train(self, jobs: Mapping[NodeId, tuple[Node, Train]], version: int) -> dict[NodeId, TrainReport]:
        """Make all passes, each as its node alone would."""


def drive(
    programs: Mapping[NodeId, Program],
    nodes: Mapping[NodeId, Node],
    *,
    version: int,
    traffic: Traffic,
    on_train: Callable[[NodeId, TrainReport], None] | None = None,
    together: Together | None = None,
) -> None:
    """Run all programs to their end, counting what they send into `traffic`.

    With `together`, the training passes of nodes that join wait until only they can go on, and are made as one.
    `programs`' order is the order in which nodes get their turn. Raises LocalProtocolError if all wait for one another;
    what a node raises passes through.
    """
    mail = _Mail(traffic)
    waiting: dict[NodeId, Request] = {node: next(program) for node, program in programs.items()}
    joins = {node for node in programs if together is not None and together.joins(nodes[node])}
    while waiting:
        moved = False
        for node in list(waiting):
            parks = node in joins
            request, steps = _run(
                programs[node], waiting[node], nodes[node], version, mail, on_train=on_train, parks=parks
            )
            moved |= steps > 0
            _keep(waiting, node, request)
        parked = {n: (nodes[n], r) for n, r in waiting.items() if n in joins and isinstance(r, Train)}
        if not moved and parked and together is not None:
            for node, report in together.train(parked, version).items():
                if on_train:
                    on_train(node, report)
                _keep(waiting, node, _send(programs[node], report))
            continue
        if not moved:
            stuck = ", ".join(f"{n} for {r}" for n, r in list(waiting.items())[:3])
            raise LocalProtocolError(f"all nodes wait for one another: {stuck}")


def _run(
    program: Program,
    request: Request,
    node: Node,
    version: int,
    mail: _Mail,
    *,
    on_train: Callable[[NodeId, TrainReport], None] | None,
    parks: bool,
) -> tuple[Request | None, int]:
    """Run a program until it must wait or ends; return what it waits for (None: it ended) and the steps it made.

    One that `parks` waits with its training pass too.
    """
    steps = 0
    while True:
        answer: Any = None
        if parks and isinstance(request, Train):
            return request, steps
        if isinstance(request, Receive | Gather | ReceiveEmbeddings):
            answer = mail.fetch(node.place.id, request)
            if answer is None:
                return request, steps
        elif isinstance(request, Publish | SendEmbeddings):
            mail.send(request)
        else:
            answer = node.perform(request, version)
            if on_train and isinstance(answer, TrainReport):
                on_train(node.place.id, answer)
        steps += 1
        following = _send(program, answer)
        if following is None:
            return None, steps
        request = following


def _send(program: Program, answer: Any) -> Request | None:
    """Resume a program; None if that was its end."""
    try:
        return program.send(answer)
    except StopIteration:
        return None


def _keep(waiting: dict[NodeId, Request], node: NodeId, request: Request | None) -> None:
    if request is None:
        del waiting[node]
    else:
        waiting[node] = request
