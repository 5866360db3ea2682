"""What the crash tests kill of `fedagg forget`: the command, the cloud, an edge and an edge below that one.

The order goes down as a notice and receipts come up, by the protocol's own ends in one process. Run as
``python orders.py FOLDER BUDGET`` it kills at each named place, starts again, and compares: rows and knowledge gone
everywhere, each receipt at the cloud, no row counted twice, none of the bytes in any file of a ledger.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from matrix import matrix

from fedagg_edge.cli import forget
from fedagg_edge.fleet import forgetting, receipts
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.parent_link import ParentLink
from fedagg_edge.fleet.views import ChildView, ParentView
from fedagg_edge.identity import revocation
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import Embeddings, Knowledge, Link, LogitsFormat, NodeId, PackedLogits, SampleSet, Tier
from fedagg_edge.wire import events
from fedagg_edge.wire.child import ChildEnd, Idle
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.parent import ParentEnd
from fedagg_edge.wire.state import Peer
from fedagg_edge.wire.tensors import dump_embeddings
from fedagg_edge.wire.terms import Terms

CLASSES, ROWS = 3, 6
CLOUD, EDGE, LOWER, GONE, OTHER = map(NodeId, ("cloud", "edge-0", "edge-1", "d1", "d2"))
TIERS = {CLOUD: Tier.CLOUD, EDGE: Tier.EDGE, LOWER: Tier.EDGE}
PATTERN = bytes(range(200, 232))  # in the rows of who is forgotten alone
LINKS = ((LOWER, EDGE), (EDGE, CLOUD))


def open_all(place, stack):
    """The ledgers, and what each node does at its start."""
    found = {}
    for node, tier in TIERS.items():
        (place / node).mkdir(exist_ok=True)
        found[node] = Ledger.open(
            place / node / "ledger.sqlite", node=node, federation="f", options=Options(tier=tier, clock=lambda: 1.0)
        )
        stack.callback(found[node].close)
        forgetting.finish(found[node], sleep=lambda s: None)
    return found


def prepare(place):
    """Two devices' rows at the lower edge and above it, and knowledge about them."""
    with ExitStack() as stack:
        ledgers = open_all(place, stack)
        ledgers[CLOUD].enrol(EDGE, Tier.EDGE, "1")
        ledgers[EDGE].enrol(LOWER, Tier.EDGE, "1")
        for device in (GONE, OTHER):
            ledgers[LOWER].enrol(device, Tier.DEVICE, device)
            code_NB = np.full((ROWS, len(PATTERN)), 7, np.uint8)
            if device == GONE:
                code_NB[:] = np.frombuffer(PATTERN, np.uint8)
            rows = Embeddings(
                SampleSet.of(device, np.arange(ROWS, dtype=np.uint64)), code_NB, np.arange(ROWS) % CLASSES
            )
            ledgers[LOWER].append(device, Kind.APPEND, dump_embeddings(rows), key=1, by="child")
        settle(place, ledgers)
        logits = PackedLogits(LogitsFormat.F32, np.ones((2 * ROWS, CLASSES), np.float32))
        for child, parent in LINKS:
            for node in (child, parent):
                digest = ledgers[node].head(child).digest
                known = Knowledge("f", Link(child, parent), child, 0, digest, 0, logits)
                ledgers[node].put_knowledge(known, -1)
    (place / CLOUD / "identity").mkdir()
    (place / "cloud.toml").write_text(
        'federation = "f"\nclasses = 3\n[node]\nid = "cloud"\nstate = "cloud"\nmodel = "mlp"\n'
        '[autoencoder]\npath = "none"\n[listen]\nhost = "127.0.0.1"\nport = 0\n'
    )


def run(place):
    """The operator's command, until it ended well; then all that nodes say to each other, and a look at the files."""
    if not (place / "receipt.json").exists():
        words = {"node": GONE, "config": place / "cloud.toml", "revoke": True, "wait": 0.0,
                 "receipt": place / "receipt.json"}  # fmt: skip
        stdout, sys.stdout = sys.stdout, io.StringIO()
        try:
            assert forget.run(argparse.Namespace(**words)) == 0
        finally:
            sys.stdout = stdout
    with ExitStack() as stack:
        ledgers = open_all(place, stack)
        settle(place, ledgers)
        for node in TIERS:  # while they are open: closing one would clean up what is to be clean already
            there = [p.name for p in (place / node).glob("ledger.sqlite*") if PATTERN in p.read_bytes()]
            assert there == [], (node, there)


def settle(place, ledgers):
    for _ in range(3):
        for child, parent in reversed(LINKS):
            talk(place, ledgers, child, parent)


def talk(place, ledgers, child, parent, steps=25):
    """A child's link after a start of its process."""
    ledger, now = ledgers[child], 1e6
    end = ChildEnd(ChildView(ledger), child, Tier.EDGE, "f", "t", random.Random(0))
    above = ParentEnd(Terms("f", parent, CLASSES, limits=Limits(), software="t"))
    link = ParentLink.__new__(ParentLink)  # what it does with a notice, without its threads
    link._log, link._identity = Log(io.StringIO()), place / child
    for _ in range(steps):
        now += 61.0
        asked = end.next(now)
        if isinstance(asked, Idle):
            continue
        with ledgers[parent].transaction():
            view, peer = ParentView(ledgers[parent]), Peer(child, Tier.EDGE, "1")
            answer = above.handle(view, peer, asked, now)
            if not hasattr(answer, "status"):
                answer = above.resume(view, peer, answer, 1e12)
        for event in end.receive(asked, answer, now):
            match event:
                case events.NoticeArrived(notice):
                    link._noticed(ledger, notice)
                case events.ReceiptsTaken(taken):
                    receipts.mark_sent(ledger, taken)


def state(place):
    """What must be the same. A command that was killed before its file was written was given again: two orders."""
    found = {}
    with ExitStack() as stack:
        ledgers = open_all(place, stack)
        cloud = ledgers[CLOUD]
        orders = {receipts._order(b) for b in cloud.get(receipts.RECEIPTS + CLOUD)}
        by_order = [receipts.known(cloud, order) for order in orders]
        told = [[(s.receipt.node, s.receipt.scrubbed) for s in known] for known in by_order]
        assert all(sorted(each) == sorted((n, True) for n in TIERS) for each in told), told
        found["rows"] = {n: sum(s.receipt.rows for k in by_order for s in k if s.receipt.node == n) for n in TIERS}
        found["changed"] = {
            n: sum(s.receipt.knowledge for k in by_order for s in k if s.receipt.node == n) for n in TIERS
        }
        for node, ledger in ledgers.items():
            ledger.db.check()
            links = [NodeId(c) for (c,) in ledger.db.all("SELECT child FROM links WHERE head > 0 ORDER BY child")]
            found[node] = {
                "samples": {c: {o: n.tolist() for o, n in parts(ledger.samples(c))} for c in links},
                "versions": ledger.db.all("SELECT child, publisher, version, logits IS NULL FROM knowledge"),
                "waiting": len(ledger.pending()),
                "unsent": 0 if node == CLOUD else len(receipts.pending(ledger)),
            }
    found["revoked"] = [sorted(revocation.load(place / n).nodes) for n in (EDGE, LOWER)]
    found["revoked"].append(sorted(revocation.load(place / CLOUD / "identity").nodes))
    return found


def parts(samples):
    return zip(samples.origins, samples.counters, strict=True)


if __name__ == "__main__":
    done = matrix(Path(sys.argv[1]), int(sys.argv[2]), run=run, state=state, prepare=prepare)
    sys.stdout.write(json.dumps(done))
