"""What distillation buys FedAgg over bridge-only, and what bounds it: one change at a time, paired by seed.

    python benchmarks/distillation.py --data cifar10.npz --keep F              what F does not hold yet, then the table
    python benchmarks/distillation.py --data cifar10.npz --keep F "beta 0.3"   some changes
    python benchmarks/distillation.py --data cifar10.npz --keep F --table      the table of what F holds
    python benchmarks/distillation.py --data cifar10.npz --quick               one round of the smallest tree: a look
    python benchmarks/distillation.py --data cifar10.npz --json                one list of rows, for machines

The base is FedAgg with the preset `default` on the scaled setting of `tuning.py` and its validation images, so that
what is chosen here was not chosen on a test set. A change is set against bridge-only with the same rates and rounds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from ablation import interval, laid_over
from support.kept import keep, kept
from tuning import VALIDATION, Point, configured, nothing_to_look_at, own_autoencoder, validated

from fedagg_edge import simulate
from fedagg_edge.config import parse_config
from fedagg_edge.learners.torch import set_threads
from fedagg_edge.records import Tier
from fedagg_edge.reproduce.cells import Scale

TIERS = tuple(tier.value for tier in Tier)


def everywhere(**keys: Any) -> dict[str, Any]:
    """The same keys for all tiers."""
    return {tier: dict(keys) for tier in TIERS}


@dataclass(frozen=True)
class Change:
    """What is laid over the base's training, and of which bridge-only it is the counterpart."""

    training: Mapping[str, Any]
    method: str = "fedagg"
    rate: float = 1.0
    rounds: int = 1  # times the base's


CHANGES: Mapping[str, Change] = {
    "base": Change({}),
    "bridge-only": Change({}, "bridge-only"),
    "beta 0.1": Change(everywhere(beta=0.1)),
    "beta 0.3": Change(everywhere(beta=0.3)),
    "temperature 1": Change(everywhere(temperature=1.0)),
    "trust equal": Change(everywhere(teacher_trust="equal")),
    "trust confidence": Change(everywhere(teacher_trust="confidence")),
    "rectification": Change(everywhere(teacher_trust="equal", rectification=64)),
    "upwards": Change(everywhere(parent_beta=0.0)),
    "downwards": Change(everywhere(children_beta=0.0)),
    "downwards, temperature 1": Change(everywhere(children_beta=0.0, temperature=1.0)),
    "downwards, decoupled": Change(everywhere(children_beta=0.0, distillation="decoupled")),
    "rates / 3": Change({}, rate=1 / 3),
    "bridge-only, rates / 3": Change({}, "bridge-only", rate=1 / 3),
    "rounds x 3": Change({}, rounds=3),
    "bridge-only, rounds x 3": Change({}, "bridge-only", rounds=3),
}


def counterpart(name: str) -> str:
    """The bridge-only row that a change is set against."""
    own = CHANGES[name]
    alike = [
        n for n, c in CHANGES.items() if c.method == "bridge-only" and (c.rate, c.rounds) == (own.rate, own.rounds)
    ]
    return alike[0]


def run(name: str, seed: int, scale: Scale, data: Path, autoencoder: Path) -> dict[str, float]:
    """Final accuracy of each tier on raw validation images, in %, and the seconds."""
    change = CHANGES[name]
    own = Scale(scale.rounds * change.rounds, scale.share, scale.test)
    raw: dict[str, Any] = msgspec.to_builtins(configured(Point(change.method, change.rate, 0), own, seed, autoencoder))
    raw.pop("base_dir")
    raw["training"] = laid_over(raw["training"], change.training)
    with tempfile.TemporaryDirectory() as folder:
        done = simulate(parse_config(raw), out=folder, overwrite=True, dataset=validated(data, own, seed))
    return {**{tier.value: 100 * done.final(tier) for tier in Tier}, "seconds": done.seconds}


Found = Mapping[str, Mapping[int, Mapping[str, float]]]


