"""Threads from Python: in one call, many callers at once, and after fork."""

import ctypes
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
    with no_switches():  # before the other one waits: whoever waits already, waits by the interval of then
        looker.start()
        try:
            for _ in range(tries):
                time.sleep(0.0005)  # the other one is in its loop
                inside[0] = True
                call()
                inside[0] = False
                if seen[0]:
                    break
        finally:
            stop[0] = True
            looker.join()
    return seen[0]


@pytest.fixture(scope="module")
def calls() -> dict[str, Callable[[], object]]:
    """A large and a small call of every function, with all that it needs made before."""
    z = np.zeros((100_000, 30), np.float32)
    codes, bits, labels = np.zeros(z.shape, np.uint8), np.full(30, 3, np.uint8), np.zeros(len(z), np.int64)
    low, step, flat, moved = z[0], np.ones(30, np.float32), z.reshape(-1), z.reshape(-1).copy()
    half, quantised, top = kernels.to_f16(z), kernels.quantise_logits(z), kernels.encode_top_k(z, 2)
    packed = kernels.pack_bits(codes, bits)
    return {
        "distill_loss": lambda: kernels.distill_loss(z, z, labels, kl_weight=1.0),
        "aggregate_logits": lambda: kernels.aggregate_logits([z, z], method="median"),
        "confidence": lambda: kernels.confidence(z),
        "to_f16": lambda: kernels.to_f16(z),
        "from_f16": lambda: kernels.from_f16(half),
        "quantise_logits": lambda: kernels.quantise_logits(z),
        "dequantise_logits": lambda: kernels.dequantise_logits(quantised),
        "encode_top_k": lambda: kernels.encode_top_k(z, 2),
        "decode_top_k": lambda: kernels.decode_top_k(top),
        "encode_affine": lambda: kernels.encode_affine(z, low, step),
        "decode_affine": lambda: kernels.decode_affine(codes, low, step),
        "pack_bits": lambda: kernels.pack_bits(codes, bits),
        "unpack_bits": lambda: kernels.unpack_bits(packed, bits),
        "sgd_step": lambda: kernels.sgd_step(moved, flat, learning_rate=0.1),
        "small distill_loss": lambda: kernels.distill_loss(z[:100], z[:100], labels[:100], kl_weight=1.0),
        "small aggregate_logits": lambda: kernels.aggregate_logits([z[:100], z[:100]]),
        "small pack_bits": lambda: kernels.pack_bits(codes[:100], bits),
    }


NAMES = (
    *("distill_loss", "aggregate_logits", "confidence", "to_f16", "from_f16", "quantise_logits", "dequantise_logits"),
    *("encode_top_k", "decode_top_k", "encode_affine", "decode_affine", "pack_bits", "unpack_bits", "sgd_step"),
)


@pytest.mark.parametrize("name", NAMES)
def test_large_calls_release_the_interpreter(calls: dict[str, Callable[[], object]], name: str) -> None:
    assert others_ran(calls[name], tries=2000)


@pytest.mark.parametrize("name", ["small distill_loss", "small aggregate_logits", "small pack_bits"])
def test_small_calls_keep_the_interpreter(calls: dict[str, Callable[[], object]], name: str) -> None:
    assert not others_ran(calls[name], tries=300)


def test_a_call_that_keeps_the_interpreter_is_told_from_one_that_does_not() -> None:
    keeps, releases = ctypes.PyDLL(None).usleep, ctypes.CDLL(None).usleep
    assert not others_ran(lambda: keeps(7000), tries=20)
    assert others_ran(lambda: releases(7000), tries=20)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use() -> None:
    expected = run(1)
    with multiprocessing.get_context("fork").Pool(2) as children:
        for got in children.map(run, [1, 1]):
            assert_same(got, expected)
    assert_same(run(1), expected)
