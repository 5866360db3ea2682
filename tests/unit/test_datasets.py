import re
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedagg_edge.datasets import Dataset, digits, load_dataset, npz
from fedagg_edge.errors import ConfigError, DataError


def fields(**changes: Any) -> dict[str, Any]:
    good = {
        "name": "tiny",
        "classes": 3,
        "train_x": np.zeros((4, 1, 2, 2), np.float32),
        "train_y": np.array([0, 1, 2, 0]),
        "test_x": np.zeros((2, 1, 2, 2), np.float32),
        "test_y": np.array([0, 2]),
    }
    return good | changes


def test_a_good_data_set_fills_in_what_is_left_out() -> None:
    d = Dataset(**fields())
    assert d.public_x is not None
    assert d.public_x.shape == (0, 1, 2, 2)
    assert d.sample_shape == (1, 2, 2)
    assert d.input_low is None
    assert d.input_high is None


def test_what_is_left_out_keeps_no_training_samples() -> None:
    whole = Dataset(**fields())
    x = weakref.ref(whole.train_x)
    part = replace(whole, train_x=whole.train_x[:2].copy(), train_y=whole.train_y[:2])
    del whole
    assert x() is None
    assert len(part.train_x) == 2


def test_uint8_has_its_natural_range() -> None:
    d = Dataset(**fields(train_x=np.zeros((4, 3, 5), np.uint8), test_x=np.zeros((2, 3, 5), np.uint8)))
    assert d.input_low == (0.0, 0.0, 0.0)
    assert d.input_high == (255.0, 255.0, 255.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "got 1 classes, expected 2 or more"),
        ({"train_x": [[1.0]]}, "train_x: got list, expected a uint8 or float32 array"),
        ({"train_x": np.zeros((4, 1, 2, 2))}, "train_x: got float64, expected a uint8 or float32 array"),
        ({"train_x": np.zeros(4, np.float32)}, r"train_x: got shape (4,), expected (N, C, H, W)"),
        ({"train_x": np.zeros((0, 1, 2, 2), np.float32)}, "train_x: got no samples, expected at least one"),
        ({"test_x": np.zeros((0, 1, 2, 2), np.float32)}, "test_x: got no samples, expected at least one"),
        ({"test_x": np.zeros((2, 1, 2, 3), np.float32)}, "test_x: got float32 samples of shape (1, 2, 3)"),
        ({"public_x": np.zeros((2, 1, 2, 2), np.uint8)}, "public_x: got uint8 samples of shape (1, 2, 2)"),
        ({"test_x": np.full((2, 1, 2, 2), np.nan, np.float32)}, "test_x: row 0 holds NaN or infinity"),
        ({"train_y": np.zeros(3, np.int64)}, "train_y: got int64 (3,), expected int64 (4,)"),
        ({"train_y": np.zeros(4, np.int32)}, "train_y: got int32 (4,), expected int64 (4,)"),
        ({"train_y": np.array([0, 1, 3, 0])}, "train_y: got label 3 in row 2, expected 0..2 for 3 classes"),
        ({"test_y": np.array([-1, 0])}, "test_y: got label -1 in row 0"),
        ({"group_N": np.zeros(3, np.int64)}, "group_N: got int64 (3,), expected int64 or text (4,)"),
        ({"group_N": np.zeros(4)}, "group_N: got float64 (4,)"),
        (
            {"validation_x": np.zeros((2, 1, 2, 2), np.float32)},
            "got one of validation_x and validation_y, expected both",
        ),
        (
            {"validation_x": np.zeros((2, 1, 2, 2), np.float32), "validation_y": np.array([0, 3])},
            "validation_y: got label 3 in row 1, expected 0..2",
        ),
        ({"class_names": ("a", "b")}, "class_names: got 2 names, expected 3"),
        ({"input_low": (0.0,)}, "got low (0.0,) and high None, expected 1 numbers in both"),
        ({"input_low": (1.0,), "input_high": (1.0,)}, "expected finite numbers, low below high"),
    ],
)
def test_every_fault_says_got_and_expected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"tiny: .*{re.escape(message)}|tiny: {re.escape(message)}"):
        Dataset(**fields(**changes))


def test_the_row_with_a_nan_is_named() -> None:
    x = np.zeros((4, 1, 2, 2), np.float32)
    x[2, 0, 1, 1] = np.inf
    with pytest.raises(DataError, match="row 2 holds NaN or infinity"):
        Dataset(**fields(train_x=x))


