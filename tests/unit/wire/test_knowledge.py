import numpy as np
import pytest
from pairs import DEVICE, EDGE, LINK, Pair

from fedagg_edge.records import LogitsFormat, PackedLogits
from fedagg_edge.wire.knowledge import check_finite, knowledge_of, same_content, wire_knowledge
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.refusal import Refusal


@pytest.fixture
def stored(tmp_path):
    pair = Pair(tmp_path)
    pair.send(4, 0)
    pair.settle()
    pair.publish(pair.parent, EDGE, 3, basis=2)
    yield pair.parent.newest(LINK, EDGE)
    pair.close()


def test_a_record_and_its_message(stored):
    message = wire_knowledge(stored, Limits())
    back = knowledge_of(message, message.payload.inline, "toy", LINK, EDGE)
    assert (back.version, back.digest, message.basis) == (3, stored.knowledge.digest, 2)
    np.testing.assert_array_equal(back.logits.value_NC, stored.knowledge.logits.value_NC)
    assert same_content(message, stored)
    assert back.link.child == DEVICE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_would_spoil_every_average(value):
    with pytest.raises(Refusal, match="not finite") as caught:
        check_finite(PackedLogits(LogitsFormat.F32, np.array([[0, value]], np.float32)))
    assert caught.value.status == 422
    with pytest.raises(Refusal, match="row scales"):
        check_finite(PackedLogits(LogitsFormat.INT8, np.zeros((1, 2), np.int8), np.array([value], np.float32)))
