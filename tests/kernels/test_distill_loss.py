"""The distillation loss on every instruction set against the float64 reference."""

import itertools
from typing import Any

import numpy as np
import pytest
from shapes import CLASSES, ROWS

from fedagg_edge import kernels, reference

DIRECTIONS = ("teacher||student", "student||teacher")
TEMPERATURES = ((3.0, 3.0), (1.0, 3.0), (1.0, 1.0), (0.5, 2.0))


def batch(rng: np.random.Generator, n: int, c: int, scale: float = 3.0) -> tuple[Any, Any, Any]:
    student = (scale * rng.normal(size=(n, c))).astype(np.float32)
    teacher = (scale * rng.normal(size=(n, c))).astype(np.float32)
    return student, teacher, rng.integers(0, c, n)


def compare(result: kernels.DistillLoss, expected: tuple[Any, ...], *, rows: int, tolerance: float) -> None:
    loss, ce, kl, gradient = expected
    assert result.ce == pytest.approx(ce, rel=1e-7, abs=1e-7)
    assert result.kl == pytest.approx(kl, rel=1e-6, abs=1e-6)
    assert result.loss == pytest.approx(loss, rel=1e-6, abs=4e-6)
    assert rows * np.abs(result.gradient_NC - gradient).max(initial=0) <= tolerance


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("c", CLASSES)
def test_matches_reference(isa: str, rng: np.random.Generator, c: int, direction: str) -> None:
    for n, (t_s, t_t) in itertools.product(ROWS, TEMPERATURES):
        s, t, y = batch(rng, n, c)
        options = {"kl_weight": 2.0, "temperature": t_s, "teacher_temperature": t_t, "direction": direction}
        expected = reference.distill_loss(s, t, y, **options)
        # the reverse gradient holds differences of logarithms that grow with 1 / T
        tolerance = 5e-7 * max(1, 2 / t_s) if direction == "teacher||student" else 2e-5 / t_s
        compare(kernels.distill_loss(s, t, y, **options), expected, rows=n, tolerance=tolerance)


@pytest.mark.parametrize("c", [1, 10, 48, 49, 1000])
def test_parts_alone(isa: str, rng: np.random.Generator, c: int) -> None:
    s, t, y = batch(rng, 19, c)
    compare(kernels.distill_loss(s, None, y), reference.distill_loss(s, None, y), rows=19, tolerance=5e-7)
    only_kl = kernels.distill_loss(s, t, ce_weight=0, kl_weight=1)
    compare(only_kl, reference.distill_loss(s, t, ce_weight=0, kl_weight=1), rows=19, tolerance=5e-7)
    assert kernels.distill_loss(s, None, y).kl == 0
    assert only_kl.ce == 0


@pytest.mark.parametrize("c", [3, 10, 48, 49, 130])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_teachers_are_read_in_place(isa: str, rng: np.random.Generator, c: int, direction: str) -> None:
    s, t, y = batch(rng, 21, c)
    half, quantised = kernels.to_f16(t), kernels.quantise_logits(t)
    for teacher, wide in ((half, half.astype(np.float32)), (quantised, kernels.dequantise_logits(quantised))):
        got = kernels.distill_loss(s, teacher, y, kl_weight=3.0, direction=direction)
        same = kernels.distill_loss(s, wide, y, kl_weight=3.0, direction=direction)
        np.testing.assert_array_equal(got.gradient_NC, same.gradient_NC)
        assert got[:3] == same[:3]


@pytest.mark.parametrize("c", [2, 10, 49, 300])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mask_and_row_weights(isa: str, rng: np.random.Generator, c: int, direction: str) -> None:
    for n in ROWS:
        s, t, y = batch(rng, n, c)
        mask = rng.random(n) < 0.6
        weights = rng.random(n).astype(np.float32)
        for kept in (mask, np.ones(n, bool), np.zeros(n, bool)):
            expected = reference.distill_loss(s, t, y, kl_weight=2.0, direction=direction, weights_N=weights * kept)
            got = kernels.distill_loss(s, t, y, kl_weight=2.0, direction=direction, mask_N=kept, row_weights_N=weights)
            compare(got, expected, rows=n, tolerance=2e-5)
            assert (got.gradient_NC[~kept] == 0).all()


