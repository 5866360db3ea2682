"""What each option of FedAgg buys, paired by seed: the mean difference to the base and its 95% interval.

    python benchmarks/ablation.py --data cifar10.npz --keep F    CIFAR-10 (tools/prepare_data.py cifar10), 3 seeds
    python benchmarks/ablation.py --keep F              the digits, smaller and faster
    python benchmarks/ablation.py --data cifar10.npz --keep F dkd split-norm
                                                        some options; cells that F holds are not run again
    python benchmarks/ablation.py --table --data cifar10.npz --keep F    the table of what F holds, running nothing
    python benchmarks/ablation.py --jobs 2              on two cores
    python benchmarks/ablation.py --quick               digits, five options, 2 seeds, 2 rounds: a look, no measurement
    python benchmarks/ablation.py --json                one list of rows, for machines

A cell is one option at one seed. All cells of a seed have the same samples, partition, first weights and autoencoder.
Bridge-only is one of the rows: what distillation itself buys is its difference with the sign turned.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import math
import platform
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from support.kept import keep, kept

from fedagg_edge import simulate
from fedagg_edge.autoencoder import artefact
from fedagg_edge.config import SimulationConfig, parse_config
from fedagg_edge.datasets import Dataset, load_dataset
from fedagg_edge.learners.torch import set_threads
from fedagg_edge.records import Tier
from fedagg_edge.simulation import build

VIEWS = ("raw", "bridge", "both")
# the 97.5% quantile of Student's t with n - 1 degrees of freedom
T_975 = {2: 12.706, 3: 4.303, 5: 2.776, 10: 2.262}


@dataclass(frozen=True)
class Scale:
    """How large the experiment is; part of a cell's key."""

    train: int
    test: int
    public: int
    devices: int  # below each edge
    edges: int
    rounds: int
    width: int  # of the cloud's ResNet-10


FULL = Scale(train=3000, test=2000, public=8000, devices=5, edges=2, rounds=6, width=16)
DIGITS = Scale(train=1000, test=359, public=600, devices=3, edges=2, rounds=8, width=8)
QUICK = Scale(train=240, test=200, public=600, devices=2, edges=1, rounds=2, width=8)

# option -> what it changes; "training" is laid over the base's, tier by tier
OPTIONS: dict[str, dict[str, Any]] = {
    "bridge-only": {"method": "bridge-only"},
    "child-by-child": {"schedule": "sequential"},
    "beta-3": {"training": {"beta": 3.0}},
    "cosine": {"training": {"learning_rate_schedule": "cosine"}},
    "cloud-adam": {"training": {"cloud": {"optimizer": "adam", "learning_rate": 0.001}}},
    "cloud-batch-32": {"training": {"cloud": {"batch_size": 32}}},
    "views": {"bridge_views": "mirror+shift"},
    "trust-confidence": {"training": {"teacher_trust": "confidence"}},
    "trust-correct": {"training": {"teacher_trust": "correct"}},
    "rectification": {"training": {"rectification": 64}},
    "split-norm": {"split": True},
    "norms-anew": {"training": {"batch_norm_rows": 1024}},
    "norms-anew-cosine": {"training": {"batch_norm_rows": 1024, "learning_rate_schedule": "cosine"}},
    "children-t-1": {"training": {"children_temperature": 1.0}},
    "parent-t-1": {"training": {"parent_temperature": 1.0}},
    "downwards": {"training": {"children_beta": 0.0}},
    "downwards-cosine": {"training": {"children_beta": 0.0, "learning_rate_schedule": "cosine"}},
    "bridge-only-cosine": {"method": "bridge-only", "training": {"learning_rate_schedule": "cosine"}},
    "dkd": {"training": {"distillation": "decoupled"}},
    "dkd-nckd-4": {"training": {"distillation": "decoupled", "non_target_weight": 4.0}},
    "ensemble-mean": {"training": {"edge": {"teacher_ensemble": "mean"}}},
    "ensemble-entropy": {"training": {"edge": {"teacher_ensemble": "entropy"}}},
}


