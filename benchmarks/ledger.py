"""What the ledger costs: CPU and time a committed knowledge exchange, alone and in groups; appends and reads.

    python benchmarks/ledger.py [--quick] [--json] [--folder FOLDER]

An exchange is what a gateway commits for one: the child's knowledge (222 rows of 10 classes, int8) stored, the parent's
newest read, the child's cursor moved. CPU is user and system time of this process. FOLDER should be on the disk that
a server would use. --json prints one list of rows: figure, value, unit, goal, holds, machine, date.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.store import LedgerStore
from fedagg_edge.records import (
    Embeddings,
    Knowledge,
    Link,
    LogitsFormat,
    NodeId,
    PackedLogits,
    SampleSet,
    Tier,
    counters,
)

ROWS, CLASSES, NODES, GROUP = 222, 10, 50, 50
CLOUD = NodeId("cloud")


def knowledge(child: NodeId, publisher: NodeId, version: int) -> Knowledge:
    value_NC = np.full((ROWS, CLASSES), version % 100, np.int8)
    logits = PackedLogits(LogitsFormat.INT8, value_NC, np.ones(ROWS, np.float32))
    return Knowledge("bench", Link(child, CLOUD), publisher, version, "ab" * 32, 0, logits)


def exchange(ledger: Ledger, child: NodeId, version: int) -> None:
    with ledger.savepoint():
        ledger.put_knowledge(knowledge(child, child, version), version - 1)
        ledger.newest(Link(child, CLOUD), CLOUD)
        ledger.put(f"cursor.{child}", version)


def exchanges(ledger: Ledger, count: int, group: int) -> tuple[float, float]:
    """(CPU, elapsed) seconds an exchange."""
    names = [NodeId(f"d{i}") for i in range(NODES)]
    base = (ledger.get("base") or 0) + 1
    cpu, began = time.process_time(), time.perf_counter()
    for start in range(0, count, group):
        with ledger.transaction():
            for i in range(start, start + group):
                exchange(ledger, names[i % NODES], base + i // NODES)
    used = (time.process_time() - cpu) / count, (time.perf_counter() - began) / count
    ledger.put("base", base + count // NODES)
    return used


def rows(start: int, count: int) -> Embeddings:
    rng = np.random.default_rng(start)
    samples = SampleSet.of(NodeId("d0"), counters(start, count))
    return Embeddings(samples, rng.integers(0, 256, (count, 256), np.uint8), np.zeros(count, np.int64))


def seconds(work: Callable[[], Any]) -> float:
    cpu = time.process_time()
    work()
    return time.process_time() - cpu


def measure(folder: Path, quick: bool) -> list[tuple[str, float, str, float | None]]:
    options = Options(tier=Tier.CLOUD)
    ledger = Ledger.open(folder / "bench.ledger", node=CLOUD, federation="bench", options=options)
    for i in range(NODES):
        ledger.put_knowledge(knowledge(NodeId(f"d{i}"), CLOUD, 0), -1)
    count = 200 if quick else 1000
    exchanges(ledger, count, GROUP)
    alone, grouped = exchanges(ledger, count, 1), exchanges(ledger, 5 * count, GROUP)
    store = LedgerStore(ledger)
    total, batch = (5_000, 500) if quick else (50_000, 500)
    fill = seconds(lambda: [store.append(NodeId("d0"), rows(i, batch)) for i in range(0, total, batch)])
    store.read(NodeId("d0"))
    again = seconds(lambda: store.read(NodeId("d0")))
    store.append(NodeId("d0"), rows(total, 5))
    grown = seconds(lambda: store.read(NodeId("d0")))
    ledger.close()
    cold_ledger = Ledger.open(folder / "bench.ledger", node=CLOUD, federation="bench", options=options)
    cold = seconds(lambda: LedgerStore(cold_ledger).read(NodeId("d0")))
    cold_ledger.close()
    return [
        ("exchange committed alone, CPU", 1e6 * alone[0], "us", None),
        ("exchange committed alone, elapsed", 1e6 * alone[1], "us", None),
        (f"exchange in groups of {GROUP}, CPU", 1e6 * grouped[0], "us", 100.0),
        (f"exchange in groups of {GROUP}, elapsed", 1e6 * grouped[1], "us", None),
        (f"append of {batch} rows of 256 bytes, mean up to {total} rows, CPU", 1e3 * fill * batch / total, "ms", None),
        (f"read {total} rows, nothing new, CPU", 1e3 * again, "ms", 1.0),
        (f"read {total} rows after 5 new ones, CPU", 1e3 * grown, "ms", None),
        (f"read {total} rows in a new process, CPU", 1e3 * cold, "ms", None),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        figures = measure(Path(folder), args.quick)
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    if args.json:
        found = [
            {"figure": name, "value": value, "unit": unit, "goal": goal,
             "holds": None if goal is None else value <= goal, **about}
            for name, value, unit, goal in figures
        ]  # fmt: skip
        print(json.dumps(found, indent=1))
        return
    for name, value, unit, goal in figures:
        print(f"{name:65} {value:10.1f} {unit}{'' if goal is None else f'   goal {goal:g}'}")


if __name__ == "__main__":
    main()
