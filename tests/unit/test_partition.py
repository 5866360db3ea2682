from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.datasets import Dataset
from fedagg_edge.errors import ConfigError, DataError
from fedagg_edge.partition import partition


def dataset(n: int = 200, classes: int = 5, group_N: Any = None, seed: int = 0) -> Dataset:
    y = np.random.default_rng(seed).integers(0, classes, n)
    x = np.zeros((n, 1, 2), np.float32)
    return Dataset(name="d", classes=classes, train_x=x, train_y=y, test_x=x[:1], test_y=y[:1], group_N=group_N)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_divides(parts: list[np.ndarray], devices: int, n: int) -> None:
    assert len(parts) == devices
    for part in parts:
        assert part.dtype == np.int64
        assert len(part) > 0
        assert (np.diff(part) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))


@given(
    n=st.integers(60, 300),
    classes=st.integers(2, 10),
    devices=st.integers(1, 8),
    alpha=st.sampled_from([0.3, 1.0, 3.0, 100.0]),
    seed=st.integers(0, 2**32),
)
def test_dirichlet_gives_every_row_to_exactly_one_device(
    n: int, classes: int, devices: int, alpha: float, seed: int
) -> None:
    data = dataset(n, classes, seed=seed)
    parts = partition(data, "dirichlet", devices, rng(seed), alpha=alpha, min_samples=2)
    assert_divides(parts, devices, n)
    assert min(map(len, parts)) >= 2


