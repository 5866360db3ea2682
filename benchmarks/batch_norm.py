"""What batch norm's figures taken anew give a finished run's models, from the same weights.

    python benchmarks/batch_norm.py RUN [--round N]    a run of `fedagg simulate` or `reproduce` that kept checkpoints
    python benchmarks/batch_norm.py                    examples/digits.toml, run here
    python benchmarks/batch_norm.py --quick            2 rounds of it
    python benchmarks/batch_norm.py --json             one list of rows, for machines

The cloud and all edges, on the run's own test set: as they are, and with figures from up to `--rows` bridge samples of
the devices below, viewed as the run's bridge samples are (`learners.batch_norm`, `passes.measure_norms`).
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from support.finished import Finished, digits, read

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.torch import set_threads
from fedagg_edge.passes import Lesson, measure_norms
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation import build
from fedagg_edge.simulation.evaluate import view_accuracies
from fedagg_edge.tree import Tree
from fedagg_edge.views import draw_views

VIEWS = ("raw", "bridge", "both")


def below(tree: Tree, device: NodeId) -> Iterator[NodeId]:
    """The nodes that a device is below of."""
    parent = tree.places[device].parent
    while parent is not None:
        yield parent
        parent = tree.places[parent].parent


def lesson(run: Finished, node: NodeId, rows: int) -> Lesson:
    """Bridge samples of devices below the node, drawn by chance, viewed as the run's are."""
    dealt = build.deal_rows(run.config, run.data, run.tree)
    own = np.concatenate([r for device, r in dealt.items() if node in below(run.tree, device)])
    some = np.sort(np.random.default_rng(0).permutation(own)[:rows])
    code_NB = run.bridge.encode(run.bridge.scale(run.data.train_x[some]))
    views = draw_views(run.config.bridge_views, 1, len(some), run.bridge.sample_shape)
    return Lesson(run.data.train_y[some], code_NB, None, view_NA=views)


def measured(run: Finished, rows: int) -> Iterator[tuple[NodeId, dict[str, float], dict[str, float]]]:
    """Cloud and edges: accuracy by view as they are, and with figures taken anew."""
    rule = Hyperparameters(batch_norm_rows=rows)
    test_x_N = run.bridge.scale(run.data.test_x)
    for node in (*run.tree.tier(Tier.CLOUD), *run.tree.tier(Tier.EDGE)):
        learner = run.learner(node)
        before = view_accuracies(learner.logits, run.bridge, test_x_N, run.data.test_y, VIEWS)
        measure_norms(learner, run.bridge, lesson(run, node, rows), rule, np.random.default_rng(0))
        yield node, before, view_accuracies(learner.logits, run.bridge, test_x_N, run.data.test_y, VIEWS)


def figures(run: Finished, rows: int) -> list[tuple[str, float, float]]:
    """(what, as it is, anew) in %, the edges as their mean."""
    found = list(measured(run, rows))
    tiers: dict[str, Sequence[tuple[NodeId, dict[str, float], dict[str, float]]]] = {
        "cloud": found[:1], "edges, mean": found[1:],
    }  # fmt: skip
    return [
        (f"{tier}, {view}", *(100 * float(np.mean([each[k][view] for each in own])) for k in (1, 2)))
        for tier, own in tiers.items()
        for view in VIEWS
        if own
    ]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--round", type=int, help="of which round (the last)")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    set_threads(1)
    with tempfile.TemporaryDirectory() as place:
        run = (
            digits(Path(place) / "digits", 2 if args.quick else None)
            if args.run is None
            else read(args.run, args.round)
        )
        found = figures(run, args.rows)
    about = {"goal": None, "holds": None, "machine": platform.processor() or platform.machine()}
    about |= {"date": datetime.date.today().isoformat()}
    if args.json:
        title = f"{run.config.name}, round {run.saved.round}, figures anew from {args.rows} rows"
        print(json.dumps([{"figure": f"{title}: {w}", "value": b - a, "unit": "points", **about} for w, a, b in found]))
        return
    print(f"{run.config.name}, round {run.saved.round}, {len(run.data.test_y)} test samples, {args.rows} rows")
    print("| | as it is | anew | |\n|---|---|---|---|")
    for what, before, after in found:
        print(f"| {what} | {before:.1f} | {after:.1f} | {after - before:+.1f} |")


if __name__ == "__main__":
    main()
