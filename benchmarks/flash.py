"""What a device agent writes to its disk, for boards whose flash wears out: bytes a round, with bounds.

    python benchmarks/flash.py [--quick] [--json] [--place FOLDER]

A cloud, an edge and a device as processes on loopback over TLS; the device trains on TFLite and cannot import torch.
Its `write_bytes` of /proc/PID/io are what the kernel sent, or will send, to storage for it: whole pages, the file
system's own journal left out. The processes it starts (enrolment) are not in it. A round's bytes are the slope over
the rounds that the agent finished, held against `bound`. Needs a folder on a disk: --place, or else the checkout's
build; on a tmpfs the kernel counts no writes, and the figures are refused.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from support.board import CLASSES, board_config, equip_board, without_torch

from fedagg_edge.config import parse_config
from fedagg_edge.fleet.up import lay_out, read_metrics
from fedagg_edge.simulation.progress import Silent

CASES = ((100, 24), (1000, 24), (100, 512))
"""Samples and hidden units of the MLP: a small one, one with more samples, one with more weights."""
BUILD = Path(__file__).parents[1] / "build"
Figure = tuple[str, float, str, float | None]  # name, value, unit, at most


def bound(samples: int, weights: int) -> float:
    """Bytes that a round may write.

    Fixed, 96 KiB: some 20 pages of SQLite's log and file, a manifest, a line of metrics. The checkpoint: a weight and
    its momentum, 8 bytes; half more for whole pages. Knowledge as int8, a row `CLASSES` bytes and its scale: sent and
    received, each into the log and from there into the file; a quarter more for pages that are not full.
    """
    return 96 * 1024 + 12 * weights + 5 * samples * (CLASSES + 4)


def written(pid: int) -> int:
    """Bytes that a process caused to be sent to storage so far."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def watch(place: Path, samples: int, hidden: int, rounds: int) -> tuple[float, float, int, int]:
    """(bytes up to the end of the first round, bytes a round after it, bytes of the state folder, weights)."""
    fleet = lay_out(
        parse_config(board_config(rounds, hidden, name="flash", knowledge="int8")),
        place,
        rounds={"target": rounds, "deadline": 600.0},
        progress=Silent(),
    )
    device = fleet.nodes[-1]
    home, blocked = fleet.home(device), without_torch(place / "blocked")
    weights = equip_board(fleet, home, hidden, samples=samples)
    usual = os.environ.get("PYTHONPATH", "")
    seen: dict[int, int] = {}  # rounds finished: bytes by then
    try:
        for node in fleet.nodes:
            os.environ["PYTHONPATH"] = str(blocked) if node is device else usual
            fleet.start(node)
        pid = fleet.processes[device.place.id].pid
        for _ in range(12_000):
            seen[len(read_metrics(fleet, device))] = written(pid)
            rows = read_metrics(fleet, fleet.cloud)
            if rows and rows[-1]["finished"]:
                break
            fleet.check()
            time.sleep(0.02)
        else:
            raise SystemExit(f"no end after four minutes; see {fleet.folder}")
    finally:
        fleet.stop()
        os.environ["PYTHONPATH"] = usual
    state = sum(p.stat().st_size for p in (home / "state").rglob("*") if p.is_file())
    done = np.array(sorted(n for n in seen if n > 0))
    if seen[int(done[-1])] == 0:
        raise SystemExit(f"{place}: the kernel counted no writes, is it a tmpfs? give a folder on a disk by --place")
    slope = np.polyfit(done, [seen[int(n)] for n in done], 1)[0]
    return seen[int(done[0])], float(slope), state, weights


def measure(place: Path, rounds: int) -> Iterator[Figure]:
    for samples, hidden in CASES:
        first, each, state, weights = watch(place / f"{samples}-{hidden}", samples, hidden, rounds)
        about = f"{samples} samples, {weights} weights"
        yield f"written a round, {about}", each / 1024, "KiB", bound(samples, weights) / 1024
        yield f"written from enrolment to the first round's end, {about}", first / 1024, "KiB", None
        yield f"state folder after {rounds} rounds, {about}", state / 1024, "KiB", None
        yield f"a day of a round a minute, {about}", each * 1440 / 2**20, "MiB", None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 rounds instead of 60")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--place", type=Path, default=BUILD, help="a folder on a disk (build)")
    args = parser.parse_args()
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    rows = []
    args.place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.place) as place:
        for name, value, unit, most in measure(Path(place), 10 if args.quick else 60):
            holds = None if most is None else value <= most
            rows.append({"figure": name, "value": value, "unit": unit, "goal": most, "holds": holds, **about})
            if not args.json:
                print(f"{name:70} {value:9.1f} {unit}{'' if most is None else f'   at most {most:.0f}'}", flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