def experiment(option: str, seed: int, scale: Scale, autoencoder: Path) -> SimulationConfig:
    """The base, snapshot schedule and the demo's learning rates, with one option."""
    change = dict(OPTIONS.get(option, {}))
    device: dict[str, Any] = {"builder": "cnn3"}
    if change.pop("split", False):
        device["batch_norm"] = "split"
    raw: dict[str, Any] = {
        "name": "ablation",
        "seed": seed,
        "rounds": scale.rounds,
        "schedule": "snapshot",
        "checkpoint_every": scale.rounds,
        "data": {"source": "given"},  # a Dataset takes its place
        "partition": {"rule": "dirichlet", "options": {"alpha": 1.0, "min_samples": 16}},
        "autoencoder": {"path": str(autoencoder.absolute())},
        "models": {
            "device": device,
            "edge": {"builder": "cnn3", "options": {"widths": [16, 32, 64]}},
            "cloud": {"builder": "resnet10", "options": {"width": scale.width}},
        },
        "tree": {
            "model": "cloud",
            "children": [
                {"model": "edge", "count": scale.edges, "children": [{"model": "device", "count": scale.devices}]}
            ],
        },
        "evaluation": {"every": scale.rounds, "references": False, "views": list(VIEWS)},
    }
    training = {
        "decay_rounds": scale.rounds,  # of a schedule, where there is one
        "device": {"learning_rate": 0.05, "epochs": 2},
        "edge": {"learning_rate": 0.01},
        "cloud": {"learning_rate": 0.005},
    }
    return parse_config({**raw, **change, "training": laid_over(training, change.get("training", {}))})


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one, key by key."""
    out = dict(below)
    for key, value in above.items():
        out[key] = laid_over(out.get(key, {}), value) if isinstance(value, Mapping) else value
    return out


@lru_cache(maxsize=1)
def whole(data: Path | None) -> Dataset:
    """All there is, read once a process."""
    if data is None:
        return load_dataset("digits")
    return load_dataset("npz", path=str(data), test_x="test_x", test_y="test_y", public_x="public_x")


def sampled(data: Path | None, seed: int, scale: Scale) -> Dataset:
    """A seed's own training rows and the same test rows for all; open data where the source has it."""
    full = whole(data)
    rng = np.random.default_rng([seed, 41])
    rows = np.sort(rng.permutation(len(full.train_x))[: scale.train])
    test = np.sort(np.random.default_rng(41).permutation(len(full.test_x))[: scale.test])
    assert full.public_x is not None
    return dataclasses.replace(
        full,
        train_x=full.train_x[rows],
        train_y=full.train_y[rows],
        test_x=full.test_x[test],
        test_y=full.test_y[test],
        public_x=full.public_x[: scale.public],
        group_N=None,
    )


def own_autoencoder(data: Path | None, scale: Scale, folder: Path) -> Path:
    """One of the preset `default`, trained on the source's open data; that in the folder if it is there."""
    path = folder / f"ablation-{'digits' if data is None else data.stem}-{scale.public}.safetensors"
    if path.exists():
        return path
    config = parse_config(
        {"name": "ablation", "data": {"source": "given"}, "autoencoder": {"preset": "default"}, "tree": TINY_TREE}
    )
    set_threads(1)
    artefact.save(build.obtain_autoencoder(config, sampled(data, 0, scale)), path)
    return path


TINY_TREE = {"model": "mlp", "children": [{"model": "mlp"}]}

QUICK_OPTIONS = ("bridge-only", "views", "split-norm", "dkd", "ensemble-mean")


@dataclass(frozen=True)
class Cell:
    """One run to make."""

    option: str
    seed: int
    scale: Scale
    data: Path | None
    autoencoder: Path

    @property
    def key(self) -> str:
        """What names its result in the file of kept ones."""
        source = "digits" if self.data is None else self.data.stem
        # the whole configuration counts, so that a changed base or option is another cell; a path does not
        config = experiment(self.option, self.seed, self.scale, Path("autoencoder"))
        told = [self.scale, msgspec.to_builtins(config.training), msgspec.to_builtins(config.models), config.method]
        told += [config.schedule, config.bridge_views, digest(self.autoencoder)]
        return f"{source}, {self.option}, seed {self.seed}, {hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


