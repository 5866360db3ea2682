import numpy as np
import pytest

from fedagg_edge.errors import LearnerError
from fedagg_edge.learners.base import Entry, LearnerState

TABLE = (Entry("w", (2, 3), trained=True), Entry("b", (), trained=True), Entry("mean", (2,), trained=False))


def zeros(n, dtype=np.float32):
    return np.zeros(n, dtype)


def test_an_entry_knows_its_size():
    assert [e.size for e in TABLE] == [6, 1, 2]
    assert Entry("none", (0, 3), trained=True).size == 0


def test_named_arrays_are_views_in_the_tables_order():
    state = LearnerState(TABLE, np.arange(9, dtype=np.float32))
    arrays = state.arrays()
    assert list(arrays) == ["w", "b", "mean"]
    np.testing.assert_array_equal(arrays["w"], [[0, 1, 2], [3, 4, 5]])
    assert (arrays["b"].shape, float(arrays["b"])) == ((), 6.0)
    arrays["mean"][1] = 42
    assert state.weights[8] == 42


@pytest.mark.parametrize(
    ("weights", "slots", "message"),
    [
        (zeros(8), {}, r"got float32 \(8,\) weights, expected float32 \(9,\)"),
        (zeros(9, np.float64), {}, r"got float64 \(9,\) weights"),
        (zeros((3, 3)), {}, r"got float32 \(3, 3\) weights"),
        (zeros(9), {"momentum": zeros(9)}, r"got float32 \(9,\) for slot 'momentum', expected float32 \(7,\)"),
        (zeros(9), {"momentum": zeros(7, np.float16)}, r"got float16 \(7,\) for slot 'momentum'"),
    ],
)
def test_arrays_that_do_not_fit_the_table_are_refused(weights, slots, message):
    with pytest.raises(LearnerError, match=message):
        LearnerState(TABLE, weights, slots)
    LearnerState(TABLE, zeros(9), {"momentum": zeros(7)}, steps=3)
