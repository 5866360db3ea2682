"""Both ends of one link on real ledgers, and the wire between them as a function. No test lives here."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from toys import embeddings

from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Knowledge, Link, LogitsFormat, NodeId, PackedLogits, SampleSet, Tier
from fedagg_edge.wire.child import ChildEnd, Idle
from fedagg_edge.wire.http import Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.parent import Later, ParentEnd
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.tensors import dump_embeddings, dump_samples
from fedagg_edge.wire.terms import Terms

CLASSES = 3
CHILD, PARENT = NodeId("d1"), NodeId("edge-a")
LINK = Link(CHILD, PARENT)
SMALL = Limits(chunk=256, inline=64, entry_bytes=65_536, staged=65_536)


def knowledge(publisher: NodeId, version: int, digest: str, rows: int) -> Knowledge:
    value_NC = np.random.default_rng([version, rows]).normal(size=(rows, CLASSES)).astype(np.float32)
    return Knowledge("f", LINK, publisher, version, digest, version, PackedLogits(LogitsFormat.F32, value_NC))


class Ends:
    """`trip` is one request; `settle` goes on until neither end has anything to say."""

    def __init__(self, folder: Path, limits: Limits = SMALL, shelf: Any = None, role: Tier = Tier.DEVICE) -> None:
        self.now, self.role = 1000.0, role
        self.parent, self.child = self._open(folder, PARENT, Tier.CLOUD), self._open(folder, CHILD, role)
        self.parent.enrol(CHILD, role, "01")
        self.peer = Peer(CHILD, role, "01")
        self.above = ParentEnd(Terms("f", PARENT, CLASSES, limits, "test 1", shelf=shelf))
        self.view = ParentView(self.parent)
        self.events: list[Any] = []
        self.restart()

    def _open(self, folder: Path, node: NodeId, tier: Tier) -> Ledger:
        options = Options(tier=tier, clock=lambda: self.now)
        return Ledger.open(folder / f"{node}.ledger", node=node, federation="f", options=options)

    def close(self) -> None:
        self.parent.close()
        self.child.close()

    def restart(self) -> None:
        self.below = ChildEnd(ChildView(self.child), CHILD, self.role, "f", "test 1", random.Random(0))

    def ask(self, request: Any) -> Response:
        with self.parent.transaction():
            answer = self.above.handle(self.view, self.peer, request, self.now)
        if isinstance(answer, Later):
            self.now = answer.until
            with self.parent.transaction():
                answer = self.above.resume(self.view, self.peer, answer, self.now)
        assert isinstance(answer, Response)
        return answer

    def trip(self, fault: str = "") -> Any:
        """One request; the answer, or the Idle there was instead."""
        request = self.below.next(self.now)
        if isinstance(request, Idle):
            self.now = max(self.now, request.until)
            return request
        if fault == "lost request":
            self.below.failed(request, self.now)
            return request
        answer = self.ask(request)
        if fault == "twice":
            answer = self.ask(request)
        if fault == "lost answer":
            self.below.failed(request, self.now)
        elif fault == "restart":
            self.restart()
        elif fault == "late answer":
            self.below.failed(request, self.now)
            assert self.below.receive(request, answer, self.now) == ()
        else:
            self.events += self.below.receive(request, answer, self.now)
        return answer

    def settled(self) -> bool:
        mine, theirs = self.child.newest(LINK, CHILD), self.parent.newest(LINK, PARENT)
        got, given = self.parent.newest(LINK, CHILD), self.child.newest(LINK, PARENT)
        return (
            not self.child.pending()
            and self.child.acknowledged() == self.parent.head(CHILD)
            and (mine and mine.knowledge.version) == (got and got.knowledge.version)
            and (theirs and theirs.knowledge.version) == (given and given.knowledge.version)
        )

    def settle(self, most: int = 300) -> None:
        for _ in range(most):
            if self.settled():
                return
            self.trip()
        raise AssertionError(f"not settled: {self.events[-3:]}")

    # what happens at either end

    def send(self, count: int, start: int = 0) -> None:
        self.child.send(embeddings(CHILD, count, start=start))

    def write(self, origin: str, count: int, start: int = 0) -> None:
        """The parent writes an entry, as when a device moved here."""
        self.parent.append(CHILD, 1, dump_embeddings(embeddings(origin, count, start=start)), key=None, by="parent")

    def forget(self, origin: str) -> None:
        """The parent writes that all of an origin's samples are gone."""
        known = self.parent.samples(CHILD)
        mine = [SampleSet.of(o, c) for o, c in zip(known.origins, known.counters, strict=True) if o == origin]
        for samples in mine:
            self.parent.append(CHILD, 2, dump_samples(samples), key=None, by="parent")

    def publish(self, at: Ledger, publisher: NodeId, version: int, basis: int = -1) -> None:
        """Knowledge about the newest set that both ends know."""
        head = self.child.acknowledged()
        rows = len(self.child.samples(CHILD, head.digest))
        at.put_knowledge(knowledge(publisher, version, head.digest, rows), basis)

    def check(self) -> None:
        """Nothing lost, nothing doubled, both ends agree."""
        assert self.settled()
        if not self.parent.head(CHILD).entry:
            return
        ours, theirs = self.child.embeddings(CHILD), self.parent.embeddings(CHILD)
        assert ours.samples.digest == theirs.samples.digest == self.parent.head(CHILD).digest
        np.testing.assert_array_equal(ours.code_NB, theirs.code_NB)
        np.testing.assert_array_equal(ours.label_N, theirs.label_N)
        entries = self.parent.entries(CHILD, 0)
        keys = [e.key for e in entries if e.key is not None]
        assert len(keys) == len(set(keys))
        for publisher in (CHILD, PARENT):
            a, b = self.child.newest(LINK, publisher), self.parent.newest(LINK, publisher)
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                np.testing.assert_array_equal(a.knowledge.logits.value_NC, b.knowledge.logits.value_NC)
                assert (a.basis, a.knowledge.digest) == (b.basis, b.knowledge.digest)
