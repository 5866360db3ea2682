"""The kernels beside what a user could pick instead, as ratios measured side by side in one process.

    python benchmarks/kernels.py [--quick] [--json] [--only WORD]

Peers: torch eager, NumPy, torch.compile (left out by --quick); limit: a triad with non-temporal stores over the bytes
that the kernel reads and writes. Candidates of a figure run interleaved, in slices of about a millisecond so that a
slice fits between two interruptions; a figure is the ratio of the best slices, and goals are on it; beside it stands
the ratio of the median slices. Everything runs on one thread unless a figure says otherwise. --json prints one list of
rows: figure, value, median, unit, goal, holds, machine, date.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from fedagg_edge import kernels

Call = Callable[[], Any]
BETA, TEMPERATURE = 1.0, 3.0
TRIAD_C = """
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
void triad(const float* a, const float* b, float* c, size_t n) {
    size_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm512_stream_ps(c + i, _mm512_fmadd_ps(_mm512_loadu_ps(b + i), _mm512_set1_ps(3), _mm512_loadu_ps(a + i)));
#elif defined(__AVX2__)
    for (; i + 8 <= n; i += 8)
        _mm256_stream_ps(c + i, _mm256_fmadd_ps(_mm256_loadu_ps(b + i), _mm256_set1_ps(3), _mm256_loadu_ps(a + i)));
#endif
    for (; i < n; ++i) c[i] = a[i] + 3 * b[i];
    _mm_sfence();
}
"""


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float  # by the best slices
    median: float  # by the median slices
    unit: str
    goal: float
    at_least: bool  # else at most

    @property
    def holds(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one call, per candidate, by the best and by the median of its slices."""

    best: dict[str, float]
    median: dict[str, float]

    def figure(self, name: str, over: str, under: str, goal: float, *, at_least: bool = True) -> Figure:
        """Return how many times as long as `under` `over` takes."""
        ratio, median = (seconds[over] / seconds[under] for seconds in (self.best, self.median))
        return Figure(name, ratio, median, "x", goal, at_least)


def interleaved(calls: dict[str, Call], rounds: int, slice_s: float = 0.001) -> Times:
    """Time the candidates in turn, `rounds` slices of each."""
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(slice_s / max(time.perf_counter() - start, 1e-8)))
    slices: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            many = range(repeats[name])
            start = time.perf_counter()
            for _ in many:
                call()
            slices[name].append((time.perf_counter() - start) / repeats[name])
    return Times(
        {name: min(seconds) for name, seconds in slices.items()},
        {name: statistics.median(seconds) for name, seconds in slices.items()},
    )


