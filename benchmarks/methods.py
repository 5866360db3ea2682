"""FedAgg beside every baseline on the digits: cloud and device accuracy, and what distillation buys over bridge-only.

    python benchmarks/methods.py              3 seeds, 20 rounds
    python benchmarks/methods.py --quick      1 seed, 2 rounds, about two minutes
    python benchmarks/methods.py --json       one list of rows, for machines

The demo's tree with one device model (its CNN), because half of the methods average weights. Nothing is tuned: every
method takes the demo's learning rates, which were chosen for FedAgg.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fedagg_edge import SimulationResults, load_config, simulate
from fedagg_edge.autoencoder import artefact
from fedagg_edge.baselines import METHODS
from fedagg_edge.config import AutoencoderConfig, SimulationConfig, parse_config
from fedagg_edge.learners.torch import set_threads
from fedagg_edge.records import Tier
from fedagg_edge.simulation import build

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits.toml"
DEVICE_MODEL = "device-cnn"


def configured(method: str, seed: int, rounds: int | None) -> SimulationConfig:
    """The demo's configuration with one device model, for one method and seed."""
    raw: dict[str, Any] = msgspec.to_builtins(load_config(EXAMPLE))
    base_dir = raw.pop("base_dir")
    for edge in raw["tree"]["children"]:
        for device in edge["children"]:
            device["model"] = DEVICE_MODEL
    changes = {"method": method, "seed": seed, "rounds": rounds or raw["rounds"], "evaluation": {"references": False}}
    return parse_config({**raw, **changes}, base_dir=base_dir)


def autoencoders(seeds: int, folder: Path) -> list[Path]:
    """Each seed's own autoencoder, trained once for all methods."""
    paths = []
    for seed in range(seeds):
        config = configured("fedagg", seed, None)
        set_threads(config.threads)  # the weights' last bits depend on it, as in a run
        paths.append(folder / f"autoencoder-{seed}.safetensors")
        artefact.save(build.obtain_autoencoder(config, build.read_data(config)), paths[-1])
    return paths


def run(method: str, rounds: int | None, paths: list[Path]) -> list[SimulationResults]:
    """One run a seed."""
    results = []
    for seed, path in enumerate(paths):
        config = configured(method, seed, rounds)
        config = msgspec.structs.replace(config, autoencoder=AutoencoderConfig(path=str(path)))
        results.append(simulate(config, out=path.parent / f"{method}-{seed}"))
    print(line(results), file=sys.stderr)
    return results


def share(results: list[SimulationResults], tier: Tier) -> np.ndarray | None:
    """A tier's final accuracy, one value a seed; None if the method trains no such tier."""
    return np.array([r.final(tier) for r in results]) if tier in results[0].tiers else None


def line(results: list[SimulationResults]) -> str:
    """A method in one line of a Markdown table."""
    cells = [results[0].title]
    for tier in (Tier.CLOUD, Tier.EDGE, Tier.DEVICE):
        values = share(results, tier)
        cells.append(
            "" if values is None else f"{100 * values.mean():.1f} ({100 * values.min():.1f}-{100 * values.max():.1f})"
        )
    cells += [f"{np.mean([r.bytes_total for r in results]) / 1e6:.1f}", f"{np.mean([r.seconds for r in results]):.0f}"]
    return f"| {' | '.join(cells)} |"


def rows(found: dict[str, list[SimulationResults]]) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks."""
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    blank = {"goal": None, "holds": None, **about}
    out: list[dict[str, object]] = []
    for method, results in found.items():
        for tier in Tier:
            values = share(results, tier)
            if values is not None:
                figure = f"digits: {tier.value} accuracy, {method}, mean of {len(values)} seeds"
                out.append({"figure": figure, "value": float(values.mean()), "unit": "share", **blank})
        moved = float(np.mean([r.bytes_total for r in results]))
        out.append({"figure": f"digits: bytes moved, {method}", "value": moved, "unit": "B", **blank})
    for tier in Tier:
        figure = f"digits: what distillation buys the {tier.value} over bridge-only"
        out.append({"figure": figure, "value": float(bought(found, tier).mean()), "unit": "share", **blank})
    return out


def bought(found: dict[str, list[SimulationResults]], tier: Tier) -> np.ndarray:
    """FedAgg's accuracy less bridge-only's, seed by seed."""
    return np.array([a.final(tier) - b.final(tier) for a, b in zip(found["fedagg"], found["bridge-only"], strict=True)])


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    seeds, rounds = (1, 2) if args.quick else (args.seeds, args.rounds)
    print("| method | cloud % | edges % | devices % | MB moved | s |\n|---|---|---|---|---|---|", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        paths = autoencoders(seeds, Path(folder))
        found = {method: run(method, rounds, paths) for method in METHODS}
    if args.json:
        print(json.dumps(rows(found), indent=1))
        return
    for tier in Tier:
        values = ", ".join(f"{100 * v:+.1f}" for v in bought(found, tier))
        print(f"distillation buys the {tier.value} over bridge-only, points, seed by seed: {values}")


if __name__ == "__main__":
    main()
