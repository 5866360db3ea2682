import threading

import numpy as np
import pytest
from autoencoder.making import make_artefact
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.bridge import open_bridge
from fedagg_edge.decode_cache import DecodeCache
from fedagg_edge.errors import DataError

SHAPE = (3, 8, 12)
PLAIN = open_bridge(make_artefact(SHAPE, 3))
CODES = np.random.default_rng(0).integers(0, 256, (60, PLAIN.embedding_bytes), np.uint8)


def test_it_is_the_bridge_otherwise():
    cache = DecodeCache(PLAIN, 1)
    raw_N = np.random.default_rng(1).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    x_N = np.random.default_rng(1).random((3, *SHAPE), np.float32)
    assert (cache.digest, cache.sample_shape, cache.embedding_bytes) == (PLAIN.digest, SHAPE, PLAIN.embedding_bytes)
    np.testing.assert_array_equal(cache.scale(raw_N), PLAIN.scale(raw_N))
    np.testing.assert_array_equal(cache.encode(x_N), PLAIN.encode(x_N))


@given(st.lists(st.lists(st.integers(0, 59), max_size=70), min_size=1, max_size=4))
def test_samples_are_the_bridges_and_the_same_bits_whoever_asks_first(questions):
    cache, other = DecodeCache(PLAIN, 1), DecodeCache(PLAIN, 1)
    expected_N = other.decode(CODES[::-1])[::-1]
    for rows in questions:
        got_N = cache.decode(CODES[rows])
        assert got_N.dtype == np.float32
        np.testing.assert_allclose(got_N, PLAIN.decode(CODES[rows]), rtol=0, atol=1e-6)
        np.testing.assert_array_equal(got_N, expected_N[rows])


def test_what_has_no_room_is_decoded_again():
    cache = DecodeCache(PLAIN, 1)
    room = (1 << 20) // (4 * int(np.prod(SHAPE)))
    many = np.random.default_rng(2).integers(0, 256, (room + 40, PLAIN.embedding_bytes), np.uint8)
    first_N, again_N = cache.decode(many), cache.decode(many)
    np.testing.assert_array_equal(first_N, again_N)
    np.testing.assert_allclose(first_N, PLAIN.decode(many), rtol=0, atol=1e-6)


def test_nothing_is_decoded_twice_and_the_answer_is_the_callers(monkeypatch):
    asked = []
    decode = PLAIN.decode
    monkeypatch.setattr(PLAIN, "decode", lambda code_NB: asked.append(len(code_NB)) or decode(code_NB))
    cache = DecodeCache(PLAIN, 1)
    first_N = cache.decode(CODES[:40])
    kept_N = first_N.copy()
    first_N[:] = 7
    np.testing.assert_array_equal(cache.decode(CODES[:40]), kept_N)
    assert sum(asked) == 64  # two times 32 rows


def test_several_threads():
    cache, single = DecodeCache(PLAIN, 1), DecodeCache(PLAIN, 1)
    orders = [np.random.default_rng(seed).permutation(len(CODES)) for seed in range(8)]
    got = [None] * 8
    threads = [
        threading.Thread(target=lambda i=i: got.__setitem__(i, cache.decode(CODES[orders[i]]))) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for order, got_N in zip(orders, got, strict=True):
        np.testing.assert_array_equal(got_N, single.decode(CODES[order]))


@pytest.mark.parametrize("code_NB", [CODES[:, :-1], CODES.astype(np.int64), CODES[0]])
def test_other_codes_are_refused(code_NB):
    with pytest.raises(DataError, match="decode: got"):
        DecodeCache(PLAIN, 1).decode(code_NB)


def test_no_codes_are_no_samples():
    assert DecodeCache(PLAIN, 1).decode(CODES[:0]).shape == (0, *SHAPE)
