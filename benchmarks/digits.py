"""What the demo reaches over several seeds: device alone, FedAgg's cloud, the centralised bound, the gap closed.

    python benchmarks/digits.py              10 seeds, about 10 minutes on one core
    python benchmarks/digits.py --jobs 2     the same on two
    python benchmarks/digits.py --quick      1 seed, 3 rounds
    python benchmarks/digits.py --json       one list of rows, for machines

Each seed draws its own partition, weights and autoencoder; the test set, the last split of the digits, stays the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from fedagg_edge import SimulationResults, load_config, simulate
from fedagg_edge.config import SimulationConfig, parse_config
from fedagg_edge.records import Tier

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits.toml"
GAP_GOAL = 0.8


def configured(seed: int, rounds: int | None) -> SimulationConfig:
    """The demo's configuration with another seed."""
    import msgspec  # noqa: PLC0415

    raw = msgspec.to_builtins(load_config(EXAMPLE))
    base_dir = raw.pop("base_dir")
    return parse_config({**raw, "seed": seed, "rounds": rounds or raw["rounds"]}, base_dir=base_dir)


def one(seed: int, rounds: int | None) -> SimulationResults:
    """The run of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        results = simulate(configured(seed, rounds), out=folder, overwrite=True)
    print(line(f"seed {seed}", [results]), file=sys.stderr)
    return results


def run(seeds: int, rounds: int | None, jobs: int) -> list[SimulationResults]:
    """One run a seed, `jobs` of them at a time."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(pool.map(one, range(seeds), [rounds] * seeds))


def columns(results: list[SimulationResults]) -> dict[str, np.ndarray]:
    """Figures by name, one value a seed."""
    return {
        "device alone": np.array([r.alone for r in results], float),
        "device": np.array([r.final(Tier.DEVICE) for r in results]),
        "edge": np.array([r.final(Tier.EDGE) for r in results]),
        "cloud": np.array([r.final(Tier.CLOUD) for r in results]),
        "bound": np.array([r.centralised for r in results], float),
        "gap closed": np.array([r.gap_closed for r in results], float),
    }


def line(label: str, results: list[SimulationResults]) -> str:
    """Means of all figures in one line."""
    cells = [f"{name} {100 * values.mean():5.1f} %" for name, values in columns(results).items()]
    return f"{label:<8}" + "   ".join(cells)


def rows(results: list[SimulationResults]) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks."""
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    out: list[dict[str, object]] = []
    for name, values in columns(results).items():
        goal = GAP_GOAL if name == "gap closed" else None
        for kind, value in (("mean", values.mean()), ("min", values.min()), ("max", values.max())):
            holds = None if goal is None or kind == "max" else bool(value >= goal)
            figure = f"digits: {name}, {kind} of {len(values)} seeds"
            out.append(
                {"figure": figure, "value": float(value), "unit": "share", "goal": goal, "holds": holds, **about}
            )
    seconds = max(r.seconds for r in results)
    figure = "digits: longest training of a run"
    out.append({"figure": figure, "value": seconds, "unit": "s", "goal": 180, "holds": seconds < 180, **about})
    return out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = run(1, 3, 1) if args.quick else run(args.seeds, None, args.jobs)
    if args.json:
        print(json.dumps(rows(results), indent=1))
        return
    for name, values in columns(results).items():
        low, high = 100 * values.min(), 100 * values.max()
        print(f"{name:<14} mean {100 * values.mean():5.1f} %   {low:5.1f} to {high:5.1f} %")


if __name__ == "__main__":
    main()
