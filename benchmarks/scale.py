"""A round of FedAgg at the paper's CIFAR-10 scale: seconds, memory, and what side-by-side training and bfloat16 buy.

    python benchmarks/scale.py --data cifar10.npz                 225 devices, 15 edges, 50,000 images
    python benchmarks/scale.py --data cifar10.npz --share 0.06    a part of devices and images: the ratios
    python benchmarks/scale.py --data cifar10.npz --only "2 workers, bfloat16"
    python benchmarks/scale.py --data cifar10.npz --json          one list of rows, for machines

`fedagg reproduce`'s preset `default` (ResNet-18 and ResNet-10 with the paper's stems, stacked devices), one thread a
worker. Each variant is a process of its own; what is measured is its first round, evaluation left out. The goal, 4
minutes and 4 GB, is for two idle cores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import msgspec
from tuning import nothing_to_look_at, own_autoencoder

from fedagg_edge.autoencoder import artefact
from fedagg_edge.config import TierTraining
from fedagg_edge.learners.torch import set_threads
from fedagg_edge.reproduce.cells import Cell, Scale, config_of, shared
from fedagg_edge.reproduce.tables import TABLES, parse_variant
from fedagg_edge.simulation import build
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.fedagg import FedAgg

MOST_SECONDS, MOST_MEGABYTES = 240.0, 4096.0
VARIANTS = {
    "1 worker": (1, "float32"),
    "2 workers": (2, "float32"),
    "1 worker, bfloat16": (1, "bfloat16"),
    "2 workers, bfloat16": (2, "bfloat16"),
}
"""Workers, and the precision of edges and cloud."""


def one_round(name: str, share: float, data: Path, autoencoder: Path) -> tuple[float, float]:
    """Seconds of round 0, and the process's peak memory in MB."""
    workers, precision = VARIANTS[name]
    set_threads(1)
    variant = parse_variant("fedagg:default")
    (setting,) = (s for s in TABLES["table2"].settings if s.name == "225/a3")
    cell = Cell("cifar10", shared(setting, variant), variant, 0, Scale(1, share, 500))
    config = config_of(cell, str(data.absolute()), str(autoencoder.absolute()))
    tiers = {
        tier: msgspec.structs.replace(getattr(config.training, tier), precision=precision) for tier in ("edge", "cloud")
    }
    training: TierTraining = msgspec.structs.replace(config.training, **tiers)
    config = msgspec.structs.replace(config, workers=workers, training=training)
    world = build.build_world(config, build.read_data(config), artefact.load(autoencoder), with_nodes=True)
    method = FedAgg(world, {})
    method.init(Traffic())
    began = time.perf_counter()
    method.round(0, Traffic(), lambda node, loss: None)
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the .npz of `fedagg reproduce`; --quick without it runs nothing")
    parser.add_argument("--autoencoder", type=Path, help="an artefact; without it one is trained on the open data")
    parser.add_argument("--share", type=float, default=1.0, help="of devices and images (1)")
    parser.add_argument("--only", choices=VARIANTS, nargs="+", default=list(VARIANTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if nothing_to_look_at(parser, args):
        return
    share = 0.02 if args.quick else args.share
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    rows: list[dict[str, object]] = []

    def tell(figure: str, value: float, unit: str, goal: float | None) -> None:
        goal = goal if share == 1.0 else None
        holds = None if goal is None else value <= goal
        rows.append({"figure": figure, "value": value, "unit": unit, "goal": goal, "holds": holds, **about})
        if not args.json:
            print(f"{figure:60} {value:9.2f} {unit}{'' if goal is None else f'   at most {goal:g}'}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        autoencoder = args.autoencoder or own_autoencoder(args.data, Path(folder))
        first = None
        for name in args.only:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                seconds, memory = pool.submit(one_round, name, share, args.data, autoencoder).result()
            tell(f"a round at {share:g} of the paper's CIFAR-10 scale, {name}", seconds, "s", MOST_SECONDS)
            tell(f"peak memory, {name}", memory, "MB", MOST_MEGABYTES)
            first = first or seconds
            if seconds != first:
                tell(f"{args.only[0]} against {name}", first / seconds, "x", None)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
