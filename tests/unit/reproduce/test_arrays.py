import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reproduce.making import ROWS, data_file

from fedagg_edge.errors import DataError
from fedagg_edge.reproduce.arrays import drawn, load, open_samples
from fedagg_edge.reproduce.tables import DATASETS

ARRAYS = DATASETS["cifar10"].arrays


def take(path, **changes):
    return load(str(path), **{"arrays": ARRAYS, "classes": 10, "share": 0.1, "test": 30, "seed": 0, **changes})


def test_a_share_of_the_training_rows_and_a_number_of_test_rows(tmp_path):
    whole, part = take(data_file(tmp_path), share=1.0, test=0), take(tmp_path / "arrays.npz")
    assert (len(whole.train_y), len(whole.test_y)) == (ROWS, 120)
    assert part.train_x.shape == (ROWS // 10, 3, 8, 8)
    assert np.bincount(part.train_y).tolist() == [ROWS // 100] * 10
    assert np.bincount(part.test_y).tolist() == [3] * 10
    # the label still goes with its sample: brightness tells the class
    assert np.allclose(part.train_x.mean(axis=(1, 2, 3)), 29.5 + 19 * part.train_y, atol=6)


def test_rows_are_drawn_with_the_seed(tmp_path):
    path = data_file(tmp_path)
    assert np.array_equal(take(path).train_x, take(path).train_x)
    assert not np.array_equal(take(path).train_x, take(path, seed=1).train_x)


def test_validation_rows_are_no_devices(tmp_path):
    path = data_file(tmp_path)
    whole = np.load(path)["train_x"].transpose(0, 3, 1, 2)
    for share, expected in ((1.0, ROWS - 200), (0.1, ROWS // 10)):
        got = take(path, share=share, validation=200)
        assert (len(got.train_y), len(got.validation_y)) == (expected, 200)
        assert np.bincount(got.validation_y).tolist() == [20] * 10
        held, own = ({x.tobytes() for x in part} for part in (got.validation_x, got.train_x))
        assert not held & own
        assert held | own <= {x.tobytes() for x in whole}
    assert take(path).validation_x is None
    with pytest.raises(DataError, match=f"got --validation {ROWS}, expected fewer than its {ROWS} training rows"):
        take(path, validation=ROWS)


def test_another_name_for_the_labels(tmp_path):
    path = data_file(tmp_path, train_coarse=np.arange(ROWS) % 20, test_coarse=np.arange(120) % 20)
    got = take(path, arrays=DATASETS["cifar100"].arrays, classes=20)
    assert (got.classes, len(np.unique(got.train_y))) == (20, 20)


def test_more_test_rows_than_there_are(tmp_path):
    with pytest.raises(DataError, match="got --test 121, expected at most 120"):
        take(data_file(tmp_path), test=121)


def test_open_data(tmp_path):
    assert open_samples(str(data_file(tmp_path))).shape == (64, 3, 8, 8)
    with pytest.raises(DataError, match="no array 'public_x'"):
        open_samples(str(data_file(tmp_path, public_x=None)))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(0, 1), st.integers(0, 3))
def test_every_class_keeps_its_share_to_within_one_row(labels, share, seed):
    label_N = np.array(labels, np.int64)
    count = round(share * len(label_N))
    rows = drawn(label_N, count, seed, "train")
    assert len(rows) == len(set(rows.tolist())) == count
    assert np.array_equal(rows, np.sort(rows))
    wanted = np.bincount(label_N, minlength=5) * count / len(label_N)
    assert np.abs(np.bincount(label_N[rows], minlength=5) - wanted).max(initial=0) <= 1
