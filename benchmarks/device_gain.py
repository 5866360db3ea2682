"""How much a device gains by its parent's knowledge, by how many passes it makes over its samples a round.

    python benchmarks/device_gain.py RUN --passes 1 5 20    a run of `fedagg simulate` or `reproduce` with checkpoints
    python benchmarks/device_gain.py                        examples/digits.toml, run here
    python benchmarks/device_gain.py --quick                2 rounds of it
    python benchmarks/device_gain.py --json                 one list of rows, for machines

Some of the run's devices start anew and train for `--rounds` rounds, each by two ways at each learning rate: on their
own samples alone, and on those and on bridge samples by eq. 4, taught by their parent as the run left it, on new views
every round. A parent that does not learn meanwhile is the best of all teachers: an upper bound for the run itself.
Each way stands for its best rate by mean accuracy on the common test set; so both lean optimistic, alike.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from support.finished import Finished, digits, read

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.torch import set_threads
from fedagg_edge.passes import Lesson, bridge_logits, train_pass
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation import build
from fedagg_edge.simulation.evaluate import evaluated_nodes, hits, on_own_mix
from fedagg_edge.views import draw_views

RATES = (0.01, 0.03, 0.06)
Score = tuple[float, float]
"""Accuracy on the common test set, and on the device's own mix of classes."""


def rules(run: Finished, passes: int, rate: float, beta: float, rounds: int) -> Hyperparameters:
    """The run's for devices, but for what is varied here."""
    return msgspec.structs.replace(
        run.config.training.of(Tier.DEVICE),
        epochs=passes, learning_rate=rate, beta=beta, teacher_trust="equal", batch_size=16,
        learning_rate_schedule="cosine", decay_rounds=rounds, decay_factor=0.05,
    )  # fmt: skip


def lessons(run: Finished, device: NodeId, rows: NDArray[np.int64], rounds: int) -> tuple[Lesson, list[Lesson]]:
    """What the device learns from alone, and what its parent teaches it in each round."""
    place = run.tree.places[device]
    assert place.parent is not None
    x_N, y_N = run.bridge.scale(run.data.train_x[rows]), run.data.train_y[rows]
    code_NB, parent = run.bridge.encode(x_N), run.learner(place.parent)
    taught = []
    for number in range(rounds):
        view_NA = draw_views(run.config.bridge_views, 2 * number + 1, len(y_N), run.bridge.sample_shape)
        teacher_NC = bridge_logits(parent, run.bridge, code_NB, view_NA)
        taught.append(Lesson(y_N, code_NB, teacher_NC, x_N, view_NA=view_NA))
    return Lesson(y_N, None, None, x_N), taught


def trained(
    run: Finished, device: NodeId, rule: Hyperparameters, given: Sequence[Lesson], test_x_N: NDArray[np.float32]
) -> Score:
    """A new device after a round for each lesson."""
    learner = build.make_learner(run.config, run.tree.places[device], run.bridge.sample_shape, run.data.classes, {})
    rng = np.random.default_rng(0)
    for number, lesson in enumerate(given):
        train_pass(learner, run.bridge, lesson, rule.at(number), rng)
    right_N = hits(learner, test_x_N, run.data.test_y)
    own = on_own_mix(right_N, run.data.test_y, given[0].label_N)
    return float(right_N.mean()), float("nan") if own is None else own


def best(
    run: Finished, given: Mapping[NodeId, Sequence[Lesson]], passes: int, beta: float, test_x_N: NDArray[np.float32]
) -> Score:
    """The devices' means at the rate that is best on the common test set."""
    found = []
    for rate in RATES:
        scores = [
            trained(run, d, rules(run, passes, rate, beta, len(each)), each, test_x_N) for d, each in given.items()
        ]
        found.append(np.mean(scores, axis=0))
    common, own = max(found, key=lambda score: float(score[0]))
    return float(common), float(own)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--betas", type=float, nargs="+", default=[3.0])
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    set_threads(1)
    passes, rounds = ([1], 2) if args.quick else (args.passes, args.rounds)
    rows: list[dict[str, object]] = []
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    with tempfile.TemporaryDirectory() as name:
        run = digits(Path(name) / "digits", 2 if args.quick else None) if args.run is None else read(args.run)
    some = evaluated_nodes(run.tree, args.devices)
    devices = [n for n in some if run.tree.places[n].tier is Tier.DEVICE]
    dealt, test_x_N = build.deal_rows(run.config, run.data, run.tree), run.bridge.scale(run.data.test_x)
    of = {d: lessons(run, d, dealt[d], rounds) for d in devices}
    own, teaching = {d: [o] * rounds for d, (o, _) in of.items()}, {d: t for d, (_, t) in of.items()}
    if not args.json:
        print(f"{run.config.name}, {len(devices)} devices, {rounds} rounds; accuracy in %: common test set, own mix")
        print("| passes a round | beta | alone | taught | gain |\n|---|---|---|---|---|")
    for count, beta in itertools.product(passes, args.betas):
        alone = best(run, own, count, 0.0, test_x_N)
        taught = best(run, teaching, count, beta, test_x_N)
        gain = [100 * (t - a) for t, a in zip(taught, alone, strict=True)]
        for what, points in zip(("the common test set", "each device's own mix"), gain, strict=True):
            figure = f"{run.config.name}: a device's gain on {what}, {count} passes a round, beta {beta:g}"
            rows.append({"figure": figure, "value": points, "unit": "points", "goal": 5, "holds": points >= 5, **about})
        if not args.json:
            cells = [" ".join(f"{100 * v:.1f}" for v in each) for each in (alone, taught)]
            print(f"| {count} | {beta:g} | {cells[0]} | {cells[1]} | {gain[0]:+.1f} {gain[1]:+.1f} |", flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