def load_triad() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None] | None:
    """Compile the triad for this machine; None where there is no C compiler or no x86."""
    compiler = shutil.which("cc")
    if compiler is None or platform.machine() != "x86_64":
        return None
    folder = Path(tempfile.mkdtemp())
    source = folder / "triad.c"
    source.write_text(TRIAD_C)
    library = folder / "triad.so"
    subprocess.run([compiler, "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).triad

    def triad(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> None:
        pointers = [ctypes.c_void_p(x.data_ptr()) for x in (a, b, c)]
        function(*pointers, ctypes.c_size_t(a.numel()))

    return triad


def torch_loss(s: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    softened = functional.log_softmax(s / TEMPERATURE, 1), functional.softmax(t / TEMPERATURE, 1)
    kl = functional.kl_div(*softened, reduction="batchmean")
    return functional.cross_entropy(s, y) + BETA * TEMPERATURE**2 * kl


def torch_loss_and_gradient(loss: Call, s: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor | None:
    s = s.detach().requires_grad_(True)
    loss(s, t, y).backward()
    return s.grad


def numpy_loss_and_gradient(s: Any, t: Any, y: Any) -> tuple[float, Any]:
    """What a user without torch would write: the same loss in whole-array operations."""

    def log_softmax(z: Any) -> Any:
        z = z - z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    rows = np.arange(len(s))
    log_p, log_q, log_t = log_softmax(s), log_softmax(s / TEMPERATURE), log_softmax(t / TEMPERATURE)
    teacher = np.exp(log_t)
    loss = -log_p[rows, y].mean() + BETA * TEMPERATURE**2 * (teacher * (log_t - log_q)).sum() / len(s)
    gradient = np.exp(log_p)
    gradient[rows, y] -= 1
    gradient += BETA * TEMPERATURE * (np.exp(log_q) - teacher)
    gradient /= len(s)
    return loss, gradient


def flattened(model: torch.nn.Module) -> tuple[Any, Any]:
    """Move the model's weights and gradients into two flat arrays, which the model's become views of."""
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    gradient, at = torch.zeros_like(weights), 0
    for p in model.parameters():
        here = slice(at, at + p.numel())
        p.data, p.grad, at = weights[here].view_as(p), gradient[here].view_as(p), here.stop
    return weights.numpy(), gradient.numpy()


def batch(n: int, c: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(n, c, generator=generator) for _ in range(2))
    return s, t, torch.randint(0, c, (n,), generator=generator)


def ours(s: Any, t: Any, y: Any, out: Any, threads: int = 1) -> Call:
    call, weight = kernels.distill_loss, BETA * TEMPERATURE**2

    def one_thread() -> Any:  # a closure: functools.partial would add a tenth of a microsecond of its own
        return call(s, t, y, kl_weight=weight, temperature=TEMPERATURE, out=out)

    def several() -> Any:
        return call(s, t, y, kl_weight=weight, temperature=TEMPERATURE, out=out, threads=threads)

    return one_thread if threads == 1 else several


class Bench:
    def __init__(self, *, quick: bool) -> None:
        self.rounds = 30 if quick else 150
        self.quick = quick
        self.compiled = None if quick else torch.compile(torch_loss)
        self.triad = load_triad()

    def distill(self, n: int, c: int, eager: float, compiled: float | None, limit: float | None) -> Iterator[Figure]:
        s, t, y = batch(n, c)
        out = torch.empty_like(s)
        calls: dict[str, Call] = {
            "ours": ours(s, t, y, out),
            "eager": partial(torch_loss_and_gradient, torch_loss, s, t, y),
            "numpy": partial(numpy_loss_and_gradient, s.numpy(), t.numpy(), y.numpy()),
        }
        if compiled is not None and self.compiled is not None:
            calls["compile"] = partial(torch_loss_and_gradient, self.compiled, s, t, y)
        if limit is not None and self.triad is not None:
            calls["triad"] = partial(self.triad, s, t, out)
        times = interleaved(calls, max(5, self.rounds // max(1, n * c // 200_000)))
        name = f"loss+gradient {n}x{c}"
        yield times.figure(f"{name} against eager", "eager", "ours", eager)
        yield times.figure(f"{name} against NumPy", "numpy", "ours", 1)
        if compiled is not None and "compile" in calls:
            yield times.figure(f"{name} against torch.compile", "compile", "ours", compiled)
        if limit is not None and "triad" in calls:
            yield times.figure(f"{name} against the triad", "ours", "triad", limit, at_least=False)

    def small_calls(self) -> Iterator[Figure]:
        for n, goal in ((8, 0.5), (32, 0.65)):
            s, t, y = batch(n, 10)
            out = torch.empty_like(s)
            arrays = [x.numpy() for x in (s, t, y, out)]
            times = interleaved({"torch": ours(s, t, y, out), "numpy": ours(*arrays)}, self.rounds * 3)
            for library, seconds in times.best.items():
                median = times.median[library]
                yield Figure(f"one call {n}x10 from {library}", seconds * 1e6, median * 1e6, "us", goal, False)

    def training_step(self) -> Iterator[Figure]:
        _, t, y = batch(8, 10)
        x, out = torch.randn(8, 64), torch.empty(8, 10)
        model = torch.nn.Linear(64, 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        flat_model = torch.nn.Linear(64, 10)
        weights, gradient = flattened(flat_model)

        def step_with(loss: Callable[[torch.Tensor], None]) -> None:
            optimizer.zero_grad()
            loss(model(x))
            optimizer.step()

        def fused(z: torch.Tensor) -> None:
            kernels.distill_loss(z, t, y, kl_weight=BETA * TEMPERATURE**2, out=out)
            torch.autograd.backward((z,), (out,))  # 2 us less than z.backward(out)

        def flat_step() -> None:  # as learners/torch.py does it
            gradient.fill(0)
            fused(flat_model(x))
            kernels.sgd_step(weights, gradient, learning_rate=1e-3)

        times = interleaved(
            {
                "ours": flat_step,
                "ours, torch's optimizer": partial(step_with, fused),
                "eager": partial(step_with, lambda z: torch_loss(z, t, y).backward()),
            },
            self.rounds,
        )
        name = "training step Linear(64,10) batch 8"
        yield times.figure(f"{name} against eager", "eager", "ours", 3)
        yield times.figure(f"{name}, torch's optimizer, against eager", "eager", "ours, torch's optimizer", 3)

    def aggregates(self) -> Iterator[Figure]:
        def mean_of_softmax(z: torch.Tensor) -> torch.Tensor:
            return torch.softmax(z, 2).mean(0).log()

        def entropy_weighted(z: torch.Tensor) -> torch.Tensor:
            log_p = torch.log_softmax(z, 2)
            w = torch.softmax((log_p.exp() * log_p).sum(2), 0)
            return (w[:, :, None] * z).sum(0)

        def trimmed(z: torch.Tensor) -> torch.Tensor:
            cut = z.shape[0] // 4
            return torch.sort(z, dim=0).values[cut : z.shape[0] - cut].mean(0)

        peers: list[tuple[Any, Callable[[torch.Tensor], torch.Tensor], float]] = [
            ("mean_probabilities", mean_of_softmax, 15),
            ("entropy_weighted", entropy_weighted, 10),
            ("trimmed_mean", trimmed, 10),
            ("median", lambda z: torch.median(z, 0).values, 10),
        ]
        for k, n, c in ((4, 32, 10), (4, 1024, 10), (16, 1024, 100), (8, 100_000, 10)):
            stacked = torch.randn(k, n, c)
            teachers, out = list(stacked.numpy()), np.empty((n, c), np.float32)
            for method, peer, goal in peers:
                mine = partial(kernels.aggregate_logits, teachers, method=method, out=out)
                rounds = max(4, self.rounds // max(1, k * n * c // 50_000))
                times = interleaved({"ours": mine, "eager": partial(peer, stacked)}, rounds)
                yield times.figure(f"{method} {k}x{n}x{c} against eager", "eager", "ours", goal)

    def mean_logits(self) -> Iterator[Figure]:
        for k, n, c in ((4, 1024, 10), (8, 1024, 100), (8, 20_000, 100)):
            stacked, w = torch.randn(k, n, c), torch.rand(k)
            teachers, out, weights = list(stacked.numpy()), np.empty((n, c), np.float32), w.numpy()
            bytes_ = [kernels.quantise_logits(z) for z in teachers]
            calls = {
                "f32": partial(kernels.aggregate_logits, teachers, weights_K=weights, out=out),
                "i8": partial(kernels.aggregate_logits, bytes_, weights_K=weights, out=out),
                "tensordot": lambda stacked=stacked, w=w: torch.tensordot(w / w.sum(), stacked, 1),
            }
            times = interleaved(calls, max(10, self.rounds // max(1, k * n * c // 500_000)))
            name = f"mean_logits {k}x{n}x{c}"
            yield times.figure(f"{name} against tensordot", "tensordot", "f32", 1)
            if k * n * c * 4 > 32 << 20:
                yield times.figure(f"{name} from int8 against f32", "f32", "i8", 3)

    def threads(self) -> Iterator[Figure]:
        for n, c in ((200_000, 10), (20_000, 100)):
            s, t, y = (x.numpy() for x in batch(n, c))
            out = np.empty_like(s)
            times = interleaved({str(k): ours(s, t, y, out, k) for k in (1, 2)}, max(10, self.rounds // 5))
            yield times.figure(f"loss+gradient {n}x{c}, two threads against one", "1", "2", 1.7)

    def figures(self) -> Iterator[tuple[str, Callable[[], Iterator[Figure]]]]:
        yield "small calls", self.small_calls
        for n in (8, 32):
            yield f"distill {n}x10", partial(self.distill, n, 10, 150, 200, None)
        yield "training step", self.training_step
        for n, c in ((256, 10), (4096, 10), (256, 100), (4096, 100)):
            yield f"distill {n}x{c}", partial(self.distill, n, c, 30, 20, None)
        yield "distill 10000x1000", partial(self.distill, 10_000, 1000, 20, 9, 1.4)
        yield "distill 320x32000", partial(self.distill, 320, 32_000, 20, 9, 1.8)
        for c in (10, 20):
            yield f"distill 1000000x{c}", partial(self.distill, 1_000_000, c, 40, 20, 1.5)
        yield "aggregates", self.aggregates
        yield "mean logits", self.mean_logits
        yield "threads", self.threads


def machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {kernels.active_isa()}, torch {torch.__version__}, python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no torch.compile")
    parser.add_argument("--json", action="store_true", help="one list of rows")
    parser.add_argument("--only", default="", metavar="WORD", help="only groups whose name contains WORD")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where, date = machine(), datetime.date.today().isoformat()
    if not arguments.json:
        print(f"{where}, {date}\n{'figure':<62} {'best':>9}  {'median':>9}    goal")
    bench, rows = Bench(quick=arguments.quick), []
    for name, group in bench.figures():
        if arguments.only not in name:
            continue
        for figure in group():
            if arguments.json:
                rows.append(
                    {
                        "figure": figure.name,
                        "value": round(figure.value, 3),
                        "median": round(figure.median, 3),
                        "unit": figure.unit,
                        "goal": figure.goal,
                        "holds": figure.holds,
                        "machine": where,
                        "date": date,
                    }
                )
            else:
                sign, mark = (">=" if figure.at_least else "<="), ("" if figure.holds else "  missed")
                both = f"{figure.value:>8.2f}{figure.unit:<3}{figure.median:>8.2f}{figure.unit:<3}"
                print(f"{figure.name:<62} {both}{sign}{figure.goal}{mark}", flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
