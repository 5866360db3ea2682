import numpy as np
import pytest

from fedagg_edge.errors import DataError, StorageError
from fedagg_edge.ledger import numbering, private
from fedagg_edge.records import NodeId


def parcel(count, value=0):
    return np.full((count, 2, 2), value, np.uint8), np.arange(count)


def test_a_parcel_is_taken_once_and_comes_back(device):
    db = device.db
    assert private.load(db, (2, 2)) is None
    first = private.take_in(db, "a", *parcel(3, 1), 10.0)
    second = private.take_in(db, "b", *parcel(2, 2), 20.0)
    assert not set(first.tolist()) & set(second.tolist())
    assert private.is_taken(db, "a")
    with pytest.raises(DataError, match="'a' was taken in already"):
        private.take_in(db, "a", *parcel(3), 30.0)
    kept = private.load(db, (2, 2))
    np.testing.assert_array_equal(kept.counter_N, [*first, *second])
    np.testing.assert_array_equal(kept.x_N[:, 0, 0], [1, 1, 1, 2, 2])
    np.testing.assert_array_equal(kept.y_N, [0, 1, 2, 0, 1])
    assert repr(kept) == "Kept(count=5)"


def test_another_form_is_refused(device):
    private.take_in(device.db, "a", *parcel(1), 0.0)
    with pytest.raises(DataError, match="expected"):
        private.take_in(device.db, "b", np.zeros((1, 3), np.uint8), np.zeros(1, np.int64), 0.0)
    assert not private.is_taken(device.db, "b")
    with pytest.raises(StorageError, match="private samples"):
        private.load(device.db, (3,))


def test_retention_by_number_and_by_age(device):
    db, node = device.db, NodeId("d1")
    first = private.take_in(db, "a", *parcel(3), 10.0)
    second = private.take_in(db, "b", *parcel(2), 20.0)
    assert private.expired(db, node, 0, 0.0) is None
    np.testing.assert_array_equal(private.expired(db, node, 4, 0.0).counters[0], first[:1])
    gone = private.expired(db, node, 0, 15.0)
    np.testing.assert_array_equal(gone.counters[0], first)
    private.drop(db, gone)
    np.testing.assert_array_equal(private.load(db, (2, 2)).counter_N, second)
    assert private.is_taken(db, "a")
    private.drop(db, private.expired(db, node, 0, 99.0))
    third = private.take_in(db, "c", *parcel(1), 30.0)
    assert third[0] > second[-1]  # a counter is never given again


def test_a_counter_that_was_given_in_a_state_that_is_lost_is_not_given_again(device):
    numbering.raise_counters(device.db, 6)
    np.testing.assert_array_equal(private.take_in(device.db, "a", *parcel(2), 10.0), [7, 8])
    np.testing.assert_array_equal(private.take_in(device.db, "b", *parcel(1), 20.0), [9])


def test_samples_from_before_the_clock_was_set_count_from_when_it_was(device):
    db, node = device.db, NodeId("d1")
    private.take_in(db, "a", *parcel(3), 10.0)
    private.take_in(db, "b", *parcel(2), 2000.0)
    private.date(db, 1000.0, 3000.0)
    assert private.expired(db, node, 0, 1999.0) is None
    assert len(private.expired(db, node, 0, 2500.0)) == 2


def test_samples_from_the_future_count_from_now(device):
    db, node = device.db, NodeId("d1")
    private.take_in(db, "a", *parcel(3), 9000.0)
    private.take_in(db, "b", *parcel(2), 2000.0)
    private.date(db, 1000.0, 3000.0)
    assert len(private.expired(db, node, 0, 2999.0)) == 2
    assert len(private.expired(db, node, 0, 3001.0)) == 5
