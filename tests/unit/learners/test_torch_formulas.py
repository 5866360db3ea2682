"""The formulas in plain torch against the kernels, which they stand in for on other devices."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fedagg_edge import kernels  # noqa: E402
from fedagg_edge.learners import torch_formulas  # noqa: E402

DIRECTIONS = torch_formulas.DIRECTIONS
INF, NAN = torch.inf, torch.nan


def options(**changes: Any) -> torch_formulas.Options:
    defaults: dict[str, Any] = {
        "ce_weight": 0.7,
        "kl_weight": 9.0,
        "temperature": 3.0,
        "teacher_temperature": 2.0,
        "direction": "teacher||student",
    }
    return torch_formulas.Options(**defaults | changes)


def batch(n: int = 6, c: int = 10) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(3)
    s, t = (2 * torch.randn(n, c, generator=generator) for _ in range(2))
    return s, t, torch.randint(0, c, (n,), generator=generator)


def assert_the_kernel_says_so(s: Any, t: Any, y: Any, direction: str, **rows: Any) -> None:
    o = options(direction=direction)
    loss, gradient = torch_formulas.distill_loss(s, t, y, o, **rows)
    got = kernels.distill_loss(  # type: ignore[call-overload]
        s.contiguous().numpy(),
        t.numpy(),
        y.numpy(),
        ce_weight=o.ce_weight,
        kl_weight=o.kl_weight,
        temperature=o.temperature,
        teacher_temperature=o.teacher_temperature,
        direction=direction,
        **{name: x.numpy() for name, x in rows.items()},
    )
    torch.testing.assert_close(
        loss.double(), torch.tensor(got.loss, dtype=torch.float64), equal_nan=True, rtol=1e-5, atol=0
    )
    torch.testing.assert_close(gradient, torch.as_tensor(got.gradient_NC), equal_nan=True, rtol=1e-5, atol=1e-6)
    assert gradient.is_contiguous()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_distill_loss_is_the_kernels(direction: str) -> None:
    s, t, y = batch()
    assert_the_kernel_says_so(s, t, y, direction)
    assert_the_kernel_says_so(s.T.contiguous().T, t, y, direction)  # other strides: the gradient has its own


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_masks_and_row_weights(direction: str) -> None:
    s, t, y = batch()
    mask = torch.tensor([True, False, True, True, False, True])
    s[1], t[4], y[4] = NAN, INF, -100
    assert_the_kernel_says_so(s, t, y, direction, mask_N=mask, row_weights_N=torch.rand(6))
    assert_the_kernel_says_so(s, t, y, direction, mask_N=torch.zeros(6, dtype=torch.bool))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("student", "teacher"),
    [(-INF, 1.0), (-INF, -INF), (1.0, -INF), (NAN, 1.0), (1.0, NAN)],
    ids=["student", "both", "teacher", "nan student", "nan teacher"],
)
def test_classes_that_are_excluded(direction: str, student: float, teacher: float) -> None:
    s, t, y = batch()
    s[1, 1], t[1, 1], y[1] = student, teacher, 0
    assert_the_kernel_says_so(s, t, y, direction)


def test_an_unused_part_may_be_infinite() -> None:
    s, t, y = batch()
    s[0, 1], y[0] = -INF, 0
    loss, _ = torch_formulas.distill_loss(s, t, y, options(kl_weight=0.0))
    assert torch.isfinite(loss)
    t[0, 0] = NAN
    loss, gradient = torch_formulas.distill_loss(s, t, y, options(kl_weight=0.0))
    assert torch.isnan(loss)
    assert torch.isnan(gradient[0]).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("teacher", [NAN, INF])
def test_a_teacher_that_is_not_finite_beside_a_student_of_probability_0(direction: str, teacher: float) -> None:
    s, t, y = batch()
    s[1, 1:], t[1, 0], y[1] = -INF, teacher, 0  # q is 0 for all the other classes of the row
    assert_the_kernel_says_so(s, t, y, direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("low", [-86.0, -90.0, -103.0, -744.0, -750.0])
def test_subnormal_probabilities_are_the_kernels(direction: str, dtype: Any, low: float) -> None:
    s, t, y = (x if x.dtype == torch.int64 else x.to(dtype) for x in batch())
    s, t = s.clamp(-3, 3), t.clamp(-3, 3)
    one, other = (s, t) if direction == "student||teacher" else (t, s)
    temperature = 3.0 if one is s else 2.0
    # one class is that improbable in the one distribution and excluded in the other: infinite or nothing
    one[2, 0], one[2, 1], other[2, 1], y[2] = 0.0, low * temperature, -INF, 0
    one[2, 2:] = -1.0
    with kernels.force_isa("scalar"):  # tests/kernels compares the others with it
        assert_the_kernel_says_so(s, t, y, direction)


@pytest.mark.parametrize("scale", [3e38, 1e-30, 1e-38])
def test_row_weights_of_any_size(scale: float) -> None:
    s, t, y = batch()
    weights = torch.tensor([1.0, 0.5, 0.0, 1.0, 1.0, 0.25]) * scale
    for direction in DIRECTIONS:
        assert_the_kernel_says_so(s, t, y, direction, row_weights_N=weights)
        assert_the_kernel_says_so(s.double(), t.double(), y, direction, row_weights_N=weights)


def test_a_row_of_little_weight_counts() -> None:
    s, t, y = batch()
    s[0, 1], y[0] = -INF, 1
    weights = torch.ones(6) * 1e30
    weights[0] = 1e-30
    loss, _ = torch_formulas.distill_loss(s, t, y, options(), row_weights_N=weights)
    assert loss == INF


@pytest.mark.parametrize("weight", [NAN, INF, -1.0, -100.0])
def test_a_row_weight_that_the_kernel_refuses_makes_the_loss_nan(weight: float) -> None:
    s, t, y = batch()
    weights = torch.ones(6)
    weights[3] = weight
    loss, _ = torch_formulas.distill_loss(s, t, y, options(), row_weights_N=weights)
    assert torch.isnan(loss)
    loss, _ = torch_formulas.distill_loss(s, t, y, options(), row_weights_N=weights, mask_N=torch.arange(6) != 3)
    assert torch.isfinite(loss)


def test_a_small_temperature_overflows_nothing() -> None:
    s, t, y = batch()
    s[1, 2], t[1, 2] = 1e38, 1e38
    loss, gradient = torch_formulas.distill_loss(s, t, y, options(ce_weight=0.0, temperature=0.05))
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_no_rows() -> None:
    s, t, y = batch(0)
    loss, gradient = torch_formulas.distill_loss(s, t, y, options(), row_weights_N=torch.ones(0))
    assert (loss.item(), gradient.shape) == (0, (0, 10))


@pytest.mark.parametrize("label", [-100, -1, 10])
def test_a_label_beyond_the_classes(label: int) -> None:
    s, t, y = batch()
    y[1] = label
    with pytest.raises(RuntimeError, match=f"index {label} is out of bounds"):
        torch_formulas.distill_loss(s, t, y, options())


REFUSED: list[tuple[str, type[Exception], dict[str, Any]]] = [
    ("student_NC: got shape .6., expected", ValueError, {"s": torch.zeros(6)}),
    ("teacher_NC: got shape .1, 10., expected .6, 10.", ValueError, {"t": torch.zeros(1, 10)}),
    ("labels_N: got torch.int32, expected torch.int64", TypeError, {"y": torch.zeros(6, dtype=torch.int32)}),
    ("labels_N: got shape .5.", ValueError, {"y": torch.zeros(5, dtype=torch.int64)}),
    ("labels_N: got none", ValueError, {"y": None}),
    ("teacher_NC: got none", ValueError, {"t": None}),
    ("mask_N: got torch.uint8, expected torch.bool", TypeError, {"mask_N": torch.zeros(6, dtype=torch.uint8)}),
    ("row_weights_N: got shape .3.", ValueError, {"row_weights_N": torch.zeros(3)}),
]


@pytest.mark.parametrize(("words", "error", "changes"), REFUSED)
def test_refusals(words: str, error: type[Exception], changes: dict[str, Any]) -> None:
    s, t, y = batch()
    given = {"s": s, "t": t, "y": y} | changes
    with pytest.raises(error, match=words):
        torch_formulas.distill_loss(given.pop("s"), given.pop("t"), given.pop("y"), options(), **given)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("direction: got 'forward', expected 'teacher", {"direction": "forward"}),
        ("temperature: got -3, expected a number from 1e-06", {"temperature": -3.0}),
        ("teacher_temperature: got nan", {"teacher_temperature": NAN}),
        ("kl_weight: got -1", {"kl_weight": -1.0}),
    ],
)
def test_refused_options(words: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=words):
        options(**changes)


def test_neither_part() -> None:
    with pytest.raises(ValueError, match="got neither"):
        torch_formulas.distill_loss(torch.zeros(2, 2), None, None, options(ce_weight=0.0, kl_weight=0.0))


def assert_the_kernel_aggregates_so(got: Any, teachers: Any, method: str, trim: float = 0.25, **used: Any) -> None:
    expected = kernels.aggregate_logits(
        [teacher.numpy() for teacher in teachers],
        method=method,  # type: ignore[arg-type]
        trim=trim,
        **{name: x.numpy() for name, x in used.items()},
    )
    torch.testing.assert_close(got, torch.from_numpy(expected), equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", torch_formulas.METHODS)
@pytest.mark.parametrize("count", [1, 4, 5])
def test_aggregate_is_the_kernels(method: str, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    teachers = [3 * torch.randn(9, 6, generator=generator) for _ in range(count)]
    teachers[0] = teachers[0].half()
    mask = torch.rand(count, 9, generator=generator) < 0.7
    mask[0] = True
    parts: dict[str, Any] = {
        "weights_K": torch.rand(count, generator=generator) + 0.1,
        "sample_weights_KN": torch.rand(count, 9, generator=generator) + 0.1,
        "mask_KN": mask,
    }
    if count > 1:
        mask[1, 2] = False
        teachers[1][2] = NAN  # who takes no part may hold anything
        teachers[1][3, 1], mask[1, 3] = NAN, True
        teachers[1][4, 1], mask[1, 4] = INF, True
    for used in ({}, parts, {"mask_KN": mask}):
        got = torch_formulas.aggregate_logits(teachers, method, trim=0.3, **used)
        assert got.dtype == torch.float32
        assert_the_kernel_aggregates_so(got, teachers, method, trim=0.3, **used)


@pytest.mark.parametrize(
    ("words", "error", "teachers", "changes"),
    [
        ("teachers: got none", ValueError, [], {}),
        (r"teachers\[1\]: got shape .2, 3., expected .4, 3.", ValueError, [torch.zeros(4, 3), torch.zeros(2, 3)], {}),
        (r"teachers\[0\]: got shape .4., expected .N, C.", ValueError, [torch.zeros(4)], {}),
        ("method: got 'sum'", ValueError, [torch.zeros(4, 3)], {"method": "sum"}),
        ("trim: got 0.5", ValueError, [torch.zeros(4, 3)], {"trim": 0.5}),
        ("weights_K: got shape .2.", ValueError, [torch.zeros(4, 3)], {"weights_K": torch.ones(2)}),
        ("mask_KN: got torch.uint8", TypeError, [torch.zeros(4, 3)], {"mask_KN": torch.ones(1, 4, dtype=torch.uint8)}),
    ],
)
def test_aggregate_refusals(words: str, error: type[Exception], teachers: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        torch_formulas.aggregate_logits(teachers, **{"method": "mean_logits"} | changes)


@pytest.mark.parametrize("method", torch_formulas.METHODS)
@pytest.mark.parametrize(
    ("weights", "sample_weights"),
    [
        ([3e38, 3e38, 3e38], None),
        ([1e-30, 2e-30, 1e-30], [1e-30, 1e-30, 3e-30]),
        ([3e38, 1e38, 2e38], [3e38, 3e38, 1e38]),
        ([1e30, 1e-30, 1e-30], [1e-30, 1e30, 3e30]),  # of one size when multiplied
        ([1e30, 1e-30, 3e-30], [0.0, 1e-30, 1e-30]),
        ([1e30, 1e-30, 1.0], None),  # the second is nothing beside the first
    ],
)
def test_aggregate_with_weights_of_any_size(method: str, weights: Any, sample_weights: Any) -> None:
    teachers = [torch.randn(4, 6, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    used = {"weights_K": torch.tensor(weights)}
    if sample_weights is not None:
        used["sample_weights_KN"] = torch.tensor(sample_weights)[:, None].repeat(1, 4)
    got = torch_formulas.aggregate_logits(teachers, method, **used)
    assert torch.isfinite(got).all()
    assert_the_kernel_aggregates_so(got, teachers, method, **used)


@pytest.mark.parametrize("method", torch_formulas.METHODS)
def test_a_sample_without_a_teacher_or_with_a_refused_weight_is_nan(method: str) -> None:
    teachers = [torch.randn(5, 6) for _ in range(3)]
    mask, weights = torch.ones(3, 5, dtype=torch.bool), torch.ones(3, 5)
    mask[:, 1] = False
    weights[0, 2], weights[1, 3], weights[2, 4] = NAN, -1.0, INF
    got = torch_formulas.aggregate_logits(teachers, method, mask_KN=mask, sample_weights_KN=weights)
    assert torch.isfinite(got[0]).all()
    assert torch.isnan(got[1:]).all()


def test_the_trim_is_the_kernels() -> None:
    teachers = [torch.randn(2, 3, generator=torch.Generator().manual_seed(k)) for k in range(100)]
    for trim in (0.29, 0.07, 0.14, 0.28, 0.33):
        got = torch_formulas.aggregate_logits(teachers, "trimmed_mean", trim=trim)
        assert_the_kernel_aggregates_so(got, teachers, "trimmed_mean", trim=trim)
