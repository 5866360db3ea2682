"""A child and a parent back to back, on real ledgers and with no network between. No test lives here."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from toys import CLASSES, embeddings

from fedagg_edge.errors import DataError
from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Knowledge, Link, LogitsFormat, NodeId, PackedLogits, Tier
from fedagg_edge.wire.child import ChildEnd, Idle
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.parent import Later, ParentEnd
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.terms import Terms

DEVICE, EDGE = NodeId("device-000"), NodeId("edge-0")
LINK = Link(DEVICE, EDGE)
PEER = Peer(DEVICE, Tier.DEVICE, "1")
SMALL = Limits(message=16_384, inline=256, chunk=256, entry_bytes=61_440, staged=61_440)


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Pair:
    """Both ends of one link and their ledgers below `folder`."""

    folder: Path
    limits: Limits = field(default_factory=Limits)
    shelf: Any = None
    clock: Clock = field(default_factory=Clock)
    events: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = Options(tier=Tier.EDGE, clock=self.clock)
        self.parent = Ledger.open(self.folder / "parent.sqlite", node=EDGE, federation="toy", options=options)
        self.parent.enrol(DEVICE, Tier.DEVICE, "1")
        self.end = ParentEnd(
            Terms("toy", EDGE, CLASSES, self.limits, "fedagg-edge test", mode="sync", target=9, shelf=self.shelf)
        )
        self.restart()

    def restart(self) -> None:
        """The child's process starts again: only its ledger is left."""
        if hasattr(self, "child"):
            self.child.close()
        self.child = Ledger.open(
            self.folder / "child.sqlite",
            node=DEVICE,
            federation="toy",
            options=Options(tier=Tier.DEVICE, clock=self.clock),
        )
        self.talker = ChildEnd(
            ChildView(self.child), DEVICE, Tier.DEVICE, "toy", "fedagg-edge test", random.Random(1), limits=self.limits
        )

    def close(self) -> None:
        self.child.close()
        self.parent.close()

    def ask(self, request: Request) -> Response:
        """The parent's answer; a long poll without news is answered at once."""
        view = ParentView(self.parent)
        with self.parent.transaction():
            answer = self.end.handle(view, PEER, request, self.clock())
        if isinstance(answer, Later):
            with self.parent.transaction():
                answer = self.end.resume(view, PEER, answer, answer.until)
        assert isinstance(answer, Response)
        return answer

    def turn(self) -> Request | None:
        """One request and its answer; None if the child has nothing to ask now, then time goes on."""
        step = self.talker.next(self.clock())
        if isinstance(step, Idle):
            self.clock.now = max(self.clock.now + 0.01, step.until)
            return None
        self.events += self.talker.receive(step, self.ask(step), self.clock())
        return step

    def settle(self, turns: int = 60) -> None:
        """Run until an exchange has brought nothing new."""
        for _ in range(turns):
            before = (self.child.acknowledged(), len(self.child.pending()), self.heard(), self.given())
            request = self.turn()
            after = (self.child.acknowledged(), len(self.child.pending()), self.heard(), self.given())
            quiet = request is not None and request.path == "/v1/exchange" and before == after
            same = self.child.acknowledged().entry == self.parent.head(DEVICE).entry
            if quiet and same and not self.child.pending() and not self.behind():
                return
        raise AssertionError(f"not settled: {self.talker}")

    def heard(self) -> int:
        """The parent's newest version at the child."""
        stored = self.child.newest(LINK, EDGE)
        return -1 if stored is None else stored.knowledge.version

    def given(self) -> int:
        """The child's newest version at the parent."""
        stored = self.parent.newest(LINK, DEVICE)
        return -1 if stored is None else stored.knowledge.version

    def behind(self) -> bool:
        newest, own = self.parent.newest(LINK, EDGE), self.child.newest(LINK, DEVICE)
        return (newest is not None and newest.knowledge.version > self.heard()) or (
            own is not None and own.knowledge.version > self.given()
        )

    def send(self, count: int, start: int) -> None:
        """New samples of the device wait for the parent."""
        self.child.send(embeddings(DEVICE, count, start=start))

    def publish(self, ledger: Ledger, publisher: NodeId, version: int, basis: int = -1) -> None:
        """An end publishes logits on the set that both have."""
        link = DEVICE if ledger is self.parent else ledger.node
        samples = ledger.samples(link)
        rng = np.random.default_rng([version, *publisher.encode()])
        logits = PackedLogits(LogitsFormat.F32, rng.normal(size=(len(samples), CLASSES)).astype(np.float32))
        ledger.put_knowledge(Knowledge("toy", LINK, publisher, version, samples.digest, 0, logits), basis)

    def assert_same(self) -> None:
        """Both ends have one log and one set, and the knowledge of either is the same bits at the other, but for rows
        that an end has erased, or of which ids never came there, as they were forgotten before: those are zeros there.
        """
        assert self.child.acknowledged() == self.parent.head(DEVICE)
        assert self.child.samples(DEVICE).digest == self.parent.samples(DEVICE).digest
        if len(self.child.samples(DEVICE)):
            mine, theirs = self.child.embeddings(DEVICE), self.parent.embeddings(DEVICE)
            np.testing.assert_array_equal(mine.code_NB, theirs.code_NB)
            np.testing.assert_array_equal(mine.label_N, theirs.label_N)
        for publisher in (DEVICE, EDGE):
            here, there = self.child.newest(LINK, publisher), self.parent.newest(LINK, publisher)
            if here is None or there is None:
                assert here is there is None
                continue
            assert (here.knowledge.version, here.basis) == (there.knowledge.version, there.basis)
            mine_NC, theirs_NC = here.knowledge.logits.value_NC, there.knowledge.logits.value_NC
            gone_N, theirs_gone_N = self._gone(self.child, here.knowledge), self._gone(self.parent, there.knowledge)
            assert not mine_NC[gone_N].any()
            assert not theirs_NC[theirs_gone_N].any()
            both_N = ~(gone_N | theirs_gone_N)
            np.testing.assert_array_equal(mine_NC[both_N], theirs_NC[both_N])

    def _gone(self, ledger: Ledger, knowledge: Knowledge) -> NDArray[np.bool_]:
        """Which rows of the set that knowledge names this end has no embeddings of."""
        gone_N = np.ones(len(knowledge.logits.value_NC), bool)
        with contextlib.suppress(DataError):  # rows cannot be told apart where ids never came
            gone_N[ledger.remaining(DEVICE, knowledge.digest)[1]] = False
        return gone_N