@pytest.mark.parametrize("c", [2, 10, 49])
def test_masked_rows_may_hold_anything(isa: str, rng: np.random.Generator, c: int) -> None:
    s, t, y = batch(rng, 20, c)
    mask = np.arange(20) % 3 != 0
    clean = kernels.distill_loss(s, t, y, kl_weight=2.0, mask_N=mask)
    s[~mask], t[~mask], y[~mask] = np.nan, np.inf, -100
    dirty = kernels.distill_loss(s, t, y, kl_weight=2.0, mask_N=mask)
    assert dirty[:3] == clean[:3]
    np.testing.assert_array_equal(dirty.gradient_NC, clean.gradient_NC)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("c", [1, 2, 5, 10, 16, 48, 49, 64, 100, 1030])
def test_nan_anywhere_makes_its_row_nan(isa: str, rng: np.random.Generator, c: int, direction: str) -> None:
    n = 18
    for at in sorted({0, 1, c // 2, c - 2, c - 1} & set(range(c))):
        for row in (0, 9, 17):
            for victim in (0, 1):
                arrays = batch(rng, n, c)
                arrays[victim][row, at] = np.nan
                got = kernels.distill_loss(*arrays, kl_weight=1.0, direction=direction)
                assert np.isnan(got.loss)
                assert np.isnan(got.kl)
                assert np.isnan(got.gradient_NC[row]).all()
                assert np.isfinite(np.delete(got.gradient_NC, row, axis=0)).all()


@pytest.mark.parametrize("c", [2, 10, 48, 49, 70])
def test_infinities(isa: str, rng: np.random.Generator, c: int) -> None:
    s, t, y = batch(rng, 5, c)
    y[:] = 0
    s[1, 1] = -np.inf  # an excluded class of the student that the teacher believes in: KL is infinite, CE is not
    got = kernels.distill_loss(s, t, y, kl_weight=1.0)
    assert got.kl == np.inf
    assert np.isfinite(got.ce)
    assert np.isfinite(got.gradient_NC).all()
    t[1, 1] = -np.inf  # excluded by both: 0 log 0 = 0 (torch gives NaN here)
    got, expected = kernels.distill_loss(s, t, y, kl_weight=1.0), None
    with np.errstate(invalid="ignore"):
        expected = reference.distill_loss(s, t, y, kl_weight=1.0)
    compare(got, expected, rows=5, tolerance=1e-6)
    y[1] = 1  # the label's own class excluded: CE is infinite
    assert kernels.distill_loss(s, None, y).ce == np.inf
    s[2, 0] = np.inf  # inf - inf
    assert np.isnan(kernels.distill_loss(s, None, y).gradient_NC[2]).all()
    s[3] = -np.inf
    assert np.isnan(kernels.distill_loss(s, None, y).gradient_NC[3]).all()


NAN, INF = np.nan, np.inf
# what torch.nn.functional says of the same row, and where this says another thing on purpose (docs/kernels.md): the
# student's and the teacher's value for class 1, the direction, torch's loss, this loss (None: a finite number)
INFINITIES: list[tuple[float | None, float | None, Any, float, float | None]] = [
    (INF, None, "teacher||student", NAN, NAN),
    (INF, None, "student||teacher", NAN, NAN),
    (None, INF, "teacher||student", NAN, NAN),
    (None, INF, "student||teacher", NAN, NAN),
    (-INF, None, "teacher||student", INF, INF),
    (-INF, None, "student||teacher", NAN, None),
    (None, -INF, "teacher||student", NAN, None),
    (None, -INF, "student||teacher", INF, INF),
    (-INF, -INF, "teacher||student", NAN, None),
    (-INF, -INF, "student||teacher", NAN, None),
]


@pytest.mark.parametrize("case", INFINITIES, ids=str)
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("c", [3, 20, 60])
def test_infinities_beside_torch(
    isa: str, rng: np.random.Generator, c: int, temperature: float, case: tuple[Any, ...]
) -> None:
    torch = pytest.importorskip("torch")
    student, teacher, direction, torchs, ours = case
    s, t, _ = batch(rng, 5, c)
    s[2, 1], t[2, 1] = (2 if x is None else x for x in (student, teacher))  # 2 has a probability at both temperatures
    row = torch.from_numpy(s[2:3] / np.float32(temperature)).log_softmax(1)
    other = torch.from_numpy(t[2:3] / np.float32(temperature)).log_softmax(1)
    pair = (row, other) if direction == "teacher||student" else (other, row)
    said = torch.nn.functional.kl_div(*pair, log_target=True, reduction="sum").item()
    np.testing.assert_equal(said, torchs)
    got = kernels.distill_loss(s, t, ce_weight=0, kl_weight=1.0, temperature=temperature, direction=direction)
    assert np.isfinite(np.delete(got.gradient_NC, 2, axis=0)).all()
    if ours is None:
        assert np.isfinite(got.loss)
        assert np.isfinite(got.gradient_NC).all()
        return
    np.testing.assert_equal(got.loss, ours)
    if np.isnan(ours) or direction == "student||teacher":
        assert np.isnan(got.gradient_NC[2]).all()
    else:
        assert np.isfinite(got.gradient_NC).all()


@pytest.mark.parametrize("c", [3, 20, 60])
def test_a_nan_reaches_classes_without_probability(isa: str, rng: np.random.Generator, c: int) -> None:
    for victim in (0, 1):
        arrays = batch(rng, 5, c)
        arrays[0][:, 0] += 1000  # all others have probability 0
        arrays[victim][2, c - 1] = np.nan
        got = kernels.distill_loss(*arrays[:2], ce_weight=0, kl_weight=1.0, direction="student||teacher")
        assert np.isnan(got.loss)
        assert np.isnan(got.gradient_NC[2]).all()


@pytest.mark.parametrize("direction", ["teacher||student", "student||teacher"])
@pytest.mark.parametrize("n", [1, 8, 9, 32])
@pytest.mark.parametrize("c", [4, 60, 200])
def test_a_probability_below_the_normal_numbers_is_none(isa: str, n: int, c: int, direction: Any) -> None:
    """Else 1e-40 times an infinite logarithm would be infinite on the instruction sets that have subnormals, alone."""
    for x in (-88.0, -95.0, -103.0):
        s, t = np.zeros((n, c), np.float32), np.zeros((n, c), np.float32)
        sure, excluded = (s, t) if direction == "student||teacher" else (t, s)
        sure[:, 1:], sure[:, 1] = -200, x
        excluded[:, 1] = -np.inf
        got = kernels.distill_loss(s, t, ce_weight=0, kl_weight=1.0, temperature=1.0, direction=direction)
        assert np.isfinite(got.loss)
        assert np.isfinite(got.gradient_NC).all()


def test_a_nan_shows_although_its_part_weighs_nothing(isa: str, rng: np.random.Generator) -> None:
    s, t, y = batch(rng, 5, 10)
    t[2, 3] = np.nan
    got = kernels.distill_loss(s, t, y, kl_weight=0)
    assert np.isnan(got.loss)
    assert np.isnan(got.gradient_NC[2]).all()


@pytest.mark.parametrize("size", [1e-45, 1e-39, 1e-30, 1e-17, 1e37])
def test_row_weights_of_any_size(isa: str, rng: np.random.Generator, size: float) -> None:
    s, t, y = batch(rng, 20, 10)
    weights = np.full(20, size, np.float32)
    weights[3] = 0
    got = kernels.distill_loss(s, t, y, kl_weight=9.0, row_weights_N=weights)
    expected = kernels.distill_loss(s, t, y, kl_weight=9.0, mask_N=weights > 0)
    assert got.loss == pytest.approx(expected.loss, rel=1e-6)
    np.testing.assert_allclose(got.gradient_NC, expected.gradient_NC, rtol=1e-5, atol=1e-9)


def test_a_row_of_hardly_any_weight_is_still_looked_at(isa: str, rng: np.random.Generator) -> None:
    s, t, y = batch(rng, 4, 10)
    weights = np.array([1e37, 1e-30, 1e37, 0], np.float32)
    y[1] = 99
    with pytest.raises(ValueError, match="labels_N: got 99 at row 1"):
        kernels.distill_loss(s, t, y, kl_weight=1.0, row_weights_N=weights)
    y[1], s[1, 0] = 0, np.nan
    got = kernels.distill_loss(s, t, y, kl_weight=1.0, row_weights_N=weights)
    assert np.isnan(got.loss)
    assert np.isnan(got.gradient_NC[1]).all()


@pytest.mark.parametrize("c", [1, 10, 60])
def test_no_rows_no_loss(isa: str, c: int) -> None:
    empty = np.empty((0, c), np.float32)
    got = kernels.distill_loss(empty, empty, np.empty(0, np.int64), kl_weight=1.0)
    assert got[:3] == (0.0, 0.0, 0.0)
    assert got.gradient_NC.shape == (0, c)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_class_is_certain(isa: str, direction: str) -> None:
    s = np.array([[3.0], [-1e4]], np.float32)
    got = kernels.distill_loss(s, -s, np.zeros(2, np.int64), kl_weight=1.0, direction=direction)
    assert got[:3] == (0.0, 0.0, 0.0)
    assert (got.gradient_NC == 0).all()


@pytest.mark.parametrize("c", [3, 10, 49, 1030])
@pytest.mark.parametrize("n", [1, 16, 35])
def test_out_may_be_the_student(isa: str, rng: np.random.Generator, n: int, c: int) -> None:
    s, t, y = batch(rng, n, c)
    apart = kernels.distill_loss(s, t, y, kl_weight=2.0)
    aliased = kernels.distill_loss(s, t, y, kl_weight=2.0, out=s)
    assert aliased.gradient_NC is s
    np.testing.assert_array_equal(s, apart.gradient_NC)


@pytest.mark.parametrize("offset", range(4))
def test_misaligned_starts_and_guards(isa: str, rng: np.random.Generator, offset: int) -> None:
    for n, c in ((9, 10), (17, 3), (5, 67)):
        s, t, y = batch(rng, n, c)
        expected = kernels.distill_loss(s, t, y, kl_weight=1.0).gradient_NC
        around = np.full(n * c + 40, 7.0, np.float32)
        out = around[16 + offset : 16 + offset + n * c].reshape(n, c)
        moved = [np.concatenate([np.zeros(offset, "f"), a.ravel()])[offset:].reshape(n, c) for a in (s, t)]
        kernels.distill_loss(*moved, y, kl_weight=1.0, out=out)
        np.testing.assert_array_equal(out, expected)
        out[:] = 7.0
        assert (around == 7.0).all(), "wrote outside of out"


@pytest.mark.parametrize("c", [10, 20, 67, 1500])
def test_results_larger_than_the_caches(isa: str, rng: np.random.Generator, c: int) -> None:
    n = 800_000 // c + 3  # beyond the size from which the gradient is written past the caches
    s, t, y = batch(rng, n, c)
    whole = kernels.distill_loss(s, t, y, kl_weight=1.0)
    half = n // 2
    parts = [kernels.distill_loss(s[i], t[i], y[i], kl_weight=1.0) for i in (slice(half), slice(half, n))]
    weights = (half, n - half)
    assert whole.loss == pytest.approx(sum(p.loss * w for p, w in zip(parts, weights, strict=True)) / n, rel=1e-9)
    joined = np.concatenate([p.gradient_NC * (w / n) for p, w in zip(parts, weights, strict=True)])
    np.testing.assert_allclose(whole.gradient_NC, joined, rtol=1e-5, atol=1e-9)
    kernels.distill_loss(s, t, y, kl_weight=1.0, out=s)
    np.testing.assert_array_equal(s, whole.gradient_NC)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("t_s", [0.05, 1.0, 3.0, 100.0])
def test_extreme_logits_and_temperatures(isa: str, rng: np.random.Generator, t_s: float, direction: str) -> None:
    for n, c, scale in itertools.product((1, 16), (2, 10, 100), (0.0, 1.0, 1e4)):
        s, t, y = batch(rng, n, c, scale)
        got = kernels.distill_loss(s, t, y, kl_weight=1.0, temperature=t_s, direction=direction)
        _, ce, kl, _ = reference.distill_loss(s, t, y, kl_weight=1.0, temperature=t_s, direction=direction)
        assert got.ce == pytest.approx(ce, rel=1e-7, abs=1e-7)
        assert got.kl == pytest.approx(kl, rel=1e-6, abs=1e-6)


def test_half_and_float_paths_agree_across_isas(rng: np.random.Generator) -> None:
    s, t, y = batch(rng, 40, 30)
    results = []
    for name in kernels.available_isas():
        with kernels.force_isa(name):
            results.append(kernels.distill_loss(s, t, y, kl_weight=9.0))
    for other in results[1:]:
        np.testing.assert_allclose(other.gradient_NC, results[0].gradient_NC, rtol=0, atol=2e-7)
        assert other.loss == pytest.approx(results[0].loss, rel=1e-6)
