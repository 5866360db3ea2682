"""What the crash tests kill: a device, an edge and a cloud, each with its ledger, doing some rounds; and the audit.

Run as ``python workload.py FOLDER`` it goes on wherever an earlier, killed run stopped and ends when all is done. All
that it knows of the past is in the three ledgers and in the acknowledgements: a file to which each acknowledgement is
appended, unbuffered, after the ledger gave it. `matrix` forks such runs, so that a kill costs milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from matrix import matrix

from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.moves import Adoption
from fedagg_edge.records import Embeddings, Knowledge, Link, LogitsFormat, NodeId, PackedLogits, SampleSet, Tier

ROUNDS = int(os.environ.get("ROUNDS", "4"))
TIERS = {"d1": Tier.DEVICE, "e1": Tier.EDGE, "e2": Tier.EDGE, "cloud": Tier.CLOUD}
AGAIN = "d1-again"  # d1's ledger after it lost its state


def rows(origin, start, count):
    counter_N = np.arange(start, start + count, dtype=np.uint64)
    code_NB = np.stack([counter_N, counter_N * 3, np.full(count, ord(origin[-1]))], axis=1).astype(np.uint8)
    return Embeddings(SampleSet.of(NodeId(origin), counter_N), code_NB, (counter_N % 3).astype(np.int64))


def run(folder):
    """All of the work, skipping what the ledgers say is done."""
    nodes = {
        name: Ledger.open(
            folder / name, node=NodeId(name), federation="f", options=Options(tier=tier, clock=lambda: 1.0)
        )
        for name, tier in TIERS.items()
    }
    acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    cloud = nodes["cloud"]
    if cloud.facts_of(NodeId("e1")) is None:
        cloud.enrol(NodeId("e1"), Tier.EDGE, "01")
    if cloud.get("token") is None:
        with cloud.transaction():
            cloud.put("token", 1)
            cloud.put_token(b"t" * 32, None, Tier.DEVICE, 99.0)
    if cloud.spend_token(b"t" * 32, 2.0) is not None:
        os.write(acks, json.dumps(["token"]).encode() + b"\n")
    for number in range(cloud.get("rounds") or 0, ROUNDS):
        one_round(nodes, acks, number)
        cloud.put("rounds", number + 1)
    migrate(nodes, acks)
    if not cloud.get("forgotten"):
        cloud.forget(NodeId("b"))
        cloud.put("forgotten", True)
    meet(nodes["e1"], cloud, acks)
    begin_again(folder, nodes, acks)
    for ledger in nodes.values():
        ledger.close()


def begin_again(folder, nodes, acks):
    """d1 has lost its state: rows are there before it hears from its parent what it had."""
    new, cloud = nodes["e2"], nodes["cloud"]
    device = nodes[AGAIN] = Ledger.open(
        folder / AGAIN, node=NodeId("d1"), federation="f", options=Options(clock=lambda: 1.0)
    )
    if not device.get("begun"):
        with device.transaction():
            device.send(rows("d1", 2000, 3))
            device.send(rows("d1", 2100, 2))
            device.put("begun", True)
        write(acks, "sent", "d1", "again")
    if not device.joined():
        device.follow(new.entries(device.node, device.acknowledged().entry, inline=1 << 30))
        device.join()
    meet(device, new, acks)
    meet(new, cloud, acks)
    meet(nodes["d1"], new, acks)  # so that it says the same whenever it was killed


def migrate(nodes, acks):
    """d1 goes from e1 to e2 while e1 has rows of it that the cloud does not know, and tells of them late."""
    device, old, new, cloud = nodes["d1"], nodes["e1"], nodes["e2"], nodes["cloud"]
    if not device.get("late"):
        with device.transaction():
            device.send(rows("d1", 900, 3))
            device.put("late", True)
        write(acks, "sent", "d1", "late")
    if device.fence(device.node) == 0:
        meet(device, old, acks)
    asked = Adoption(node=device.node, child=new.node, origins=(device.node,), fence=1)
    if cloud.adoption(device.node) is None:
        cloud.adopt(asked)
    at_new = Adoption(node=device.node, child=device.node, origins=(device.node,), fence=1)
    if new.adoption(device.node) is None:
        new.introduce(device.node, Tier.DEVICE, "01")
        new.adopt(at_new)
    if new.adoption(device.node).head is None:
        meet(new, cloud, acks)
        new.settle(at_new)
    if device.fence(device.node) == 0:
        device.rebase(new.entries(device.node, 0, inline=1 << 30), 1)
    meet(device, new, acks)
    meet(old, cloud, acks)  # late
    meet(new, cloud, acks)
    meet(device, new, acks)
    meet(old, cloud, acks)


def one_round(nodes, acks, number):
    device, edge, cloud = nodes["d1"], nodes["e1"], nodes["cloud"]
    if (device.get("round") or 0) <= number:
        with device.transaction():
            device.send(rows("d1", 10 * number, 5))
            device.put("round", number + 1)
        write(acks, "sent", "d1", number)
    commit_foreign(edge, acks, number)
    meet(device, edge, acks)
    meet(edge, cloud, acks)
    if number == 2 and not device.get("retired"):
        with device.transaction():
            device.put("retired", True)
            device.retire_rows(SampleSet.of(NodeId("d1"), np.array([0, 11], np.uint64)))
    meet(device, edge, acks)
    meet(edge, cloud, acks)
    link = Link(NodeId("e1"), NodeId("cloud"))
    logits = PackedLogits(LogitsFormat.F32, np.full((2, 3), number, np.float32))
    known = Knowledge("f", link, link.child, number, "ab" * 32, 0, logits)
    with cloud.transaction():
        if cloud.put_knowledge(known, number - 1):
            cloud.put("knowledge", (cloud.get("knowledge") or 0) + 1)


def commit_foreign(edge, acks, number):
    from fedagg_edge.wire.tensors import dump_embeddings

    done = edge.append(NodeId("b"), 1, dump_embeddings(rows("b", number, 1)), key=number + 1, by="child")
    write(acks, "b", number + 1, done.entry)


def meet(child, parent, acks):
    """One exchange: what waits, then the news."""
    child.follow(parent.entries(child.node, child.acknowledged().entry, inline=1 << 30))
    for batch in child.pending(inline=1 << 30):
        done = parent.append(child.node, batch.kind, batch.payload, key=batch.key, by="child")
        write(acks, child.node, batch.key, done.entry)
        if done.entry > child.acknowledged().entry + 1:
            child.follow(parent.entries(child.node, child.acknowledged().entry, inline=1 << 30))
        child.set_acknowledged(batch.key, done.entry, done.digest)
    child.follow(parent.entries(child.node, child.acknowledged().entry, inline=1 << 30))


def write(acks, *what):
    os.write(acks, json.dumps(what).encode() + b"\n")


def state(folder):
    """All that must be the same whether or not the run was killed."""
    found = {}
    for name, tier in {**TIERS, AGAIN: Tier.DEVICE}.items():
        node = NodeId(name.removesuffix("-again"))
        ledger = Ledger.open(folder / name, node=node, federation="f", options=Options(tier=tier))
        ledger.db.check()
        logs = ledger.db.all("SELECT child, number, kind, rows, digest FROM entries ORDER BY child, number")
        found[name] = {
            "heads": [list(row[:1]) + list(row[1:]) for row in ledger.db.all("SELECT child, head, digest FROM links")],
            "logs": [list(row) for row in logs],
            "waiting": [[b.kind, b.rows] for b in ledger.pending()],
            "joined": ledger.joined(),
            "knowledge": ledger.get("knowledge"),
            "versions": [row[0] for row in ledger.db.all("SELECT version FROM knowledge ORDER BY version")],
            "unnamed": ledger.db.one(
                "SELECT count(*) FROM payloads WHERE id NOT IN (SELECT payload FROM entries"
                " UNION SELECT payload FROM outbox)"
            )[0],
            "rows": sorted(
                (str(o), int(c), bytes(code).hex(), int(y))
                for child in ([node] if node == "d1" else ledger_children(ledger))
                for o, c, code, y in flat(ledger, child)
            ),
        }
        ledger.close()
    return found


def ledger_children(ledger):
    return [row[0] for row in ledger.db.all("SELECT child FROM links WHERE head > 0")]


def flat(ledger, child):
    from fedagg_edge.ledger import log

    found = log.fold(ledger.db, child).embeddings()
    ids = [(o, c) for o, cs in zip(found.samples.origins, found.samples.counters, strict=True) for c in cs]
    return [(*i, code, y) for i, code, y in zip(ids, found.code_NB, found.label_N, strict=True)]


def audit(folder):
    """Every acknowledgement that was ever given: its entry is there, under its key, once, and never said otherwise."""
    told: dict[tuple[str, int], set[int]] = {}
    lines = [json.loads(line) for line in (folder / "acks").read_text().splitlines()]
    for what in lines:
        if len(what) == 3 and what[0] != "sent":
            told.setdefault((what[0], what[1]), set()).add(what[2])
    assert all(len(entries) == 1 for entries in told.values()), told
    assert Counter(tuple(what) for what in lines if what[0] == "token")["token",] <= 1
    for (child, key), (entry,) in ((k, tuple(v)) for k, v in told.items()):
        there = []
        for parent in {"d1": ("e1", "e2"), "b": ("e1",), "e1": ("cloud",), "e2": ("cloud",)}[child]:
            options = Options(tier=TIERS[parent])
            ledger = Ledger.open(folder / parent, node=NodeId(parent), federation="f", options=options)
            there += ledger.db.all("SELECT number FROM entries WHERE child = ? AND key = ?", (child, key))
            ledger.close()
        assert there == [(entry,)], (child, key, entry, there)


if __name__ == "__main__":
    found = matrix(Path(sys.argv[1]), int(sys.argv[2]), run=run, state=state, audit=audit)
    sys.stdout.write(json.dumps(found))
