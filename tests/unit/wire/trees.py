"""A cloud, two edges and a device on real ledgers, every link with both of its ends, and a network that is a function.

No test lives here. `run` lets everybody ask in turn; `network` decides what happens to a request.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toys import CLASSES, embeddings

from fedagg_edge.fleet import moving
from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.child import ChildEnd, Idle
from fedagg_edge.wire.events import NoticeArrived
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Notice
from fedagg_edge.wire.parent import Later, ParentEnd
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.terms import Terms

TIERS = {"cloud": Tier.CLOUD, "e1": Tier.EDGE, "e2": Tier.EDGE, "d1": Tier.DEVICE, "d2": Tier.DEVICE}
PARENTS = {"e1": "cloud", "e2": "cloud", "d1": "e1", "d2": "e2"}
SMALL = Limits(chunk=256, inline=64, entry_bytes=65_536, staged=65_536)


class Trees:
    """`parent_of` says where each node's requests go. A node whose ledger is in `down` neither asks nor answers."""

    def __init__(
        self,
        folder: Path,
        limits: Limits = SMALL,
        tiers: Mapping[str, Tier] = TIERS,
        parents: Mapping[str, str] = PARENTS,
        *,
        hold_labels: bool = False,
    ) -> None:
        self.now = 1000.0
        self.tiers, self.limits, self.parent_of = tiers, limits, dict(parents)
        self.down: set[str] = set()
        self.events: list[tuple[str, Any]] = []
        self.on_notice: Callable[[str, Notice], object] = lambda name, notice: None
        self.sent: list[tuple[str, str, Request]] = []  # (from, to, request), of all that arrived
        self.ledgers = {
            name: Ledger.open(
                folder / name,
                node=NodeId(name),
                federation="f",
                options=Options(tier=tier, clock=lambda: self.now, hold_labels=hold_labels and tier is Tier.EDGE),
            )
            for name, tier in tiers.items()
        }
        for name, parent in parents.items():
            self.ledgers[parent].enrol(NodeId(name), tiers[name], "01")
        self.above = {
            name: ParentEnd(Terms("f", NodeId(name), CLASSES, limits, "test 1"))
            for name, tier in tiers.items()
            if tier is not Tier.DEVICE
        }
        self.below: dict[str, ChildEnd] = {}
        for name in parents:
            self.restart(name)

    def close(self) -> None:
        for ledger in self.ledgers.values():
            ledger.close()

    def restart(self, name: str) -> None:
        """The node's process starts again."""
        tier = self.tiers[name]
        self.below[name] = ChildEnd(
            ChildView(self.ledgers[name]), NodeId(name), tier, "f", "test 1", random.Random(name), limits=self.limits
        )

    def send(self, origin: str, count: int, start: int = 0) -> None:
        self.ledgers[origin].send(embeddings(origin, count, start=start))

    def move(self, name: str, to: str) -> int:
        """The node begins to move."""
        with self.ledgers[name].transaction():
            fence = moving.begin(self.ledgers[name], f"https://{to}")
        self.parent_of[name] = to
        self.below[name].restart()
        return fence

    def ask(self, child: str, to: str, request: Request) -> Response:
        """The answer of `to`; a poll without news is answered at once."""
        self.sent.append((child, to, request))
        ledger, peer = self.ledgers[to], Peer(NodeId(child), self.tiers[child], "01")
        with ledger.transaction():
            answer = self.above[to].handle(ParentView(ledger), peer, request, self.now)
        if isinstance(answer, Later):
            with ledger.transaction():
                answer = self.above[to].resume(ParentView(ledger), peer, answer, answer.until)
        assert isinstance(answer, Response)
        return answer

    def turn(self, name: str, fate: str = "") -> Request | None:
        """One request of a node, if it has one now."""
        if name in self.down:
            return None
        end, to = self.below[name], self.parent_of[name]
        step = end.next(self.now)
        if isinstance(step, Idle):
            return None
        if fate == "lose" or to in self.down:
            end.failed(step, self.now)
            return step
        answer = self.ask(name, to, step)
        if fate == "twice":
            answer = self.ask(name, to, step)
        if fate == "drop":
            end.failed(step, self.now)
        elif fate == "restart":
            self.restart(name)
        else:
            found = end.receive(step, answer, self.now)
            self.events += [(name, e) for e in found if not isinstance(e, NoticeArrived)]
            for event in found:
                if isinstance(event, NoticeArrived):
                    self.on_notice(name, event.notice)
        return step

    def run(self, rounds: int = 60, fate: Callable[[str], str] = lambda name: "") -> None:
        for _ in range(rounds):
            for name in self.below:
                self.turn(name, fate(name))
            self.now += 1.0

    def rows_at_cloud(self) -> dict[str, list[int]]:
        """{origin: counters} over all links of the cloud; fails if a row is on two."""
        found: dict[str, list[int]] = {}
        cloud = self.ledgers["cloud"]
        for child in [n for n, p in self.parent_of.items() if p == "cloud"]:
            samples = cloud.samples(NodeId(child))
            for origin, counter_N in zip(samples.origins, samples.counters, strict=True):
                assert origin not in found, f"{origin} is on two links"
                found[origin] = [int(c) for c in counter_N]
        return found

    def uploaded(self, name: str, since: int = 0) -> int:
        """Bytes of embeddings that a node sent, from request number `since` on."""
        return sum(
            len(r.body)
            for who, _, r in self.sent[since:]
            if who == name and r.path.startswith(("/v1/append", "/v1/ch"))
        )
