"""The largest errors of the distillation loss that a wide random search finds, as shares of the promised bounds.

    python benchmarks/kernel_accuracy.py [--trials N] [--seed S] [--isa NAME] [--json] [--cases]

A trial draws shape, temperature and scale, then logits from one of five families: normal, a heavy tail, a few distinct
values in every row (equal classes have equal errors, which add up), one class apart from all others that are alike,
and a teacher close to the student. It compares every row's loss and gradient with float64 on every instruction set
(fedagg_edge.reference states the formulas; here they run on all rows at once). A share above 1 is a broken promise.
Beside each share stands torch's: the largest error of its own float32 on the same rows. --cases prints the worst trial
per quantity: `draw(seed, trial)` of this file makes it again. --json prints one list of rows: figure, value, unit,
goal, holds, machine, date; torch's errors are rows without a goal.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedagg_edge import kernels

ROWS = 16  # as wide as the widest vectors
FAMILIES = ("normal", "tail", "few", "apart", "close")


@dataclass(frozen=True, slots=True)
class Case:
    """A batch: logits float32 [ROWS, C], labels [ROWS], one temperature for both models."""

    student_NC: Any
    teacher_NC: Any
    labels_N: Any
    temperature: float
    family: str


def draw(seed: int, trial: int) -> Case:
    """Return the batch of a trial; the same arguments, the same batch."""
    rng = np.random.default_rng((seed, trial))
    c = int(np.exp(rng.uniform(np.log(2), np.log(160 if rng.random() < 0.95 else 4000))))
    temperature = 1.0 if rng.random() < 0.15 else float(np.exp(rng.uniform(np.log(0.05), np.log(100))))
    scale = float(np.exp(rng.uniform(np.log(0.1), np.log(20)))) * (temperature if rng.random() < 0.5 else 1.0)
    scale = min(scale, 3000.0)
    family = str(rng.choice(FAMILIES))
    shape = (ROWS, c)
    if family == "normal":
        s, t = scale * rng.normal(size=shape), scale * rng.normal(size=shape)
    elif family == "tail":
        s, t = (scale * rng.standard_t(2, size=shape).clip(-300, 300) for _ in range(2))
    elif family == "few":
        s, t = (np.take_along_axis(scale * rng.normal(size=(ROWS, 3)), rng.integers(0, 3, shape), 1) for _ in range(2))
    elif family == "apart":
        unit = temperature if rng.random() < 0.5 else 1.0
        s, t = (np.repeat(scale * rng.normal(size=(ROWS, 1)), c, 1) for _ in range(2))
        for z in (s, t):
            z[:, 0] += unit * (np.log(c) + 2 * rng.normal(size=ROWS))
    else:
        s = scale * rng.normal(size=shape)
        t = s + 10 ** rng.uniform(-4, 0) * temperature * rng.normal(size=shape)
    return Case(s.astype(np.float32), t.astype(np.float32), rng.integers(0, c, ROWS), temperature, family)


def _log_softmax(z: Any) -> Any:
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Exact:
    """Per row, in float64: cross-entropy, both divergences; and the gradients of a row alone, without 1 / N."""

    ce_N: Any
    forward_N: Any
    reverse_N: Any
    forward_gradient_NC: Any  # of CE + T^2 KL(teacher||student)
    reverse_gradient_NC: Any  # of KL(student||teacher)


def exact(case: Case) -> Exact:
    s, t, temperature = case.student_NC.astype(float), case.teacher_NC.astype(float), case.temperature
    rows = np.arange(len(s))
    log_s, log_q, log_p = _log_softmax(s), _log_softmax(s / temperature), _log_softmax(t / temperature)
    q, p = np.exp(log_q), np.exp(log_p)
    reverse = (q * (log_q - log_p)).sum(1)
    gradient = np.exp(log_s) + temperature * (q - p)
    gradient[rows, case.labels_N] -= 1
    return Exact(
        -log_s[rows, case.labels_N],
        (p * (log_p - log_q)).sum(1),
        reverse,
        gradient,
        q * (log_q - log_p - reverse[:, None]) / temperature,
    )


def torch_errors(case: Case, want: Exact) -> dict[str, float]:
    """Return the largest errors of torch's own float32, in the units of `shares`; the reverse gradient's as it is."""
    import torch  # noqa: PLC0415  a board that searches with errors from elsewhere has none

    x = torch.tensor(case.student_NC, requires_grad=True)
    t, y, temperature = torch.tensor(case.teacher_NC), torch.tensor(case.labels_N), case.temperature
    log_s, log_t = torch.log_softmax(x / temperature, 1), torch.log_softmax(t / temperature, 1)
    ce = torch.nn.functional.cross_entropy(x, y, reduction="none")
    forward = torch.nn.functional.kl_div(log_s, log_t.exp(), reduction="none").sum(1)
    reverse = (log_s.exp() * (log_s - log_t)).sum(1)
    (forward_gradient,) = torch.autograd.grad((ce + temperature**2 * forward).sum(), x, retain_graph=True)
    (reverse_gradient,) = torch.autograd.grad(reverse.sum(), x)

    def share(got: Any, exact: Any, bound: float) -> float:
        return float((np.abs(got.detach().numpy() - exact) / (bound * np.maximum(1.0, np.abs(exact)))).max())

    off = np.abs(forward_gradient.numpy() - want.forward_gradient_NC).max()
    return {
        "CE": share(ce, want.ce_N, 1e-7),
        "forward KL": share(forward, want.forward_N, 1e-6),
        "reverse KL": share(reverse, want.reverse_N, 1e-6),
        "forward gradient": float(off) / (5e-7 * max(1.0, temperature)),
        "reverse gradient": float(np.abs(reverse_gradient.numpy() - want.reverse_gradient_NC).max()),
    }


def reverse_gradient_allowed(case: Case, torch_error: float) -> float:
    """Return the bound: twice torch's error, or rounding level, which is not torch's to beat."""
    return max(2 * torch_error, 5e-7 * max(1.0, 1 / case.temperature))


def shares(case: Case, want: Exact, reverse_allowed: float) -> dict[str, float]:
    """Return the share of its bound that each quantity's largest error takes, on the active instruction set."""
    s, t, y, temperature = case.student_NC, case.teacher_NC, case.labels_N, case.temperature
    worst = dict.fromkeys(("CE", "forward KL", "forward gradient", "reverse KL", "reverse gradient"), 0.0)
    forward = kernels.distill_loss(s, t, y, kl_weight=temperature**2, temperature=temperature)
    backward: dict[str, Any] = {"ce_weight": 0.0, "temperature": temperature, "direction": "student||teacher"}
    reverse = kernels.distill_loss(s, t, kl_weight=1.0, **backward)
    for name, result, gradient, allowed in (
        ("forward gradient", forward, want.forward_gradient_NC, 5e-7 * max(1.0, temperature)),
        ("reverse gradient", reverse, want.reverse_gradient_NC, reverse_allowed),
    ):
        worst[name] = float(np.abs(ROWS * np.asarray(result.gradient_NC, float) - gradient).max()) / allowed
    weights = np.zeros(ROWS, np.float32)
    for n in range(ROWS):  # one row's loss: all others weigh nothing
        weights[n] = 1
        one = kernels.distill_loss(s, t, y, kl_weight=1.0, temperature=temperature, row_weights_N=weights)
        back = kernels.distill_loss(s, t, kl_weight=1.0, row_weights_N=weights, **backward)
        weights[n] = 0
        for name, value, wanted, bound in (
            ("CE", one.ce, want.ce_N[n], 1e-7),
            ("forward KL", one.kl, want.forward_N[n], 1e-6),
            ("reverse KL", back.kl, want.reverse_N[n], 1e-6),
        ):
            worst[name] = max(worst[name], abs(value - wanted) / (bound * max(1.0, abs(wanted))))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--trials", type=int, default=20_000, metavar="N", help="batches of 16 rows (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", default="", help="only this instruction set")
    parser.add_argument("--quick", action="store_true", help="600 trials")
    parser.add_argument("--json", action="store_true", help="one list of rows")
    parser.add_argument("--cases", action="store_true", help="the worst trial of each quantity")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.trials = 600
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    isas = [arguments.isa] if arguments.isa else list(kernels.available_isas())
    worst: dict[tuple[str, str], tuple[float, str, int]] = {}
    torchs: dict[tuple[str, str], float] = {}
    for trial in range(arguments.trials):
        case = draw(arguments.seed, trial)
        want = exact(case)
        errors = torch_errors(case, want)
        allowed = reverse_gradient_allowed(case, errors["reverse gradient"])
        errors["reverse gradient"] /= allowed
        for name, share in errors.items():
            torchs[name, case.family] = max(share, torchs.get((name, case.family), 0.0))
        for isa in isas:
            with kernels.force_isa(isa):
                for name, share in shares(case, want, allowed).items():
                    if not share <= worst.get((name, case.family), (-1.0, "", 0))[0]:
                        worst[name, case.family] = share, isa, trial
    where = f"{platform.machine()}, torch {torch.__version__}, numpy {np.__version__}"
    date = datetime.date.today().isoformat()
    searched = f"worst of {'/'.join(isas)}, {arguments.trials} batches, seed {arguments.seed}"
    rows = [
        {
            "figure": f"error of {name}, logits {family}, {searched}",
            "value": round(float(share), 3),
            "unit": "of the bound",
            "goal": 1,
            "holds": bool(share <= 1),
            "machine": where,
            "date": date,
        }
        for (name, family), (share, _, _) in sorted(worst.items())
    ]
    rows += [
        {
            "figure": f"error of torch's {name}, logits {family}, {arguments.trials} batches, seed {arguments.seed}",
            "value": round(torchs[name, family], 3),
            "unit": "of the bound",
            "goal": None,
            "holds": None,
            "machine": where,
            "date": date,
        }
        for name, family in sorted(worst)
    ]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{where}, {date}, {arguments.trials} batches, seed {arguments.seed}; worst of {', '.join(isas)}")
    for (name, family), (share, isa, trial) in sorted(worst.items()):
        case = draw(arguments.seed, trial)
        note = f"  trial {trial} on {isa}: C {case.student_NC.shape[1]}, T {case.temperature:.4g}"
        mark = "" if share <= 1 else "  broken"
        figures = f"{share:>7.3f}  torch {torchs[name, family]:>8.3f}"
        print(f"{name:<17} {family:<7} {figures}{note if arguments.cases else ''}{mark}")


if __name__ == "__main__":
    main()
