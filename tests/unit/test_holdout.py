from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.errors import DataError
from fedagg_edge.holdout import HoldOut


def arrays(n: int = 40, groups: int | None = 5, text: bool = False) -> dict[str, Any]:
    """Sample i has the value i, so that rows can be told apart."""
    found: dict[str, Any] = {"x": np.arange(n, dtype=np.float32).reshape(n, 1, 1), "y": np.arange(n) % 2}
    if groups is not None:
        group_N = np.arange(n) % groups
        found["group"] = np.array([f"p{g}" for g in group_N]) if text else group_N
    return found


def split(data: dict[str, Any], seed: int = 0) -> HoldOut:
    return HoldOut("f.npz", data, np.random.default_rng(seed))


@given(
    n=st.integers(10, 60),
    groups=st.none() | st.integers(4, 10),
    test=st.floats(0.1, 0.4),
    public=st.floats(0.1, 0.3),
    seed=st.integers(0, 99),
)
def test_no_row_and_no_group_is_in_two_parts(n: int, groups: int | None, test: float, public: float, seed: int) -> None:
    s = split(arrays(n, groups), seed)
    s.hold_out("test", False, None, test, None)
    s.hold_out("public", False, None, public, None)
    parts = s.parts()
    rows = [set(parts[k].ravel().tolist()) for k in ("train_x", "test_x", "public_x")]
    assert sum(map(len, rows)) == len(set.union(*rows)) == n
    np.testing.assert_array_equal(parts["train_x"].ravel() % 2, parts["train_y"])
    np.testing.assert_array_equal(parts["test_x"].ravel() % 2, parts["test_y"])
    if groups is not None:
        people = [{row % groups for row in part} for part in rows]
        assert sum(map(len, people)) == len(set.union(*people))
        assert {float(g) for g in parts["group_N"]} == people[0]


def test_the_same_seed_holds_out_the_same_rows() -> None:
    def test_rows(seed: int) -> list[float]:
        s = split(arrays(groups=None), seed)
        s.hold_out("test", False, None, 0.25, None)
        rows: list[float] = s.parts()["test_x"].ravel().tolist()
        return rows

    assert test_rows(1) == test_rows(1) != test_rows(2)
    assert len(test_rows(1)) == 10


@pytest.mark.parametrize("text", [False, True])
def test_named_groups_are_held_out(text: bool) -> None:
    s = split(arrays(text=text))
    s.hold_out("test", False, ["p3"] if text else [3], None, 0.2)
    assert set(s.parts()["test_x"].ravel() % 5) == {3}


def test_given_parts_and_parts_nobody_asked_for_are_left_alone() -> None:
    data = arrays() | {"test_x": np.zeros((1, 1, 1)), "test_y": np.zeros(1, np.int64)}
    s = split(data)
    s.hold_out("test", True, None, None, 0.2)
    s.hold_out("public", False, None, None, None)
    assert len(s.parts()["train_x"]) == 40
    assert s.parts()["public_x"] is None


@pytest.mark.parametrize(
    ("groups", "fraction", "given", "message"),
    [
        ([9], None, False, r"test_groups: no samples of 9; there are 0, 1, 2, 3, 4"),
        ([0, 1, 2, 3, 4], None, False, "nothing is left to train on after the test data"),
        (None, 1.5, False, "test_fraction: got 1.5, expected a number between 0 and 1"),
        ([1], 0.2, False, "give one of test_x, test_groups and test_fraction"),
        (None, 0.2, True, "give one of test_x, test_groups and test_fraction"),
    ],
)
def test_errors(groups: Any, fraction: float | None, given: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(arrays()).hold_out("test", given, groups, fraction, None)


def test_groups_must_be_there_and_fit() -> None:
    with pytest.raises(DataError, match="test_groups needs group"):
        split(arrays(groups=None)).hold_out("test", False, [1], None, None)
    with pytest.raises(DataError, match=r"group: got float64 \(40,\), expected whole numbers or text \(40,\)"):
        split(arrays() | {"group": np.zeros(40)})


def test_a_group_cannot_be_held_out_twice() -> None:
    s = split(arrays())
    s.hold_out("test", False, [1], None, None)
    with pytest.raises(DataError, match="public_groups: no samples of 1"):
        s.hold_out("public", False, [1], None, None)
