"""Threads from Python: in one call, many callers at once, and after fork."""

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from fedagg_edge import kernels


def run(seed: int, threads: int = 2, n: int = 30_000) -> tuple[float, np.ndarray]:
    rng = np.random.default_rng(seed)
    s, t = (rng.normal(size=(n, 10)).astype(np.float32) for _ in range(2))
    got = kernels.distill_loss(s, t, rng.integers(0, 10, n), kl_weight=9.0, threads=threads)
    return got.loss, got.gradient_NC


def assert_same(got: tuple[float, np.ndarray], expected: tuple[float, np.ndarray]) -> None:
    """Gradients to the bit, losses to a few units of the 16th digit."""
    assert got[0] == pytest.approx(expected[0], rel=1e-15)
    np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_number(isa: str, threads: int) -> None:
    assert_same(run(0, threads), run(0, 1))


def test_many_callers_at_once() -> None:
    expected = [run(seed, 1) for seed in range(4)]
    with ThreadPoolExecutor(8) as callers:
        for seed, got in enumerate(callers.map(run, [0, 1, 2, 3] * 4)):
            assert_same(got, expected[seed % 4])


def others_ran_in_the_middle(call: Callable[[], object]) -> bool:
    """Whether another Python thread ran in the middle half of `call`; around its ends the interpreter may switch."""
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        began = time.perf_counter()
        call()
        took = time.perf_counter() - began
    finally:
        stop.set()
        ticker.join()
    return any(0.25 * took < at - began < 0.75 * took for at in ticks)


def test_a_large_call_lets_other_python_threads_run() -> None:
    s = np.zeros((1_000_000, 10), np.float32)
    t, y = s.copy(), np.zeros(len(s), np.int64)
    calls = (lambda: kernels.distill_loss(s, t, y, kl_weight=1.0, out=s) for _ in range(20))
    assert any(others_ran_in_the_middle(call) for call in calls)
    # what keeps the interpreter is told from it
    assert not all(others_ran_in_the_middle(lambda: sum(range(3_000_000))) for _ in range(5))


@contextmanager
def no_switches() -> Iterator[None]:
    """The interpreter takes the lock from no thread: another runs only where the call lets it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def others_ran(call: Callable[[], object], tries: int) -> bool:
    """Whether another Python thread ran within one of `tries` calls, while nothing but the call could let it."""
    inside, stop, seen = [False], [False], [False]

    def look() -> None:
        while not stop[0]:
            seen[0] = seen[0] or inside[0]
            time.sleep(0)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(tries):
            time.sleep(0.001)  # the other one is in its loop
            with no_switches():
                inside[0] = True
                call()
                inside[0] = False
            if seen[0]:
                break
    finally:
        stop[0] = True
        looker.join()
    return seen[0]


Z = np.zeros((100_000, 30), np.float32)
CODES, BITS = np.zeros((100_000, 30), np.uint8), np.full(30, 3, np.uint8)
TOP, PACKED, SMALL = kernels.encode_top_k(Z, 2), kernels.pack_bits(CODES, BITS), Z[:100]
LARGE_CALLS: dict[str, Callable[[], object]] = {
    "distill_loss": lambda: kernels.distill_loss(Z, Z, np.zeros(len(Z), np.int64), kl_weight=1.0),
    "aggregate_logits": lambda: kernels.aggregate_logits([Z, Z], method="median"),
    "confidence": lambda: kernels.confidence(Z),
    "encode_top_k": lambda: kernels.encode_top_k(Z, 2),
    "decode_top_k": lambda: kernels.decode_top_k(TOP),
    "pack_bits": lambda: kernels.pack_bits(CODES, BITS),
    "unpack_bits": lambda: kernels.unpack_bits(PACKED, BITS),
    "quantise_logits": lambda: kernels.quantise_logits(Z),
    "encode_affine": lambda: kernels.encode_affine(Z, Z[0], np.ones(30, np.float32)),
    "sgd_step": lambda: kernels.sgd_step(Z.reshape(-1).copy(), Z.reshape(-1), learning_rate=0.1),
}
SMALL_CALLS: dict[str, Callable[[], object]] = {
    "distill_loss": lambda: kernels.distill_loss(SMALL, SMALL, np.zeros(100, np.int64), kl_weight=1.0),
    "aggregate_logits": lambda: kernels.aggregate_logits([SMALL, SMALL]),
    "pack_bits": lambda: kernels.pack_bits(CODES[:100], BITS),
}


@pytest.mark.parametrize("name", LARGE_CALLS)
def test_large_calls_release_the_interpreter(name: str) -> None:
    assert others_ran(LARGE_CALLS[name], tries=500)


@pytest.mark.parametrize("name", SMALL_CALLS)
def test_small_calls_keep_the_interpreter(name: str) -> None:
    assert not others_ran(SMALL_CALLS[name], tries=300)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use() -> None:
    expected = run(1)
    with multiprocessing.get_context("fork").Pool(2) as children:
        for got in children.map(run, [1, 1]):
            assert_same(got, expected)
    assert_same(run(1), expected)
