"""The largest errors of aggregation and confidence that a random search finds, against float64.

    python benchmarks/aggregate_accuracy.py [--trials N] [--seed S] [--json]

A trial draws teachers (1 to 16), samples, classes (2 to 1000), the logits' scale (0.1 to 100), per-teacher and
per-sample weights, and runs every method on every instruction set; `fedagg_edge.reference` is the float64 side.
Errors are in units of 2^-24 * max(1, largest |logit| of the sample), confidence in units of 2^-24 of itself.
--quick makes 100 trials. --json prints one list of rows: figure, value, unit, goal, holds, machine, date.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from typing import Any

import numpy as np

from fedagg_edge import kernels, reference

METHODS = ("mean_logits", "mean_probabilities", "entropy_weighted", "trimmed_mean", "median")
# rounding of a sum of 16 terms and its weights; a logarithm of probabilities adds some, an entropy, of up to log(1000),
# a few of its own units, and exp(-entropy) has the entropy's absolute error as its relative one
GOALS = {
    "mean_logits": 8,
    "mean_probabilities": 32,
    "entropy_weighted": 64,
    "trimmed_mean": 8,
    "median": 2,
    "confidence": 128,
}
UNIT = 2.0**-24


def draw(seed: int, trial: int) -> tuple[list[Any], Any]:
    """Return teachers float32 [N, C] and weights float32 [K, N]; the same arguments, the same arrays."""
    rng = np.random.default_rng((seed, trial))
    k, n = int(rng.integers(1, 17)), int(rng.integers(1, 33))
    c = int(np.exp(rng.uniform(np.log(2), np.log(1000))))
    scale = np.exp(rng.uniform(np.log(0.1), np.log(100)))
    teachers = [(scale * rng.normal(size=(n, c))).astype(np.float32) for _ in range(k)]
    return teachers, (rng.random((k, n)) + 0.05).astype(np.float32)


def errors(teachers: list[Any], weights_KN: Any) -> dict[str, float]:
    """Return the largest error of each quantity, in its unit, on the active instruction set."""
    largest_N = np.maximum(1.0, np.abs(np.stack(teachers)).max((0, 2)))
    found = {}
    for method in METHODS:
        got = kernels.aggregate_logits(teachers, method=method, sample_weights_KN=weights_KN)  # type: ignore[arg-type]
        exact = reference.aggregate_logits(teachers, method, weights_KN)
        found[method] = float((np.abs(got - exact) / largest_N[:, None]).max() / UNIT)
    sure, exact = kernels.confidence(teachers[0]), reference.confidence(teachers[0])
    found["confidence"] = float((np.abs(sure - exact) / exact).max() / UNIT)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3000, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="100 trials")
    parser.add_argument("--json", action="store_true", help="one list of rows")
    arguments = parser.parse_args()
    trials = 100 if arguments.quick else arguments.trials
    worst: dict[str, float] = {}
    for trial in range(trials):
        teachers, weights_KN = draw(arguments.seed, trial)
        for isa in kernels.available_isas():
            with kernels.force_isa(isa):
                for name, error in errors(teachers, weights_KN).items():
                    worst[name] = max(error, worst.get(name, 0.0))
    where, date = f"{platform.machine()}, numpy {np.__version__}", datetime.date.today().isoformat()
    searched = f"worst of {'/'.join(kernels.available_isas())}, {trials} trials, seed {arguments.seed}"
    rows = [
        {
            "figure": f"error of {name}, {searched}",
            "value": round(error, 2),
            "unit": "2^-24",
            "goal": GOALS[name],
            "holds": error <= GOALS[name],
            "machine": where,
            "date": date,
        }
        for name, error in worst.items()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{where}, {date}, {searched}; units of 2^-24")
    for row in rows:
        print(f"{str(row['figure']).split(',')[0]:<28} {row['value']:>7}  <= {row['goal']}")


if __name__ == "__main__":
    main()
