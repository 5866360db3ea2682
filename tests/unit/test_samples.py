import numpy as np
import pytest

from fedagg_edge.errors import DataError
from fedagg_edge.records import NodeId, SampleSet
from fedagg_edge.samples import PrivateSamples

DEVICE = NodeId("d")


def private(count=4):
    return PrivateSamples(DEVICE, 3, np.arange(count * 2, dtype=np.float32).reshape(count, 2), np.arange(count) % 3)


def test_samples_are_found_by_id_not_by_position():
    samples = private()
    x_N, y_N = samples.take(SampleSet.of(DEVICE, np.array([1, 3], np.uint64)))
    np.testing.assert_array_equal(x_N, [[2, 3], [6, 7]])
    np.testing.assert_array_equal(y_N, [1, 0])
    assert samples.take(samples.samples)[0] is samples.x_N


def test_of_a_set_of_which_nothing_is_left_there_is_nothing():
    x_N, y_N = private().take(SampleSet((), ()))
    assert (x_N.shape, y_N.shape, x_N.dtype, y_N.dtype) == ((0, 2), (0,), np.float32, np.int64)


@pytest.mark.parametrize("ids", [[4], [0, 9], [2**63]])
def test_a_sample_that_is_not_there(ids):
    with pytest.raises(DataError, match="does not have"):
        private().take(SampleSet.of(DEVICE, np.array(ids, np.uint64)))


def test_another_devices_samples():
    with pytest.raises(DataError, match="asked for samples of e"):
        private().take(SampleSet.of(NodeId("e"), np.array([0], np.uint64)))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 2)), np.zeros(2, np.int64), r"got float64 \(2, 2\) samples"),
        (np.zeros((2, 2), np.float32), np.zeros(3, np.int64), r"labels, expected int64 \(2,\)"),
        (np.zeros((2, 2), np.float32), np.array([0, 3]), "got labels 0 to 3, expected 0 to 2"),
    ],
)
def test_arrays_are_checked(x, y, message):
    with pytest.raises(DataError, match=message):
        PrivateSamples(DEVICE, 3, x, y)


def test_the_repr_tells_no_content():
    assert repr(private()) == "PrivateSamples(origin='d', count=4)"


def test_counters_that_have_gaps():
    x_N, counter_N = np.zeros((3, 2), np.float32), np.array([2, 5, 9], np.uint64)
    samples = PrivateSamples(DEVICE, 3, x_N, np.array([0, 1, 2]), counter_N)
    np.testing.assert_array_equal(samples.take(SampleSet.of(DEVICE, counter_N[1:]))[1], [1, 2])
    with pytest.raises(DataError, match="got 2 counters, expected one for each of 3"):
        PrivateSamples(DEVICE, 3, x_N, np.zeros(3, np.int64), counter_N[:2])
