"""Codecs on every instruction set against NumPy and the float64 reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapes import CLASSES

from fedagg_edge import kernels, reference


def test_every_half_widens_exactly(isa: str) -> None:
    every = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16).reshape(-1, 16)
    with np.errstate(invalid="ignore"):
        expected = every.astype(np.float32)
    np.testing.assert_array_equal(kernels.from_f16(every), expected)


def test_narrowing_rounds_half_to_even(isa: str, rng: np.random.Generator) -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middle = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate([halves, middle, np.nextafter(middle, 0), np.nextafter(middle, 1e9), [65519, 65520, 1e9]])
    x = np.concatenate([x, -x, rng.normal(size=1001), [np.inf, -np.inf, np.nan, 1e-45, 1e-39]]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    got = kernels.to_f16(x[None])[0]
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got[:-3]), np.signbit(expected[:-3]))


@pytest.mark.parametrize("c", CLASSES)
def test_quantise(isa: str, rng: np.random.Generator, c: int) -> None:
    x = (rng.normal(size=(23, c)) * 10.0 ** rng.integers(-6, 6, size=(23, 1))).astype(np.float32)
    x[3] = 0
    got = kernels.quantise_logits(x)
    values, scale = reference.quantise_logits(x)
    np.testing.assert_allclose(got.scale_N, scale, rtol=2e-7)
    assert np.abs(got.values_NC.astype(int) - values).max() <= 1  # a tie may fall either way in float
    back = kernels.dequantise_logits(got)
    np.testing.assert_array_equal(back, got.values_NC * got.scale_N[:, None])
    assert (np.abs(back - x) <= 0.5001 * got.scale_N[:, None]).all()


@pytest.mark.parametrize("c", [1, 10, 17, 50])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_quantise_of_a_row_that_is_not_finite(isa: str, rng: np.random.Generator, c: int, bad: float) -> None:
    x = rng.normal(size=(5, c)).astype(np.float32)
    x[2, c - 1] = bad
    got = kernels.quantise_logits(x)
    assert (got.values_NC[2] == 0).all()
    back = kernels.dequantise_logits(got)
    assert np.isnan(back[2]).all()
    assert np.isfinite(np.delete(back, 2, axis=0)).all()


def test_quantise_extremes(isa: str) -> None:
    x = np.array([[3.4e38, -3.4e38, 0], [1e-45, -1e-45, 0], [1e-38, -1e-38, 0]], np.float32)
    got = kernels.quantise_logits(x)
    np.testing.assert_array_equal(got.values_NC[0], [127, -127, 0])
    assert np.abs(kernels.dequantise_logits(got) - x)[1:].max() < 2e-38
    largest = np.array([[np.finfo(np.float32).max, 0]], np.float32)  # 127 * scale must not round to infinity
    back = kernels.dequantise_logits(kernels.quantise_logits(largest))
    assert back[0, 0] == pytest.approx(largest[0, 0], rel=1e-6)


@pytest.mark.parametrize("d", CLASSES)
def test_affine(isa: str, rng: np.random.Generator, d: int) -> None:
    low = rng.normal(size=d).astype(np.float32)
    step = (rng.random(d) + 0.01).astype(np.float32)
    x = (low + step * rng.uniform(-20, 275, size=(11, d))).astype(np.float32)
    codes = kernels.encode_affine(x, low, step)
    assert np.abs(codes.astype(int) - reference.encode_affine(x, low, step)).max() <= 1
    np.testing.assert_allclose(
        kernels.decode_affine(codes, low, step), reference.decode_affine(codes, low, step), rtol=1e-5, atol=1e-5
    )
    inside = np.clip(x, low, low + 255 * step)
    assert (np.abs(kernels.decode_affine(codes, low, step) - inside) <= 0.501 * step + 1e-5).all()


def test_affine_rounds_half_to_even_and_clamps(isa: str) -> None:
    x = np.array([[-1e30, -0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 1e30]], np.float32)
    codes = kernels.encode_affine(x, np.zeros(8, np.float32), np.ones(8, np.float32))
    np.testing.assert_array_equal(codes, [[0, 0, 0, 2, 2, 254, 255, 255]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 8, 16, 18])
def test_affine_refuses_what_it_cannot_say(isa: str, bad: float, at: int) -> None:
    x = np.zeros((3, 19), np.float32)
    low, step = np.zeros(19, np.float32), np.ones(19, np.float32)
    x[1, at] = bad
    with pytest.raises(ValueError, match="x_ND: got a NaN or an infinity"):
        kernels.encode_affine(x, low, step)
    step[at] = 0
    with pytest.raises(ValueError, match=f"step_D: got 0 at channel {at}"):
        kernels.encode_affine(np.zeros((3, 19), np.float32), low, step)


finite = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=80)
@given(x=arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 40)), elements=finite))
def test_codes_of_codes_are_the_same(x: np.ndarray) -> None:
    once = kernels.quantise_logits(x)
    twice = kernels.quantise_logits(kernels.dequantise_logits(once))
    np.testing.assert_array_equal(twice.values_NC, once.values_NC)
    half = kernels.to_f16(x)
    np.testing.assert_array_equal(kernels.to_f16(kernels.from_f16(half)), half)


def test_empty(isa: str) -> None:
    nothing = np.empty((0, 5), np.float32)
    assert kernels.to_f16(nothing).shape == (0, 5)
    assert kernels.dequantise_logits(kernels.quantise_logits(nothing)).shape == (0, 5)
    codes = kernels.encode_affine(nothing, np.zeros(5, np.float32), np.ones(5, np.float32))
    assert codes.shape == (0, 5)


@pytest.mark.parametrize(("c", "k"), [(1, 1), (5, 1), (10, 3), (10, 10), (1000, 8)])
def test_top_k(rng: np.random.Generator, c: int, k: int) -> None:
    x = rng.normal(size=(13, c)).astype(np.float32) * 3
    x[0] = 1  # ties: the lower class first
    kept = kernels.encode_top_k(x, k)
    classes, rest = reference.encode_top_k(x, k)
    np.testing.assert_array_equal(kept.classes_NK, classes)
    np.testing.assert_array_equal(kept.values_NK, np.take_along_axis(x, classes, axis=1))
    np.testing.assert_allclose(kept.rest_N, rest, rtol=1e-6, atol=1e-6)
    back = kernels.decode_top_k(kept)
    for name in ("classes_NK", "values_NK", "rest_N"):
        assert len(getattr(kept, name)) == 13
    same = np.take_along_axis(reference.log_softmax(back), classes, axis=1)
    np.testing.assert_allclose(same, np.take_along_axis(reference.log_softmax(x), classes, axis=1), atol=2e-6)


def test_top_k_of_what_is_not_finite() -> None:
    x = np.array([[1, np.nan, 0], [np.inf, 1, 0], [0, -np.inf, -np.inf], [np.inf, np.inf, 0]], np.float32)
    back = kernels.decode_top_k(kernels.encode_top_k(x, 1))
    assert np.isnan(back[0]).all()
    assert back[1, 0] == np.inf
    np.testing.assert_array_equal(back[2], x[2])
    assert (back[3] == np.inf).all()


def test_top_k_refusals() -> None:
    x = np.zeros((2, 3), np.float32)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k: got {k}, expected 1 to 3"):
            kernels.encode_top_k(x, k)
    kept = kernels.encode_top_k(x, 2)
    forged = kernels.TopKLogits(kept.classes_NK + np.uint16(2), kept.values_NK, kept.rest_N, 3)
    with pytest.raises(ValueError, match="classes_NK: got 3 at row 0, expected a class below 3"):
        kernels.decode_top_k(forged)


@settings(max_examples=80)
@given(data=st.data(), n=st.integers(0, 6), bits=st.lists(st.integers(0, 8), min_size=1, max_size=40))
def test_packed_bits(data: st.DataObject, n: int, bits: list[int]) -> None:
    bits_D = np.array(bits, np.uint8)
    seed = data.draw(st.integers(0, 2**31))
    codes = np.random.default_rng(seed).integers(0, 2 ** bits_D.astype(int), size=(n, len(bits))).astype(np.uint8)
    packed = kernels.pack_bits(codes, bits_D)
    assert packed.shape == (n, (sum(bits) + 7) // 8)
    np.testing.assert_array_equal(packed, reference.pack_bits(codes, bits_D))
    np.testing.assert_array_equal(kernels.unpack_bits(packed, bits_D), codes)


def test_fewer_bits_clamp_and_refuse(isa: str) -> None:
    x = np.array([[9.0, 9.0, -1.0]], np.float32)
    low, step, bits = np.zeros(3, np.float32), np.ones(3, np.float32), np.array([2, 4, 0], np.uint8)
    codes = kernels.encode_affine(x, low, step, bits)
    np.testing.assert_array_equal(codes, [[3, 9, 0]])
    np.testing.assert_array_equal(kernels.unpack_bits(kernels.pack_bits(codes, bits), bits), codes)
    with pytest.raises(ValueError, match="codes_ND: got 4 at row 0, channel 0, expected a code of 2 bits"):
        kernels.pack_bits(np.array([[4, 0, 0]], np.uint8), bits)
    with pytest.raises(ValueError, match="bits_D: got 9 at channel 1"):
        kernels.pack_bits(codes, np.array([2, 9, 0], np.uint8))
    with pytest.raises(ValueError, match=r"packed_NB: got shape .1, 2., expected 1 bytes"):
        kernels.unpack_bits(np.zeros((1, 2), np.uint8), bits)


def test_rows_without_anything(isa: str) -> None:
    nothing = np.empty((3, 0), np.float32)
    quantised = kernels.quantise_logits(nothing)
    np.testing.assert_array_equal(quantised.scale_N, np.zeros(3, np.float32))
    assert kernels.dequantise_logits(quantised).shape == (3, 0)
    no_channels = np.empty(0, np.float32)
    codes = kernels.encode_affine(nothing, no_channels, no_channels)
    assert codes.shape == (3, 0)
    assert kernels.decode_affine(codes, no_channels, no_channels).shape == (3, 0)