def test_digits_are_split_between_hands() -> None:
    d = load_dataset("digits")
    assert d.public_x is not None
    assert (len(d.public_x), len(d.train_x), len(d.test_x)) == (256, 1159, 382)
    assert d.train_x.shape[1:] == (1, 8, 8)
    assert d.train_x.dtype == np.uint8
    assert max(d.train_x.max(), d.test_x.max()) == d.input_high[0] == 16  # type: ignore[index]
    assert sorted(set(d.group_N.tolist())) == list(range(2, 11))  # type: ignore[union-attr]
    # a form begins by counting up and ends with an 8, so that is where every group must begin and end; one lacks its 0
    for form in range(2, 11):
        label_N = d.train_y[d.group_N == form]
        assert label_N[0] + 1 == label_N[1]
        assert label_N[0] == (1 if form == 7 else 0)
        assert label_N[-1] == (8 if form != 2 else 3)


def test_digits_refuses_a_split_with_nothing_to_train_on() -> None:
    with pytest.raises(ConfigError, match="got 7 public and 7 test forms"):
        digits(public_forms=7, test_forms=7)


def test_digits_without_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'fedagg-edge[sim]'")):
        load_dataset("digits")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "windows.npz",
        train_x=rng.normal(size=(30, 16, 6)).astype(np.float16),
        train_y=(np.arange(30) % 4).astype(np.uint8),
        extra_x=rng.normal(size=(5, 16, 6)),
        extra_y=np.arange(5) % 4,
        person=np.repeat(["ann", "bob", "cem"], 10),
        real=rng.normal(size=30),
    )
    return tmp_path / "windows.npz"


def test_npz_holds_out_a_fifth_by_default(file: Path) -> None:
    d = npz(file)
    assert (d.name, d.classes, len(d.train_x), len(d.test_x)) == ("windows", 4, 24, 6)
    assert d.train_x.dtype == np.float32
    assert d.sample_shape == (6, 16)


def test_npz_with_groups_keeps_people_apart(file: Path) -> None:
    d = npz(file, group="person", test_groups=["cem"], public_groups=["ann"])
    assert d.public_x is not None
    assert set(d.group_N.tolist()) == {"bob"}  # type: ignore[union-attr]
    assert (len(d.train_x), len(d.test_x), len(d.public_x)) == (10, 10, 10)


def test_npz_takes_test_and_public_arrays_and_names(file: Path) -> None:
    d = npz(
        file,
        test_x="extra_x",
        test_y="extra_y",
        public_x="extra_x",
        classes=5,
        class_names=["a", "b", "c", "d", "e"],
        input_low=[-4] * 6,
        input_high=[4] * 6,
    )
    assert (len(d.train_x), len(d.test_x), d.classes, d.class_names) == (30, 5, 5, tuple("abcde"))
    assert d.public_x is not None
    assert d.input_high == (4.0,) * 6
    np.testing.assert_array_equal(d.public_x, d.test_x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test_x": "extra_x"}, "got test_x = 'extra_x' and test_y = None, expected both or neither"),
        ({"x": "trian_x"}, r"no array 'trian_x' \(argument 'x'\) \(did you mean 'train_x'\?\)"),
        ({"y": "real"}, r"real: got float64 \(30,\), expected one integer label a sample"),
        ({"y": "extra_y"}, "got 30 samples and 5 labels, expected as many"),
        ({"classes": 3}, "got label 3 in row 2, expected 0..2 for 3 classes"),
        ({"group": "real"}, "group: got float64"),
    ],
)
def test_npz_errors(file: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        npz(file, **arguments)


def test_paths_are_relative_to_the_configuration(file: Path) -> None:
    for found in (
        load_dataset("windows.npz", base_dir=file.parent),
        load_dataset("npz", base_dir=file.parent, path="windows.npz"),
        load_dataset(str(file), base_dir="/somewhere/else"),
    ):
        assert len(found.train_x) == 24


def test_a_users_own_source(tmp_path: Path) -> None:
    (tmp_path / "own_data.py").write_text(
        "import numpy as np\n"
        "from fedagg_edge.datasets import Dataset\n"
        "def load(count):\n"
        "    x, y = np.zeros((count, 1, 4, 4), np.uint8), np.arange(count) % 2\n"
        "    return Dataset(name='own', classes=2, train_x=x, train_y=y, test_x=x, test_y=y)\n"
        "def wrong():\n"
        "    return 3\n"
    )
    assert len(load_dataset("own_data:load", base_dir=tmp_path, count=6).train_x) == 6
    with pytest.raises(DataError, match=r"'own_data:wrong': got int, expected fedagg_edge.datasets.Dataset"):
        load_dataset("own_data:wrong", base_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"unknown argument 'cuont' \(did you mean 'count'\?\)"):
        load_dataset("own_data:load", base_dir=tmp_path, cuont=6)


def test_unknown_sources_and_arguments() -> None:
    with pytest.raises(ConfigError, match=r"got 'digit' \(did you mean 'digits'\?\)"):
        load_dataset("digit")
    with pytest.raises(ConfigError, match="unknown argument 'pubic_forms'"):
        load_dataset("digits", pubic_forms=3)
    with pytest.raises(ConfigError, match=r"data source 'digits': .*check the values of its arguments"):
        load_dataset("digits", public_forms="two")
