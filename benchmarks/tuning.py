"""The same small grid for every method, on validation images that no device has and no test: which options to give it.

    python benchmarks/tuning.py --data cifar10.npz --keep F    what F does not hold yet, then the table
    python benchmarks/tuning.py --data cifar10.npz --keep F fedgkt feddkc    some methods
    python benchmarks/tuning.py --data cifar10.npz --keep F --table          the table of what F holds, running nothing
    python benchmarks/tuning.py --data cifar10.npz --quick     one round of the smallest tree: a look, no measurement
    python benchmarks/tuning.py --data cifar10.npz --json      one list of rows, for machines

Every method has ten points: five learning rates, as multiples of the preset `default`'s, by two settings of an option
of its own. The setting is Table II's at 225 devices and alpha 3, scaled down, its ResNets replaced by a ResNet-10 of
half the channels. The best point is that with the highest accuracy of the method's product on raw validation images
after the last round: the cloud's, without a cloud the mean edge's, without edges the mean device's. A point is written
to F as soon as it is done.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from support.kept import keep, kept

from fedagg_edge import simulate
from fedagg_edge.autoencoder import artefact
from fedagg_edge.autoencoder.train import train
from fedagg_edge.config import SimulationConfig, parse_config
from fedagg_edge.datasets import Dataset, npz
from fedagg_edge.learners.torch import set_threads
from fedagg_edge.records import Tier
from fedagg_edge.reproduce import arrays
from fedagg_edge.reproduce.cells import Cell, Scale, config_of
from fedagg_edge.reproduce.tables import AUTOENCODERS, DATASETS, Setting, Variant

SETTING = Setting(225, 3.0, cloud="resnet10")
RATES = (1 / 30, 0.1, 1 / 3, 1.0, 3.0)
VALIDATION = 2000

# method -> the two settings of its own option: (what the table calls it, keys of [methods.NAME], keys of [training])
OWN: Mapping[str, tuple[tuple[str, dict[str, Any], dict[str, Any]], ...]] = {
    "hierfavg": (("1 local pass", {}, {}), ("2 local passes", {"local_passes": 2}, {})),
    "demlearn": (("alpha 0.7", {}, {}), ("alpha 0.3", {"alpha": 0.3}, {})),
    "fedgkt": (("device by device", {}, {}), ("mixed", {"mixed": True}, {})),
    "feddkc": (("device by device", {}, {}), ("mixed", {"mixed": True}, {})),
    "fedagg": (("beta 1", {}, {}), ("beta 0.3", {}, {"beta": 0.3})),
    "bridge-only": (("batches of 32", {}, {}), ("batches of 64", {}, {"batch_size": 64})),
    "fedavg-per-edge": (("1 local pass", {}, {}), ("2 local passes", {"local_passes": 2}, {})),
    "centralised": (("batches of 32", {}, {}), ("batches of 64", {}, {"batch_size": 64})),
    "alone": (("batches of 8", {}, {}), ("batches of 16", {}, {"device": {"batch_size": 16}})),
}


@dataclass(frozen=True)
class Point:
    """One method with one learning rate and one setting of its own option."""

    method: str
    rate: float
    own: int

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"x{self.rate:.3g}, {OWN[self.method][self.own][0]}"


def points(method: str) -> list[Point]:
    """A method's grid."""
    return [Point(method, rate, own) for own in range(len(OWN[method])) for rate in RATES]


def configured(point: Point, scale: Scale, seed: int, autoencoder: Path) -> SimulationConfig:
    """The point's simulation."""
    cell = Cell("cifar10", SETTING, Variant(point.method), seed, scale)
    raw: dict[str, Any] = msgspec.to_builtins(config_of(cell, "given", str(autoencoder.absolute())))
    raw.pop("base_dir")
    raw["models"] = {"resnet10": {"builder": "resnet10", "options": {"stem": "large", "width": 32}}}
    _, options, training = OWN[point.method][point.own]
    raw["methods"] = {point.method: options} if options else {}
    raw["evaluation"] |= {"every": scale.rounds, "views": ["raw"]}
    common = {key: value for key, value in training.items() if not isinstance(value, Mapping)}
    for tier in Tier:
        own = raw["training"][tier.value]
        # what a setting says for all tiers is not for the devices: their batches are 8 under every method
        own |= training.get(tier.value, {}) if tier is Tier.DEVICE else {**common, **training.get(tier.value, {})}
        own["learning_rate"] *= point.rate
    if "beta" in common:
        raw["training"]["device"]["beta"] = common["beta"]
    return parse_config(raw)


