"""What it costs the demo's cloud that a third of the devices change their parents in mid-training (paper, IV-D).

    python benchmarks/migration.py               20 seeds; 25 minutes on one core
    python benchmarks/migration.py --jobs 2      the same on two
    python benchmarks/migration.py --quick       2 seeds, 4 rounds
    python benchmarks/migration.py --json        one list of rows, for machines

Each seed runs examples/digits.toml twice, with everybody staying and with a third of the devices, drawn at random,
moving at half time to other edges and missing one round, as in a fleet the round under way is lost to them. Both runs
of a pair have the same partition, weights and autoencoder; the interval is Student's over the pairs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from paired import T_975, cloud_accuracy, interval

GOAL = 1.0  # points that the moves may cost at most
SHARE, AWAY = 1 / 3, 1
ROUNDS = 20  # of the demo


def pair(seed: int, rounds: int) -> tuple[float, float]:
    """The cloud's accuracy, in points, with everybody staying and with the moves, at one seed."""
    moves = [{"round": rounds // 2, "share": SHARE, "away": AWAY}]
    stayed, moved = cloud_accuracy(seed, rounds, {}), cloud_accuracy(seed, rounds, {"moves": moves})
    print(f"seed {seed:<3} {stayed:6.2f} -> {moved:6.2f}", file=sys.stderr)
    return stayed, moved


def rows(pairs: np.ndarray) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks."""
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    cost = pairs[:, 0] - pairs[:, 1]
    low, high = interval(cost)
    figures = [
        ("cloud, everybody stays", pairs[:, 0].mean(), None, None),
        ("cloud, a third moves at half time", pairs[:, 1].mean(), None, None),
        ("cost, mean", cost.mean(), GOAL, bool(cost.mean() <= GOAL)),
        ("cost, 95% interval from", low, None, None),
        ("cost, 95% interval to", high, GOAL, high <= GOAL),
    ]
    return [
        {
            "figure": f"migration, {len(pairs)} seeds: {figure}",
            "value": float(value),
            "unit": "points",
            "goal": goal,
            "holds": holds,
            **about,
        }
        for figure, value, goal, holds in figures
    ]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, choices=sorted(T_975), default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    seeds, rounds = (2, 4) if args.quick else (args.seeds, ROUNDS)
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        pairs = np.array(list(pool.map(pair, range(seeds), [rounds] * seeds)))
    found = rows(pairs)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for row in found:
        print(f"{row['figure']:<50} {row['value']:7.2f} points")


if __name__ == "__main__":
    main()
