"""Threads from Python: in one call, many callers at once, and after fork."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedagg_edge import kernels


def run(seed: int, threads: int = 2, n: int = 30_000) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    s, t = (rng.normal(size=(n, 10)).astype(np.float32) for _ in range(2))
    got = kernels.distill_loss(s, t, rng.integers(0, 10, n), kl_weight=9.0, threads=threads)
    return got.loss, float(np.abs(got.gradient_NC).sum())


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_number(isa: str, threads: int) -> None:
    assert run(0, threads) == pytest.approx(run(0, 1), rel=1e-12)


def test_many_callers_at_once() -> None:
    expected = [run(seed, 1) for seed in range(4)]
    with ThreadPoolExecutor(8) as callers:
        for seed, got in enumerate(callers.map(run, [0, 1, 2, 3] * 4)):
            assert got == pytest.approx(expected[seed % 4], rel=1e-12)


def test_a_large_call_lets_other_python_threads_run() -> None:
    # a tick counter only advances while the call has given the interpreter away; small calls keep it
    s = np.zeros((400_000, 10), np.float32)
    t, y = s.copy(), np.zeros(len(s), np.int64)
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        for _ in range(50):
            before = ticks[0]
            kernels.distill_loss(s, t, y, kl_weight=1.0, out=s)
            if ticks[0] > before:
                return
        pytest.fail("no other thread ran during fifty large calls")
    finally:
        stop.set()
        ticker.join()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use() -> None:
    expected = run(1)
    with multiprocessing.get_context("fork").Pool(2) as children:
        assert children.map(run, [1, 1]) == [pytest.approx(expected, rel=1e-12)] * 2
    assert run(1) == pytest.approx(expected, rel=1e-12)
