"""How a node of a fleet answers what its program asks: from the ledger, by what has arrived, waiting where it must.

The programs are `distill`'s, the very ones that the simulator runs. What is here is the fleet's side of them:
deadlines, quorum, stragglers, and a restart in the middle of a round. No socket and no file of its own: the ledger, the
clock and the waiting are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedagg_edge import distill
from fedagg_edge.distill import Freshest, Gather, Predict, Program, Publish, Receive, Received, Request, Train
from fedagg_edge.errors import LearnerError, LocalProtocolError, RemoteProtocolError
from fedagg_edge.fleet.config import RoundsConfig
from fedagg_edge.node import Node
from fedagg_edge.passes import TrainReport
from fedagg_edge.records import Knowledge, Link, NodeId

__all__ = ["Arrived", "Conductor", "KnowledgeStore", "RoundReport"]

_ROUNDING = 1e-9  # 0.28 of 25 are 7, as floats a little more


class Arrived(Protocol):
    """Knowledge as the ledger holds it."""

    @property
    def knowledge(self) -> Knowledge:
        """The record."""

    @property
    def basis(self) -> int:
        """The newest version of the receiver's own knowledge that the publisher had used; -1: none."""


class KnowledgeStore(Protocol):
    """What a conductor needs of the ledger."""

    def newest(self, link: Link, publisher: NodeId) -> Arrived | None:
        """The newest knowledge that `publisher` gave on `link`."""

    def knowledge(self, link: Link, publisher: NodeId, version: int) -> Arrived | None:
        """That of one version, while it is kept: the newest and the one before are."""

    def put_knowledge(self, known: Knowledge, basis: int, at: float, /) -> object:
        """Keep it; what is there already stays as it is."""