@given(n=st.integers(5, 100), devices=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_iid_gives_every_row_to_one_device_and_even_sizes(n: int, devices: int, seed: int) -> None:
    parts = partition(dataset(n), "iid", devices, rng(seed))
    assert_divides(parts, devices, n)
    assert np.ptp([len(p) for p in parts]) <= 1


@given(groups=st.integers(1, 12), data=st.data(), text=st.booleans(), seed=st.integers(0, 2**32))
def test_a_group_is_never_divided(groups: int, data: st.DataObject, text: bool, seed: int) -> None:
    devices = data.draw(st.integers(1, groups))
    label_N = np.arange(60) % groups
    group_N = np.array([f"person {g}" for g in label_N]) if text else label_N
    parts = partition(dataset(60, group_N=group_N), "group", devices, rng(seed))
    assert_divides(parts, devices, 60)
    held = [set(group_N[p].tolist()) for p in parts]
    assert sum(map(len, held)) == groups
    assert max(map(len, held)) - min(map(len, held)) <= 1
    if devices == groups:
        assert [h.pop() for h in held] == sorted(set(group_N.tolist()))


def class_entropy(parts: list[np.ndarray], y: np.ndarray) -> float:
    shares = [np.bincount(y[p], minlength=5) / len(p) for p in parts]
    return float(np.mean([-(s[s > 0] * np.log(s[s > 0])).sum() for s in shares]))


@pytest.mark.parametrize("level", [True, False])
def test_a_smaller_alpha_gives_a_device_fewer_classes(level: bool) -> None:
    data = dataset(2000)
    low, high = (
        class_entropy(partition(data, "dirichlet", 10, rng(), alpha=a, min_samples=1, level=level), data.train_y)
        for a in (0.1, 100.0)
    )
    assert low < 1.0
    assert 1.5 < high <= np.log(5)


def test_level_keeps_sizes_comparable() -> None:
    def spread(level: bool) -> float:
        draws = [partition(dataset(2000), "dirichlet", 10, rng(s), alpha=0.3, level=level) for s in range(20)]
        return float(np.mean([np.std([len(part) for part in parts]) for parts in draws]))

    assert spread(True) < 0.9 * spread(False)


def test_a_class_without_samples_and_a_tiny_alpha_are_fine() -> None:
    y = np.array([0, 2] * 20)
    x = np.zeros((40, 1, 2), np.float32)
    data = Dataset(name="d", classes=3, train_x=x, train_y=y, test_x=x[:1], test_y=y[:1])
    assert_divides(partition(data, "dirichlet", 2, rng(), alpha=1e-4, min_samples=1), 2, 40)


@pytest.mark.parametrize("rule", ["dirichlet", "iid"])
def test_the_same_seed_divides_alike(rule: str) -> None:
    one, two, other = (partition(dataset(), rule, 4, rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("rule", "devices", "arguments", "error", "message"),
    [
        ("dirichlet", 0, {}, DataError, "got 0 devices, expected 1 to 200"),
        ("iid", 201, {}, DataError, "got 201 devices, expected 1 to 200"),
        ("dirichlet", 30, {}, DataError, "each of 30 devices 10 of 200 samples at alpha 1.0; use fewer devices"),
        ("dirichlet", 19, {"alpha": 0.01}, DataError, "no draw in .* at alpha 0.01; use fewer devices, a larger"),
        ("dirichlet", 2, {"alpha": 0}, ConfigError, "got alpha 0, expected a number above 0"),
        ("dirichlet", 2, {"alpha": "much"}, ConfigError, "check the values of its arguments"),
        ("dirichlet", 2, {"min_samples": 0}, ConfigError, "got min_samples 0"),
        ("dirichlet", 2, {"aplha": 1}, ConfigError, r"unknown argument 'aplha' \(did you mean 'alpha'\?\)"),
        ("diriclet", 2, {}, ConfigError, r"got rule 'diriclet' \(did you mean 'dirichlet'\?\)"),
        ("group", 2, {}, DataError, "data set d has no groups"),
    ],
)
def test_errors(rule: str, devices: int, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        partition(dataset(), rule, devices, rng(), **arguments)


def test_more_devices_than_groups_is_an_error() -> None:
    with pytest.raises(DataError, match=r"got 5 devices for 4 groups, .*; use 4 devices, or 'dirichlet'"):
        partition(dataset(group_N=np.arange(200) % 4), "group", 5, rng())


RULES = """
import numpy as np
def halves(dataset, devices, rng, **kwargs):
    return np.array_split(np.arange(len(dataset.train_x))[::-1], devices)
def overlapping(dataset, devices, rng):
    return [np.arange(200)] * devices
def short(dataset, devices, rng):
    return [np.arange(100), np.arange(100, 199)]
def too_few(dataset, devices, rng):
    return [np.arange(200)]
def empty(dataset, devices, rng):
    return [np.arange(200), np.arange(0)]
def outside(dataset, devices, rng):
    return [np.arange(100), np.arange(100, 201)]
def fractional(dataset, devices, rng):
    return [np.arange(100.0), np.arange(100.0, 200.0)]
def nothing(dataset, devices, rng):
    return None
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "own_rules.py").write_text(RULES)
    return tmp_path


def test_a_users_own_rule(rules: Path) -> None:
    parts = partition(dataset(), "own_rules:halves", 3, rng(), base_dir=rules, anything=1)
    assert_divides(parts, 3, 200)


def test_a_rule_given_from_python() -> None:
    def thirds(dataset: Dataset, devices: int, rng: np.random.Generator, **kwargs: Any) -> list[np.ndarray]:
        return np.array_split(np.arange(len(dataset.train_x)), kwargs["parts"])

    assert_divides(partition(dataset(), thirds, 3, rng(), parts=3), 3, 200)
    with pytest.raises(DataError, match="partition 'thirds': got 3 parts, expected a list of 2 arrays"):
        partition(dataset(), thirds, 2, rng(), parts=3)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("overlapping", "row 0 is on 2 devices, expected every row on exactly one"),
        ("short", "row 199 is on 0 devices"),
        ("too_few", "got 1 parts, expected a list of 2 arrays"),
        ("empty", r"device 1: got int64 \(0,\), expected one or more whole row numbers"),
        ("outside", r"device 1: got rows 100..200, expected 0..199"),
        ("fractional", r"device 0: got float64 \(100,\)"),
        ("nothing", "got NoneType, expected a list of 2 arrays"),
    ],
)
def test_a_users_rule_is_checked(rules: Path, rule: str, message: str) -> None:
    with pytest.raises(DataError, match=f"partition 'own_rules:{rule}': {message}"):
        partition(dataset(), f"own_rules:{rule}", 2, rng(), base_dir=rules)
