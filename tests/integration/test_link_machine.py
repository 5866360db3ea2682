"""A link under a network that holds requests and answers back, delivers them in any order and as often as it likes.

What TLS hides from a proxy is done here, on requests: a copy of a request may arrive long after newer ones, an answer
after the child gave up or was started again. Whatever happened, once the network is well both ends have one log, each
sample once, and each other's newest knowledge.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

UNIT = Path(__file__).parents[1] / "unit"
sys.path[:0] = [p for p in (str(UNIT), str(UNIT / "wire")) if p not in sys.path]

from pairs import DEVICE, EDGE, SMALL, Pair  # noqa: E402
from toys import embeddings  # noqa: E402

from fedagg_edge.errors import DataError  # noqa: E402
from fedagg_edge.ledger.log import Kind  # noqa: E402
from fedagg_edge.records import SampleSet  # noqa: E402
from fedagg_edge.wire.child import Idle  # noqa: E402
from fedagg_edge.wire.limits import Limits  # noqa: E402
from fedagg_edge.wire.tensors import dump_embeddings, dump_samples  # noqa: E402

ROWS = 70  # over SMALL's inline bytes, so that they travel in chunks


class Link(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no disk is tested here
        self.folder = tempfile.TemporaryDirectory(dir=memory)
        self.pair = None
        self.air, self.answers = [], []
        self.sent = self.written = 0
        self.forgotten = set()
        self.versions = {DEVICE: 0, EDGE: 0}
        self.seen = (0, 0, -1, -1)

    @precondition(lambda self: self.pair is None)
    @rule(small=st.booleans())
    def begin(self, small):
        self.pair = Pair(Path(self.folder.name), limits=SMALL if small else Limits())

    def can_teach(self):
        """Not while an entry is here whose rows are forgotten by one that is on its way."""
        try:
            return len(self.pair.child.samples(DEVICE)) > 0
        except DataError:
            return False

    # what happens at the ends

    @precondition(lambda self: self.pair)
    @rule()
    def new_samples(self):
        self.pair.send(ROWS, self.sent)
        self.sent += ROWS

    @precondition(lambda self: self.pair)
    @rule()
    def the_parent_writes(self):
        rows = embeddings(DEVICE, ROWS, start=100_000 + self.written)
        self.pair.parent.append(DEVICE, Kind.APPEND, dump_embeddings(rows), key=None, by="parent")
        self.written += ROWS

    @precondition(lambda self: self.written > len(self.forgotten))
    @rule()
    def the_parent_forgets(self):
        number = 100_000 + len(self.forgotten)
        self.forgotten.add(number)
        gone = SampleSet.of(DEVICE, np.array([number], np.uint64))
        self.pair.parent.append(DEVICE, Kind.FORGET, dump_samples(gone), key=None, by="parent")

    @precondition(lambda self: self.pair and len(self.pair.parent.samples(DEVICE)))
    @rule()
    def the_parent_teaches(self):
        self.pair.publish(self.pair.parent, EDGE, self.versions[EDGE])
        self.versions[EDGE] += 1

    @precondition(lambda self: self.pair and self.can_teach())
    @rule()
    def the_child_teaches(self):
        self.pair.publish(self.pair.child, DEVICE, self.versions[DEVICE], basis=self.pair.heard())
        self.versions[DEVICE] += 1

    # what the network does

    @precondition(lambda self: self.pair)
    @rule(copies=st.integers(1, 3))
    def ask(self, copies):
        step = self.pair.talker.next(self.pair.clock())
        if isinstance(step, Idle):
            self.pair.clock.now = max(step.until, self.pair.clock.now)
            return
        self.air += [step] * copies
        self.pair.clock.now += 0.1

    @precondition(lambda self: self.air)
    @rule(data=st.data())
    def deliver_any(self, data):
        request = self.air.pop(data.draw(st.integers(0, len(self.air) - 1)))
        self.answers.append((request, self.pair.ask(request)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_any(self, data):
        request, response = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        self.pair.events += self.pair.talker.receive(request, response, self.pair.clock())

    @precondition(lambda self: self.pair)
    @rule(count=st.integers(1, 8))
    def a_well_while(self, count):
        for _ in range(count):
            self.pair.turn()

    @precondition(lambda self: self.air)
    @rule()
    def give_up(self):
        self.pair.talker.failed(self.air[-1], self.pair.clock())

    @precondition(lambda self: self.pair)
    @rule(seconds=st.sampled_from([0.0, 1.0, 1e5]))
    def the_child_starts_again(self, seconds):
        self.pair.restart()
        self.pair.clock.now += seconds

    @invariant()
    def the_child_is_never_ahead(self):
        if self.pair:
            known, there = self.pair.child.acknowledged(), self.pair.parent.head(DEVICE)
            assert known.entry <= there.entry
            assert self.pair.given() < self.versions[DEVICE] or self.pair.given() == -1
            assert self.pair.heard() < self.versions[EDGE] or self.pair.heard() == -1

    @invariant()
    def nothing_is_ever_taken_back(self):
        if self.pair:
            now = (
                self.pair.child.acknowledged().entry,
                self.pair.parent.head(DEVICE).entry,
                self.pair.given(),
                self.pair.heard(),
            )
            assert all(a <= b for a, b in zip(self.seen, now, strict=True)), (self.seen, now)
            self.seen = now

    def teardown(self):
        try:
            if self.pair is not None:
                self._settle()
                self.pair.close()
        finally:
            self.folder.cleanup()

    def _settle(self):
        """All that is still in the air arrives, oldest last; then the network is well."""
        for request in reversed(self.air):
            self.answers.append((request, self.pair.ask(request)))
        for request, response in self.answers:
            self.pair.talker.receive(request, response, self.pair.clock())
        self.pair.talker.failed(self.pair.talker._sent, self.pair.clock())
        self.pair.clock.now += 1000
        self.pair.settle(900)
        self.pair.assert_same()
        mine = self.pair.parent.samples(DEVICE)
        numbers = [int(c) for counter_N in mine.counters for c in counter_N]
        written = set(range(100_000, 100_000 + self.written)) - self.forgotten
        assert numbers == sorted(set(range(self.sent)) | written)


Link.TestCase.settings = settings(max_examples=25, stateful_step_count=40)
TestLink = Link.TestCase
