"""A device's, an edge's and a cloud's ledgers against sets and dicts, in any order of operations, two connections each,
answers lost and ledgers reopened at random."""

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fedagg_edge.errors import Conflict, DataError
from fedagg_edge.ledger import erase, log
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Embeddings, Knowledge, Link, LogitsFormat, NodeId, PackedLogits, SampleSet, Tier
from fedagg_edge.wire.tensors import OWN, load_embeddings, load_samples

TIERS = {"d": Tier.DEVICE, "e": Tier.EDGE, "cloud": Tier.CLOUD}
LINK = Link(NodeId("d"), NodeId("e"))


def rows(counters):
    counter_N = np.array(sorted(counters), np.uint64)
    return Embeddings(
        SampleSet.of(NodeId("d"), counter_N), counter_N.astype(np.uint8)[:, None], (counter_N % 5).astype(np.int64)
    )


def digest(counters):
    return rows(counters).samples.digest if counters else SampleSet((), ()).digest


class LedgersBesideSets(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.open = {name: [self._open(name), self._open(name)] for name in TIERS}
        self.next = 0
        self.alive = set()  # what the device has and did not retire
        self.history = {"d": [set()], "e": [set()]}  # the set at each entry of the two links
        self.versions = {}

    def _open(self, name):
        options = Options(tier=TIERS[name], clock=lambda: 1.0)
        return Ledger.open(Path(self.folder.name) / name, node=NodeId(name), federation="f", options=options)

    def pick(self, data, name):
        return data.draw(st.sampled_from(self.open[name]), label=name)

    @rule(data=st.data(), count=st.integers(1, 4))
    def new_samples(self, data, count):
        new = set(range(self.next, self.next + count))
        self.next += count
        self.alive |= new
        assert self.pick(data, "d").send(rows(new)) is not None
        assert self.pick(data, "d").send(rows(new)) is None

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def retire(self, data):
        gone = data.draw(st.sets(st.sampled_from(sorted(self.alive)), min_size=1, max_size=3))
        self.alive -= gone
        self.pick(data, "d").retire(rows(gone).samples)

    @rule(data=st.data(), low=st.sampled_from(["d", "e"]), lost=st.booleans())
    def one_batch(self, data, low, lost):
        child, parent = self.pick(data, low), self.pick(data, {"d": "e", "e": "cloud"}[low])
        child.follow(parent.entries(child.node, child.acknowledged().entry))
        for batch in child.pending(limit=1):
            done = parent.append(child.node, batch.kind, batch.payload, key=batch.key, by="child")
            if not done.already:
                self._record(low, batch)
            if not lost:
                child.follow(parent.entries(child.node, child.acknowledged().entry))
                child.set_acknowledged(batch.key, done.entry, done.digest)

    def _record(self, link, batch):
        """Fold the batch in the obvious way."""
        before = self.history[link][-1]
        named = load_samples(batch.payload, OWN) if batch.kind == 2 else load_embeddings(batch.payload, OWN).samples
        ids = {int(c) for counter_N in named.counters for c in counter_N}
        self.history[link].append(before - ids if batch.kind == 2 else before | ids)

    @rule(data=st.data(), version=st.integers(0, 6), value=st.integers(0, 1))
    def knowledge(self, data, version, value):
        logits = PackedLogits(LogitsFormat.F32, np.full((1, 2), value, np.float32))
        known = Knowledge("f", LINK, LINK.child, version, "00" * 32, 0, logits)
        kept = sorted(self.versions)[-2:]
        try:
            took = self.pick(data, "e").put_knowledge(known, 0)
        except Conflict:
            assert version in kept
            assert self.versions[version] != value
            return
        assert took == (version > max(self.versions, default=-1))
        assert took or version not in kept or self.versions[version] == value
        if took:
            self.versions[version] = value

    @rule(data=st.data(), name=st.sampled_from(sorted(TIERS)), which=st.integers(0, 1))
    def reopen(self, data, name, which):
        self.open[name][which].close()
        self.open[name][which] = self._open(name)

    @rule(data=st.data())
    def old_digests_still_name_their_ids(self, data):
        link = data.draw(st.sampled_from(["d", "e"]))
        parent = self.pick(data, {"d": "e", "e": "cloud"}[link])
        wanted = data.draw(st.sampled_from(self.history[link]))
        with suppress(DataError):  # a batch that came reduced never told its ids
            assert parent.samples(NodeId(link), digest(wanted)).digest == digest(wanted)

    @invariant()
    def ends_agree(self):
        for name, parent in (("d", "e"), ("e", "cloud")):
            for ledger in self.open[parent]:
                assert ledger.head(NodeId(name)).digest == digest(self.history[name][-1])
            for ledger in self.open[name]:
                at = ledger.acknowledged()
                assert at.digest == digest(self.history[name][at.entry])
        for ledger in self.open["e"]:
            stored = ledger.newest(LINK, LINK.child)
            assert (stored.knowledge.version if stored else -1) == max(self.versions, default=-1)

    def teardown(self):
        """With nothing more lost, everything arrives: exactly the samples that are alive, with their content."""
        try:
            for _ in range(2):
                for name, parent in (("d", "e"), ("e", "cloud")):
                    self._drain(self.open[name][0], self.open[parent][1])
            for link, owner in (("d", "e"), ("e", "cloud")):
                found = log.fold(self.open[owner][0].db, NodeId(link)).embeddings()
                assert found.samples.digest == digest(self.alive)
                for name in (link, owner):  # what was forgotten is gone for good
                    db = self.open[name][0].db
                    assert erase.of_origin(db, NodeId("d")).digest == digest(self.alive)
                assert [int(c) for c in found.code_NB[:, 0]] == sorted(self.alive) if self.alive else True
        finally:
            for pair in self.open.values():
                for ledger in pair:
                    ledger.close()
            self.folder.cleanup()

    def _drain(self, child, parent):
        while batches := child.pending(limit=1):
            child.follow(parent.entries(child.node, child.acknowledged().entry))
            done = parent.append(child.node, batches[0].kind, batches[0].payload, key=batches[0].key, by="child")
            if not done.already:
                self._record(child.node, batches[0])
            child.follow(parent.entries(child.node, child.acknowledged().entry))
            child.set_acknowledged(batches[0].key, done.entry, done.digest)


LedgersBesideSets.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestLedgersBesideSets = LedgersBesideSets.TestCase
