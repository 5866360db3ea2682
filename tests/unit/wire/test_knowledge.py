import numpy as np
import pytest
from ends import CHILD, LINK, SMALL, knowledge
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from msgspec.structs import replace

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.ledger.knowledge import Packed, Stored
from fedagg_edge.records import Knowledge, LogitsFormat, PackedLogits
from fedagg_edge.wire.knowledge import (
    check_finite,
    check_packed,
    knowledge_of,
    same_frame,
    same_logits,
    wire_knowledge,
    wire_packed,
)
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.tensors import dump_logits


@pytest.mark.parametrize("rows", [0, 3, 100])
def test_knowledge_comes_back_from_its_message(rows):
    known = knowledge(CHILD, 4, "ab" * 32, rows)
    given = wire_knowledge(Stored(known, 2, 0.0), SMALL)
    packed = Packed(4, 2, known.digest, known.view_seed, "f32", rows, 3, dump_logits(known.logits))
    assert wire_packed(packed, SMALL) == given
    assert bool(given.payload.chunks) == (rows * 12 > SMALL.inline)
    back = knowledge_of(given, dump_logits(known.logits), "f", LINK, CHILD)
    assert same_frame(given, Stored(back, 2, 9.0))
    assert same_logits(given, Stored(back, 2, 9.0))
    assert not same_frame(given, Stored(back, 3, 9.0))
    with pytest.raises(RemoteProtocolError, match="logits: got"):
        knowledge_of(given, dump_logits(known.logits) + b"x", "f", LINK, CHILD)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_logits_that_would_spoil_every_average(wrong):
    with pytest.raises(Refusal, match="not finite") as caught:
        check_finite(PackedLogits(LogitsFormat.F32, np.array([[0.0, wrong]], np.float32)))
    assert (caught.value.status, caught.value.code) == (422, "unfit")
    with pytest.raises(Refusal, match="scales"):
        check_finite(PackedLogits(LogitsFormat.INT8, np.zeros((1, 2), np.int8), np.array([wrong], np.float32)))
    with pytest.raises(Refusal, match="scales"):
        check_finite(PackedLogits(LogitsFormat.INT8, np.zeros((1, 2), np.int8), np.array([-1], np.float32)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0, -np.inf])
def test_scales_that_would_spoil_every_average(wrong):
    value_NC = np.zeros((3, 2), np.int8)
    check_finite(PackedLogits(LogitsFormat.INT8, value_NC, np.array([0.0, 1.0, 3e38], np.float32)))
    check_finite(PackedLogits(LogitsFormat.INT8, value_NC[:0], np.zeros(0, np.float32)))
    for place in range(3):
        scale_N = np.ones(3, np.float32)
        scale_N[place] = wrong
        with pytest.raises(Refusal, match="row scales"):
            check_finite(PackedLogits(LogitsFormat.INT8, value_NC, scale_N))
        with pytest.raises(Refusal, match="row scales"):
            check_packed(*packed_with(PackedLogits(LogitsFormat.INT8, value_NC, scale_N)))


def packed_with(logits):
    known = Knowledge("f", LINK, CHILD, 0, "ab" * 32, 0, logits)
    return wire_knowledge(Stored(known, -1, 0.0), SMALL), dump_logits(logits)


@settings(max_examples=200)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=1, min_side=0, max_side=4)))
def test_bytes_are_refused_as_their_arrays_are(scale_N):
    logits = PackedLogits(LogitsFormat.INT8, np.zeros((len(scale_N), 2), np.int8), scale_N)
    assert refusal_of(lambda: check_packed(*packed_with(logits))) == refusal_of(lambda: check_finite(logits))
    logits = PackedLogits(LogitsFormat.F32, scale_N.reshape(-1, 1))
    assert refusal_of(lambda: check_packed(*packed_with(logits))) == refusal_of(lambda: check_finite(logits))


def refusal_of(check):
    try:
        check()
    except Refusal as refusal:
        return str(refusal)
    return None


def test_bytes_of_another_length_or_format_are_refused():
    logits = PackedLogits(LogitsFormat.INT8, np.zeros((2, 2), np.int8), np.array([0.0, -0.0], np.float32))
    given, data = packed_with(logits)
    check_packed(given, data)
    for wrong in (data + b"x", data[:-1], b""):
        with pytest.raises(RemoteProtocolError, match="logits: got"):
            check_packed(given, wrong)
    with pytest.raises(RemoteProtocolError, match="format"):
        check_packed(replace(given, format="f64"), data)