def bought(found: Found, name: str, tier: str) -> tuple[float, float]:
    """The mean difference to bridge-only over the seeds that both have, and half of its 95 % interval."""
    own, other = found[name], found[counterpart(name)]
    return interval([own[s][tier] - other[s][tier] for s in sorted(own.keys() & other.keys())])


def complete(found: Found, name: str, seeds: int) -> bool:
    """Whether a change and its counterpart have all seeds."""
    return all(len(found.get(n, {})) == seeds for n in (name, counterpart(name)))


def table(found: Found, seeds: int) -> str:
    """Accuracies, and what is bought over bridge-only, in Markdown."""
    lines = [f"| change | {' | '.join(TIERS)} | {' | '.join(f'{t} over bridge-only' for t in TIERS)} | s a run |"]
    lines.append(f"|---|{'---|' * (2 * len(TIERS) + 1)}")
    for name in CHANGES:
        if not complete(found, name, seeds):
            continue
        cells = list(found[name].values())
        texts = [f"{sum(one[t] for one in cells) / seeds:.1f}" for t in TIERS]
        if CHANGES[name].method == "bridge-only":
            texts += [""] * len(TIERS)
        else:
            texts += ["{:+.1f} ± {:.1f}".format(*bought(found, name, t)) for t in TIERS]
        lines.append(f"| {name} | {' | '.join(texts)} | {sum(one['seconds'] for one in cells) / seeds:.0f} |")
    return "\n".join(lines)


def rows(found: Found, seeds: int) -> list[dict[str, object]]:
    """Rows in the house's form for benchmarks."""
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    out: list[dict[str, object]] = []
    for name in (n for n in CHANGES if complete(found, n, seeds) and CHANGES[n].method != "bridge-only"):
        for tier in TIERS:
            mean, half = bought(found, name, tier)
            for what, value in (("mean", mean), ("95% interval from", mean - half), ("95% interval to", mean + half)):
                figure = f"distillation: {name}, {tier} over bridge-only, {what}"
                out.append({"figure": figure, "value": value, "unit": "points", "goal": None, "holds": None, **about})
    return out


def read(path: Path | None, where: str) -> dict[str, dict[int, dict[str, float]]]:
    """What is done at this scale."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for told, name, seed, figures in kept(path):
        if told == where and name in CHANGES:
            found.setdefault(name, {})[seed] = figures
    return found


def main() -> None:
    """Run what is missing, print what is complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", metavar="CHANGE", nargs="*", help=f"{', '.join(CHANGES)}; without one: all")
    parser.add_argument("--data", type=Path, help="the .npz of `fedagg reproduce`; --quick without it runs nothing")
    parser.add_argument("--autoencoder", type=Path, help="an artefact; without it one is trained on the open data")
    parser.add_argument("--keep", type=Path, help="write each run there at once, and take those that are there")
    parser.add_argument("--seeds", type=int, choices=(2, 3, 5, 10), default=3)
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.changes) - set(CHANGES):
        parser.error(f"got {', '.join(sorted(unknown))}, expected some of {', '.join(CHANGES)}")
    if nothing_to_look_at(parser, args):
        return
    scale, seeds = (Scale(1, 0.01, 200), 2) if args.quick else (Scale(5, 0.04, VALIDATION), args.seeds)
    where = f"scale {scale.share:g}, {scale.rounds} rounds, {scale.test} validation images"
    found = read(args.keep, where)
    set_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in ((s, n) for s in range(0 if args.table else seeds) for n in args.changes or CHANGES):
            if seed in found.get(name, {}):
                continue
            near = Path(folder) if args.keep is None else args.keep.parent
            autoencoder = args.autoencoder or own_autoencoder(args.data, near)
            found.setdefault(name, {})[seed] = run(name, seed, scale, args.data, autoencoder)
            keep(args.keep, [where, name, seed, found[name][seed]])
    print(json.dumps(rows(found, seeds), indent=1) if args.json else f"{where}\n\n{table(found, seeds)}")


if __name__ == "__main__":
    main()