@dataclass(slots=True)
class RoundReport:
    """What happened in one round: the passes that were made, and who was late."""

    version: int
    trained: list[TrainReport] = field(default_factory=list)
    late: list[NodeId] = field(default_factory=list)
    silent: list[NodeId] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Conductor:
    """Runs one node's programs against its ledger.

    `clock`: seconds that never jump, for deadlines; `now`: unix seconds, for records. `wait(seconds)`: return when
    something may have arrived, or after that time; it raises what stops the node. `gone`: whether a child went to
    another parent, said that it leaves or was revoked since the round began: nobody waits for it. `trained`: per link
    the newest neighbour's version that was trained on; it belongs to the checkpoint.
    """

    node: Node
    store: KnowledgeStore
    rounds: RoundsConfig
    clock: Callable[[], float]
    wait: Callable[[float], None]
    now: Callable[[], float]
    published: Callable[[Link], None] = lambda link: None
    gone: Callable[[NodeId], bool] = lambda child: False
    trained: dict[str, int] = field(default_factory=dict)

    def run(self, version: int) -> RoundReport:
        """Run one round, or one turn of an async node; its report.

        What `wait` raises passes through, and then the round was not finished: run it again from the weights it began
        with. It publishes nothing twice, for what the ledger has of this version is taken instead.
        """
        program = distill.round_snapshot if self.rounds.mode == "sync" else distill.round_async
        return self.drive(program(self.node.place, version), RoundReport(version))

    def repeat(self, knowledge: Knowledge, version: int) -> RoundReport:
        """Train once more on knowledge that is here: what a device does while it cannot reach its parent."""
        report = RoundReport(version)
        self._train(Train((Received(knowledge),), phase=f"offline-{self.now():.0f}"), report)
        return report

    def drive(self, program: Program, report: RoundReport) -> RoundReport:
        """Answer a program to its end."""
        answer: Any = None
        while True:
            try:
                request = program.send(answer)
            except StopIteration:
                return report
            answer = self._answer(request, report)

    def _answer(self, request: Request, report: RoundReport) -> Any:
        match request:
            case Predict(link, version):
                return self._published_before(link, version) or self.node.perform(request, version)
            case Publish(knowledge):
                return self._publish(knowledge)
            case Receive(link, version):
                return self._receive(link, version, report)
            case Gather(links, version):
                return self._gather(links, version, report)
            case Freshest(links):
                return self._freshest(links, report.version)
            case Train():
                return self._train(request, report)
            case _:
                raise LocalProtocolError(f"{self.node.place.id}: {type(request).__name__} has no place in a round")

    def _published_before(self, link: Link, version: int) -> Knowledge | None:
        """What this node had already published, before it was stopped, or before it came to a parent whose versions are
        behind those of the one before: neighbours may have it, so it stands."""
        own = self.store.newest(link, self.node.place.id)
        return own.knowledge if own is not None and own.knowledge.version >= version else None

    def _publish(self, knowledge: Knowledge) -> None:
        self.store.put_knowledge(knowledge, self.trained.get(str(knowledge.link), -1), self.now())
        self.published(knowledge.link)

    def _receive(self, link: Link, version: int, report: RoundReport) -> Received:
        """The parent's knowledge: wait for this version or a newer one; after the deadline an older one will do.

        This version goes before a newer one: who was killed between its answer and its checkpoint runs the round again
        while its parent goes on with that answer, and has to learn from what it learnt from."""
        deadline = self.clock() + self.rounds.deadline
        while True:
            exact = self.store.knowledge(link, link.other(self.node.place.id), version)
            newest = exact or self._newest(link)
            if newest is not None:
                age = max(0, version - newest.knowledge.version)
                if age == 0 or self.clock() >= deadline:
                    if age:
                        report.late.append(newest.knowledge.publisher)
                    return Received(newest.knowledge, age)
            self.wait(max(0.0, deadline - self.clock()) or self.rounds.deadline)

    def _gather(self, links: tuple[Link, ...], version: int, report: RoundReport) -> tuple[Received, ...]:
        """All children's knowledge, or at the deadline what a quorum and the stragglers' older knowledge make."""
        deadline = self.clock() + self.rounds.deadline
        while True:
            links = tuple(link for link in links if not self.gone(link.child))
            wanted = math.ceil(self.rounds.quorum * len(links) - _ROUNDING)
            newest = {link: self._newest(link) for link in links}
            fresh = sum(k is not None and k.knowledge.version >= version for k in newest.values())
            late = self.clock() >= deadline
            if fresh == len(links) or (late and fresh >= wanted):
                return self._sorted_out(newest, version, report)
            self.wait(self.rounds.deadline if late else deadline - self.clock())

    def _sorted_out(
        self, newest: dict[Link, Arrived | None], version: int, report: RoundReport
    ) -> tuple[Received, ...]:
        received = []
        for link, arrived in newest.items():
            if arrived is None:
                report.silent.append(link.child)
                continue
            age = max(0, version - arrived.knowledge.version)
            if age:
                report.late.append(link.child)
            received.append(Received(arrived.knowledge, age))
        return tuple(received)

    def _freshest(self, links: tuple[Link, ...], version: int) -> tuple[Received, ...]:
        """What was not trained on yet; a child's age is how many turns of this node came after the one it had seen."""
        found = []
        for link in links:
            arrived = self._newest(link)
            if arrived is None or arrived.knowledge.version <= self.trained.get(str(link), -1):
                continue
            from_child = link.parent == self.node.place.id
            age = max(0, version - arrived.basis) if from_child and arrived.basis >= 0 else 0
            found.append(Received(arrived.knowledge, age))
        return tuple(found)

    def is_news(self, link: Link) -> bool:
        """Whether there is knowledge on the link to train on that was not trained on yet. What cannot be used is none,
        until the link's rows change: an async node would take one turn after the other because of it."""
        newest = self._newest(link)
        if newest is None or newest.knowledge.version <= self.trained.get(str(link), -1):
            return False
        return self._fits(Received(newest.knowledge), RoundReport(-1))

    def _newest(self, link: Link) -> Arrived | None:
        return self.store.newest(link, link.other(self.node.place.id))

    def _train(self, request: Train, report: RoundReport) -> TrainReport | None:
        """One pass; what does not fit, or makes a loss that is not finite, is left out and told, and the round goes on:
        one neighbour's mistake must not stop a node."""
        usable = tuple(r for r in request.received if self._fits(r, report))
        for received in usable:
            k = received.knowledge
            self.trained[str(k.link)] = max(k.version, self.trained.get(str(k.link), -1))
        if not usable:
            return None
        try:
            done = self.node.perform(Train(usable, request.phase), report.version)
        except LearnerError as e:
            report.refused.append(str(e))
            return None
        if isinstance(done, TrainReport):
            report.trained.append(done)
            return done
        return None

    def _fits(self, received: Received, report: RoundReport) -> bool:
        try:
            return self.node.rows_in(received) > 0
        except RemoteProtocolError as e:
            report.refused.append(str(e))
            return False
