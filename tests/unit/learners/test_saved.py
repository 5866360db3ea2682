import json

import numpy as np
import pytest

from fedagg_edge.errors import CheckpointError
from fedagg_edge.learners.base import Entry, LearnerState
from fedagg_edge.learners.saved import from_arrays, to_arrays

STATE = LearnerState(
    (Entry("a", (2, 3), trained=True), Entry("b", (), trained=False)),
    np.arange(7, dtype=np.float32),
    {"momentum": np.ones(6, np.float32)},
    steps=4,
)


def test_a_state_comes_back_as_it_was():
    arrays, facts = to_arrays(STATE, "n")
    back = from_arrays(arrays, json.loads(json.dumps(facts)), "n")
    assert (back.table, back.steps, list(back.slots)) == (STATE.table, 4, ["momentum"])
    np.testing.assert_array_equal(back.weights, STATE.weights)
    np.testing.assert_array_equal(back.slots["momentum"], STATE.slots["momentum"])


@pytest.mark.parametrize("missing", ["table", "slots", "steps"])
def test_facts_that_are_not_there(missing):
    arrays, facts = to_arrays(STATE, "n")
    with pytest.raises(CheckpointError, match="does not hold the state of 'n'"):
        from_arrays(arrays, {k: v for k, v in facts.items() if k != missing}, "n")


def test_anothers_arrays():
    arrays, facts = to_arrays(STATE, "n")
    with pytest.raises(CheckpointError, match="does not hold the state of 'm'"):
        from_arrays(arrays, facts, "m")
