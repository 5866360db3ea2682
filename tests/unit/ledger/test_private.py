import numpy as np
import pytest

from fedagg_edge.errors import DataError, StorageError
from fedagg_edge.ledger import private


def take(ledger, key, count, start=0.0, now=10.0):
    x_N = np.arange(start, start + 2 * count, dtype=np.float32).reshape(count, 2)
    return private.take_in(ledger.db, key, x_N, np.arange(count) % 3, now)


def test_counters_are_given_once_also_after_samples_are_gone(device):
    assert take(device, "a", 3).tolist() == [0, 1, 2]
    gone = private.expired(device.db, device.node, 1, 0.0)
    private.drop(device.db, gone)
    assert take(device, "b", 2, 6.0).tolist() == [3, 4]
    kept = private.load(device.db, (2,))
    assert kept.counter_N.tolist() == [2, 3, 4]
    np.testing.assert_array_equal(kept.x_N, [[4, 5], [6, 7], [8, 9]])
    assert kept.y_N.tolist() == [2, 0, 1]


def test_a_parcel_is_taken_once(device):
    take(device, "a", 1)
    assert private.is_taken(device.db, "a")
    assert not private.is_taken(device.db, "b")
    with pytest.raises(DataError, match="'a' was taken in already"):
        take(device, "a", 1)


def test_samples_of_another_form(device):
    take(device, "a", 1)
    with pytest.raises(DataError, match="got samples <f8"):
        private.take_in(device.db, "b", np.zeros((1, 2)), np.zeros(1, np.int64), 0.0)
    with pytest.raises(StorageError, match="expected"):
        private.load(device.db, (3,))


def test_retention_by_number_and_by_age(device):
    take(device, "old", 2, now=10.0)
    take(device, "new", 2, now=20.0)
    assert private.expired(device.db, device.node, 0, 0.0) is None
    assert private.expired(device.db, device.node, 3, 0.0).counters[0].tolist() == [0]
    assert private.expired(device.db, device.node, 0, 15.0).counters[0].tolist() == [0, 1]


def test_nothing_yet_and_no_content_in_the_repr(device):
    assert private.load(device.db, (2,)) is None
    take(device, "a", 1, 123.456)
    assert repr(private.load(device.db, (2,))) == "Kept(count=1)"
