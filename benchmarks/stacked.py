"""Devices of one structure trained as one stacked model, beside one by one: time of a training step a device.

    python benchmarks/stacked.py              16 devices, batch 8, the paper's device CNN and MLPs
    python benchmarks/stacked.py --quick      fewer repetitions, a few seconds
    python benchmarks/stacked.py --json       one list of rows, for machines

A step is a leaf's (eq. 4): eight private and eight bridge samples. Both ways are timed in turn and in CPU time of one
thread; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.stacked import stacked_step
from fedagg_edge.learners.torch import TorchLearner
from fedagg_edge.learners.zoo import build_model

CASES = (("cnn3", (3, 32, 32)), ("cnn3", (1, 8, 8)), ("mlp", (1, 8, 8)), ("mlp", (3, 32, 32)))
CLASSES = 10


def batch(seed: int, shape: tuple[int, ...]) -> Batch:
    """Eight private and eight bridge samples with a teacher's logits."""
    rng = np.random.default_rng(seed)
    private, bridge = rng.random((2, 8, *shape), np.float32)
    label_N = rng.integers(0, CLASSES, 8)
    return Batch(bridge, label_N, rng.normal(size=(8, CLASSES)).astype(np.float32), private, label_N)


def measure(model: str, shape: tuple[int, ...], devices: int, repeats: int) -> tuple[float, float]:
    """Milliseconds of CPU a device's step, one by one and stacked."""
    torch.manual_seed(0)
    alone = [TorchLearner(build_model(model, shape, CLASSES)) for _ in range(devices)]
    together = [TorchLearner(copy.deepcopy(one.module)) for one in alone]
    batches = [batch(k, shape) for k in range(devices)]
    hyperparameters = Hyperparameters()

    def one_by_one() -> None:
        for learner, own in zip(alone, batches, strict=True):
            learner.step(own, hyperparameters)

    def stacked() -> None:
        stacked_step(together, batches, hyperparameters)

    one_by_one(), stacked()  # warm
    pairs = [(spent(one_by_one) / devices, spent(stacked) / devices) for _ in range(repeats)]
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second)


def spent(work: Callable[[], None]) -> float:
    """Milliseconds of CPU time."""
    start = time.process_time()
    work()
    return 1e3 * (time.process_time() - start)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=16, help="devices a step; the simulator takes 16")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    about = {"machine": platform.processor() or platform.machine(), "date": datetime.date.today().isoformat()}
    rows = []
    for model, shape in CASES:
        alone, together = measure(model, shape, args.devices, 3 if args.quick else 15)
        where = f"stacked: {model} at {'x'.join(map(str, shape))}, batch 8, {args.devices} devices"
        for what, value, unit in (
            ("one by one, a device's step", alone, "ms"),
            ("stacked, a device's step", together, "ms"),
            ("one by one / stacked", alone / together, "ratio"),
        ):
            rows.append(
                {"figure": f"{where}: {what}", "value": value, "unit": unit, "goal": None, "holds": None, **about}
            )
        if not args.json:
            print(f"{where}: {alone:.3f} ms one by one, {together:.3f} ms stacked, {alone / together:.2f} times faster")
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
