"""What matrix products in place of convolutions, on maps of a few pixels, buy a training step of the paper's ResNets.

    python benchmarks/small_maps.py [--quick] [--json]

One thread, batches of 32 images of 32x32 (logits: 512), the large stem; steps of `TorchLearner` with and without
`learners.small_maps` interleaved in one process, the ratio of the best and, beside it, of the medians.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.learners.base import Batch
from fedagg_edge.learners.small_maps import SmallMapConv2d
from fedagg_edge.learners.torch import TorchLearner, set_threads
from fedagg_edge.learners.zoo import resnet10, resnet18

MODELS = {"ResNet-18": resnet18, "ResNet-10": resnet10}
SHAPE, CLASSES = (3, 32, 32), 10


def learners(build: Callable[..., nn.Module]) -> tuple[TorchLearner, TorchLearner]:
    """The same model as the learner computes it, and by torch's convolutions alone."""
    torch.manual_seed(0)
    ours, plain = (TorchLearner(build(SHAPE, CLASSES, stem="large")) for _ in range(2))
    plain.load_state(ours.state())
    for layer in plain.module.modules():
        if type(layer) is SmallMapConv2d:
            layer.__class__ = nn.Conv2d
    return ours, plain


def spent(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compared(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """How much longer the second takes: by the best, by the median; and the first's best in ms."""
    first(), second()
    both = [(spent(first), spent(second)) for _ in range(repeats)]
    mine, other = zip(*both, strict=True)
    return min(other) / min(mine), statistics.median(other) / statistics.median(mine), 1e3 * min(mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 repeats instead of 15")
    parser.add_argument("--json", action="store_true", help="one list of rows")
    args = parser.parse_args()
    set_threads(1)
    repeats = 2 if args.quick else 15
    rng = np.random.default_rng(0)
    few, many = (rng.random((n, *SHAPE), dtype=np.float32) for n in (32, 512))
    batch = Batch(few, rng.integers(0, CLASSES, 32), None)
    machine = f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    about = {"goal": None, "holds": None, "machine": machine, "date": datetime.date.today().isoformat()}
    rows = []
    for name, build in MODELS.items():
        ours, plain = learners(build)
        works = {
            "step of 32": (lambda one: lambda: one.step(batch, Hyperparameters(learning_rate=1e-4)), repeats),
            "logits of 512": (lambda one: lambda: one.logits(many), max(2, repeats // 3)),
        }
        for what, (work, times) in works.items():
            best, median, milliseconds = compared(work(ours), work(plain), times)
            rows.append(
                {"figure": f"{name}, {what}, against torch's convolutions", "value": round(best, 2), "unit": "x"}
            )
            rows[-1] |= {"median": round(median, 2), **about}
            rows.append({"figure": f"{name}, {what}", "value": round(milliseconds, 1), "unit": "ms", **about})
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(machine)
    for row in rows:
        print(f"{row['figure']:58} {row['value']:9.2f} {row['unit']:3} {row.get('median', ''):>8}")


if __name__ == "__main__":
    main()