@lru_cache(maxsize=4)
def digest(path: Path) -> str:
    """The beginning of an artefact's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def run(cell: Cell) -> tuple[Cell, dict[str, float]]:
    """The final accuracies of a cell, in points, and its seconds."""
    config = experiment(cell.option, cell.seed, cell.scale, cell.autoencoder)
    with tempfile.TemporaryDirectory() as folder:
        done = simulate(config, out=folder, overwrite=True, dataset=sampled(cell.data, cell.seed, cell.scale))
    found = {f"cloud {view}": 100 * float(done.views_R[view][-1]) for view in VIEWS}
    found |= {tier.value: 100 * done.final(tier) for tier in (Tier.EDGE, Tier.DEVICE)}
    return cell, {**found, "seconds": done.seconds}


FIGURES = (*(f"cloud {view}" for view in VIEWS), "edge", "device")


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The mean and half of Student's 95% interval."""
    values = np.asarray(differences)
    return float(values.mean()), T_975[len(values)] * float(values.std(ddof=1)) / math.sqrt(len(values))


def rows(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks; an option's are differences to the base."""
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    out: list[dict[str, object]] = []

    def add(figure: str, value: float) -> None:
        out.append({"figure": figure, "value": value, "unit": "points", "goal": None, "holds": None, **about})

    for figure in FIGURES:
        add(f"ablation: base, {figure}", float(np.mean([one[figure] for one in found["base"]])))
    for option, cells in found.items():
        for figure in FIGURES if option != "base" else ():
            mean, half = interval([one[figure] - b[figure] for one, b in zip(cells, found["base"], strict=True)])
            add(f"ablation: {option}, {figure}, mean difference", mean)
            add(f"ablation: {option}, {figure}, 95% interval from", mean - half)
            add(f"ablation: {option}, {figure}, 95% interval to", mean + half)
    return out


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The same in Markdown: the base's accuracies, then differences to it, mean +- half the interval."""
    lines = [f"| option | {' | '.join(FIGURES)} | s a run |", f"|---|{'---|' * (len(FIGURES) + 1)}"]
    for option, cells in found.items():
        texts = []
        for figure in FIGURES:
            if option == "base":
                texts.append(f"{np.mean([one[figure] for one in cells]):.1f}")
                continue
            mean, half = interval([one[figure] - b[figure] for one, b in zip(cells, found["base"], strict=True)])
            texts.append(f"{mean:+.1f} ± {half:.1f}")
        lines.append(f"| {option} | {' | '.join(texts)} | {np.mean([one['seconds'] for one in cells]):.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print what is complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("options", metavar="OPTION", nargs="*", help=f"{', '.join(OPTIONS)}; without one: all")
    parser.add_argument("--data", type=Path, help="an .npz of [data]; without it: digits")
    parser.add_argument("--autoencoder", type=Path, help="an artefact; without it one is trained on the open data")
    parser.add_argument("--seeds", type=int, choices=sorted(T_975), default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--keep", type=Path, help="write each cell there at once, and take those that are there from it"
    )
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.options) - set(OPTIONS):
        parser.error(f"got {', '.join(sorted(unknown))}, expected {', '.join(OPTIONS)}")
    scale, seeds = (QUICK, 2) if args.quick else (DIGITS if args.data is None else FULL, args.seeds)
    done: dict[str, dict[str, float]] = dict(kept(args.keep))
    with tempfile.TemporaryDirectory() as folder:
        autoencoder = args.autoencoder or own_autoencoder(
            args.data, scale, Path(folder) if args.keep is None else args.keep.parent
        )
        wanted = ["base", *(args.options or (QUICK_OPTIONS if args.quick else OPTIONS))]
        # seed by seed, so that an interrupted run has whole seeds
        cells = [Cell(o, seed, scale, args.data, autoencoder) for seed in range(seeds) for o in wanted]
        missing = [] if args.table else [c for c in cells if c.key not in done]
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
            for cell, figures in pool.map(run, missing):
                done[cell.key] = figures
                keep(args.keep, [cell.key, figures])
        by_option = {o: [done[c.key] for c in cells if c.option == o and c.key in done] for o in wanted}
    found = {o: values for o, values in by_option.items() if len(values) == seeds}
    print(json.dumps(rows(found), indent=1) if args.json else table(found))


if __name__ == "__main__":
    main()
