"""What a change to the demo costs its cloud, paired by seed: the mean difference and its 95% interval.

    python benchmarks/paired.py int8             20 seeds, knowledge as int8 instead of f32; 25 minutes on one core
    python benchmarks/paired.py moves            a third of the devices changes parents at half time, missing a round
    python benchmarks/paired.py sync             as a fleet of processes on loopback instead of in the simulator
    python benchmarks/paired.py async            the same, nobody waiting for anybody
    python benchmarks/paired.py int8 --jobs 2    on two cores
    python benchmarks/paired.py --quick          int8 and moves, 2 seeds, 2 rounds: a look, no measurement
    python benchmarks/paired.py async --keep F   write each pair to F at once, with commit and date, and take those that
                                                 are there from it; docs/paired.jsonl has those of docs/fleet.md
    python benchmarks/paired.py int8 --json      one list of rows, for machines

Both runs of a pair have the same partition, weights and autoencoder; the interval is Student's over the pairs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from support.kept import keep, kept

from fedagg_edge import load_config, simulate
from fedagg_edge.config import SimulationConfig, parse_config
from fedagg_edge.fleet import up
from fedagg_edge.records import Tier
from fedagg_edge.reproduce.run import commit_of
from fedagg_edge.simulation.progress import Silent

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits.toml"
CHANGES: dict[str, Callable[[int], dict[str, Any]]] = {  # of the number of rounds
    "int8": lambda rounds: {"knowledge": "int8"},
    "moves": lambda rounds: {"moves": [{"round": rounds // 2, "share": 1 / 3, "away": 1}]},
}
FLEETS = {"sync": "sync", "async": "async"}  # the mode of the fleet's rounds
GOALS = {"int8": 0.5, "moves": 1.0, "sync": 1.5, "async": 2.5}  # points that the change may cost
TWO_SIDED = FLEETS.keys()  # the interval must lie within the goal on both sides
ROUNDS = 20  # of the demo
QUICK = ("int8", "moves")
# the 97.5% quantile of Student's t with n - 1 degrees of freedom
T_975 = {2: 12.706, 3: 4.303, 5: 2.776, 10: 2.262, 20: 2.093}
MACHINE = platform.processor() or platform.machine()


def experiment(seed: int, rounds: int, change: Mapping[str, Any]) -> SimulationConfig:
    """The demo at this seed, judged at its end only."""
    raw = msgspec.to_builtins(load_config(EXAMPLE))
    base_dir = raw.pop("base_dir")
    fixed = {"seed": seed, "rounds": rounds, "checkpoint_every": rounds}
    fixed["evaluation"] = {"every": rounds, "devices": 1, "references": False}
    return parse_config({**raw, **fixed, **change}, base_dir=base_dir)


def simulated(config: SimulationConfig) -> float:
    """The cloud's test accuracy at the end, in points."""
    with tempfile.TemporaryDirectory() as folder:
        return 100 * simulate(config, out=folder, overwrite=True).final(Tier.CLOUD)


def in_fleet(config: SimulationConfig, mode: str) -> float:
    """The same of a fleet of processes whose cloud calls it finished after as many passes over all rows."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = {"target": config.rounds, "mode": mode}
        fleet = up.lay_out(config, Path(folder) / "fleet", rounds=rounds, progress=Silent())
        up.run_fleet(fleet, lambda row: None)
        accuracy = up.tier_accuracy(fleet, Tier.CLOUD)
        assert accuracy is not None
        return 100 * accuracy


def pair(seed: int, rounds: int, name: str, path: Path | None) -> tuple[float, float]:
    """The demo as it is and with the change, at one seed."""
    known = {line[0]: tuple(line[1]) for line in kept(path)}
    key = f"{name}, {rounds} rounds, seed {seed}"
    if key not in known:
        commit = commit_of()
        without = simulated(experiment(seed, rounds, {}))
        if name in FLEETS:
            with_it = in_fleet(experiment(seed, rounds, {}), FLEETS[name])
        else:
            with_it = simulated(experiment(seed, rounds, CHANGES[name](rounds)))
        known[key] = (without, with_it)
        about = {"commit": commit, "date": datetime.date.today().isoformat(), "machine": MACHINE}
        keep(path, [key, known[key], about])
    without, with_it = known[key]
    return without, with_it


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Student's 95% interval of the mean."""
    n = len(differences)
    half = T_975[n] * float(differences.std(ddof=1)) / math.sqrt(n)
    return float(differences.mean()) - half, float(differences.mean()) + half


def rows(name: str, pairs: np.ndarray) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks."""
    about = {"machine": MACHINE, "date": datetime.date.today().isoformat()}
    difference = pairs[:, 1] - pairs[:, 0]
    low, high = interval(difference)
    goal, both = GOALS[name], name in TWO_SIDED
    figures = [
        ("cloud without", pairs[:, 0].mean(), None, None),
        ("cloud with", pairs[:, 1].mean(), None, None),
        ("difference, mean", difference.mean(), -goal, bool(difference.mean() >= -goal)),
        ("difference, 95% interval from", low, -goal, low >= -goal),
        ("difference, 95% interval to", high, goal if both else None, high <= goal if both else None),
    ]
    return [
        {
            "figure": f"{name}, {len(pairs)} seeds: {figure}",
            "value": float(value),
            "unit": "points",
            "goal": bound,
            "holds": holds,
            **about,
        }
        for figure, value, bound, holds in figures
    ]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", metavar="CHANGE", nargs="*", help=f"{', '.join(GOALS)}; without one: all")
    parser.add_argument("--seeds", type=int, choices=sorted(T_975), default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.changes) - set(GOALS):
        parser.error(f"got {', '.join(sorted(unknown))}, expected {', '.join(GOALS)}")
    seeds, rounds = (2, 2) if args.quick else (args.seeds, ROUNDS)
    found = []
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        for name in args.changes or (QUICK if args.quick else GOALS):
            given = (range(seeds), [rounds] * seeds, [name] * seeds, [args.keep] * seeds)
            pairs = np.array(list(pool.map(pair, *given)))
            found += rows(name, pairs)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for row in found:
        print(f"{row['figure']:<50} {row['value']:7.2f} points")


if __name__ == "__main__":
    main()