def validated(data: Path, scale: Scale, seed: int) -> Dataset:
    """The cell's data set with validation images, from the training images that no device has, in the test's place."""
    told = {name: DATASETS["cifar10"].arrays[name] for name in ("x", "y", "test_x", "test_y")}
    whole = npz(str(data), **told, classes=10)
    rows = arrays.drawn(whole.train_y, round(scale.share * len(whole.train_y)), seed, "train")
    rest = np.setdiff1d(np.arange(len(whole.train_y)), rows)
    held = rest[arrays.drawn(whole.train_y[rest], scale.test, seed, "validation")]
    return dataclasses.replace(
        whole,
        train_x=whole.train_x[rows],
        train_y=whole.train_y[rows],
        test_x=whole.train_x[held],
        test_y=whole.train_y[held],
    )


def run(point: Point, scale: Scale, seed: int, data: Path, autoencoder: Path) -> dict[str, float]:
    """Final accuracies of the tiers that the method trains, in %, and its seconds."""
    config = configured(point, scale, seed, autoencoder)
    with tempfile.TemporaryDirectory() as folder:
        done = simulate(config, out=folder, overwrite=True, dataset=validated(data, scale, seed))
    found = {tier.value: 100 * done.final(tier) for tier in Tier if tier in done.tiers}
    return {**found, "seconds": done.seconds}


def product(found: Mapping[str, float]) -> float:
    """What a point is judged by."""
    return next(found[tier] for tier in ("cloud", "edge", "device") if tier in found)


def own_autoencoder(data: Path, folder: Path) -> Path:
    """The preset `default`'s, trained as `fedagg reproduce` trains it; that in the folder if it is there."""
    path = folder / f"tuning-{data.stem}.safetensors"
    if not path.exists():
        made = train(arrays.open_samples(str(data)), trained_on=data.name, seed=0, **AUTOENCODERS["default"].arguments)
        artefact.save(made, path)
    return path


def rows(done: Mapping[Point, Mapping[str, float]]) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks."""
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    blank = {"unit": "%", "goal": None, "holds": None, **about}
    return [
        {"figure": f"tuning: {p.method}, {p.name}, validation accuracy", "value": product(found), **blank}
        for p, found in done.items()
    ]


def table(done: Mapping[Point, Mapping[str, float]]) -> str:
    """Ten points a method, the best in bold, in Markdown."""
    rates = [f"x{rate:.3g}" for rate in RATES]
    lines = [f"| method | own option | {' | '.join(rates)} |", f"|---|---|{'---|' * len(rates)}"]
    for method, settings in OWN.items():
        grid = [p for p in points(method) if p in done]
        best = max(grid, key=lambda p: product(done[p]), default=None)
        for own in range(len(settings)):
            texts = []
            for point in (p for p in points(method) if p.own == own):
                text = f"{product(done[point]):.1f}" if point in done else ""
                texts.append(f"**{text}**" if point == best else text)
            if any(texts):
                lines.append(f"| {method} | {settings[own][0]} | {' | '.join(texts)} |")
    return "\n".join(lines)


def read(path: Path | None, where: str) -> dict[Point, dict[str, float]]:
    """The points that are done at this scale."""
    return {Point(method, rate, own): found for told, method, rate, own, found in kept(path) if told == where}


def nothing_to_look_at(parser: argparse.ArgumentParser, args: argparse.Namespace) -> bool:
    """Whether to stop for want of --data: only a look may, since no image comes with the package (`make bench`)."""
    if args.data is None and not args.quick:
        parser.error("--data: missing; make one with tools/prepare_data.py cifar10")
    if args.data is None:
        print("[]" if args.json else "nothing was run: a look at this one needs --data")
    return args.data is None


def main() -> None:
    """Run what is missing, print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", metavar="METHOD", nargs="*", help=f"{', '.join(OWN)}; without one: all")
    parser.add_argument("--data", type=Path, help="the .npz of `fedagg reproduce`; --quick without it runs nothing")
    parser.add_argument("--autoencoder", type=Path, help="an artefact; without it one is trained on the open data")
    parser.add_argument("--keep", type=Path, help="write each point there at once, and take those that are there")
    parser.add_argument("--scale", type=float, default=0.04, help="share of the paper's devices and images (0.04)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.methods) - set(OWN):
        parser.error(f"got {', '.join(sorted(unknown))}, expected some of {', '.join(OWN)}")
    if nothing_to_look_at(parser, args):
        return
    scale = Scale(1, 0.01, 200) if args.quick else Scale(args.rounds, args.scale, VALIDATION)
    where = f"scale {scale.share:g}, {scale.rounds} rounds, {scale.test} validation images, seed {args.seed}"
    done = read(args.keep, where)
    set_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        autoencoder = (
            None
            if args.table
            else args.autoencoder or own_autoencoder(args.data, Path(folder) if args.keep is None else args.keep.parent)
        )
        for point in (p for method in args.methods or OWN for p in points(method)):
            if point in done or autoencoder is None:
                continue
            done[point] = run(point, scale, args.seed, args.data, autoencoder)
            keep(args.keep, [where, point.method, point.rate, point.own, done[point]])
    print(json.dumps(rows(done), indent=1) if args.json else f"{where}\n\n{table(done)}")


if __name__ == "__main__":
    main()
