import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedagg_edge.errors import LocalProtocolError, RemoteProtocolError
from fedagg_edge.records import Embeddings, LogitsFormat, NodeId, PackedLogits, SampleSet
from fedagg_edge.wire import tensors as t
from fedagg_edge.wire.limits import Limits


@st.composite
def sets(draw):
    names = sorted(draw(st.sets(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True), max_size=3)))
    counters = [sorted(draw(st.sets(st.integers(0, 2**64 - 1), max_size=5))) for _ in names]
    return SampleSet(tuple(NodeId(n) for n in names), tuple(np.array(c, np.uint64) for c in counters))


@given(sets(), st.integers(0, 5), st.sampled_from((0, 2**7, 2**15, 2**31)), st.randoms())
def test_embeddings_round_trip(samples, width, top, rng):
    label_N = np.array([rng.randrange(-1, top) for _ in range(len(samples))], np.int64)
    code_NB = np.array([[rng.randrange(256)] * width for _ in range(len(samples))], np.uint8)
    whole = Embeddings(samples, code_NB.reshape(len(samples), width), label_N)
    data = t.dump_embeddings(whole)
    back = t.load_embeddings(data, Limits())
    assert back.samples.digest == samples.digest
    np.testing.assert_array_equal(back.code_NB, whole.code_NB)
    np.testing.assert_array_equal(back.label_N, label_N)
    assert t.load_samples(t.dump_samples(samples), Limits()).digest == samples.digest
    for wrong in (data[:-1], data + b"x"):
        with pytest.raises(RemoteProtocolError):
            t.load_embeddings(wrong, Limits())


@pytest.mark.parametrize("form", list(LogitsFormat))
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_logits_round_trip(form, rows):
    dtype = {LogitsFormat.F32: np.float32, LogitsFormat.F16: np.float16, LogitsFormat.INT8: np.int8}[form]
    value_NC = np.arange(rows * 3).reshape(rows, 3).astype(dtype)
    scale_N = np.ones(rows, np.float32) if form is LogitsFormat.INT8 else None
    data = t.dump_logits(PackedLogits(form, value_NC, scale_N))
    back = t.load_logits(data, form, rows, 3)
    np.testing.assert_array_equal(back.value_NC, value_NC)
    assert t.dump_logits(back) == data
    with pytest.raises(RemoteProtocolError, match="logits: got"):
        t.load_logits(data + b"x", form, rows, 3)


@settings(max_examples=300)
@given(st.sampled_from((b"FAE1", b"FAS1", b"")), st.binary(max_size=80))
def test_malformed_bytes_raise_one_error_only(magic, data):
    for load in (t.load_embeddings, t.load_samples):
        with contextlib.suppress(RemoteProtocolError):  # any other error fails the test
            load(magic + data, Limits())


def test_a_claimed_length_is_not_allocated():
    claimed = b"FAE1" + struct.pack("<HB", 1, 1) + b"a" + struct.pack("<I", 2**32 - 1)
    with pytest.raises(RemoteProtocolError, match="rows: got 4294967295 samples"):
        t.load_embeddings(claimed + bytes(5), Limits())
    with pytest.raises(RemoteProtocolError, match="expected"):
        t.load_logits(b"", "f32", 2**30, 2**30)
    with pytest.raises(RemoteProtocolError, match="format 'f64'"):
        t.load_logits(b"", "f64", 1, 1)


def test_labels_that_are_none_are_not_sent():
    samples = SampleSet.of(NodeId("a"), np.array([1], np.uint64))
    for label in (-2, 2**31):
        with pytest.raises(LocalProtocolError, match="labels from"):
            t.dump_embeddings(Embeddings(samples, np.zeros((1, 1), np.uint8), np.array([label])))


@given(sets(), st.integers(0, 2**63), st.from_regex(r"[a-z0-9][a-z0-9._-]{0,30}", fullmatch=True))
def test_a_release_round_trips(samples, fence, mover):
    there = t.load_release(t.dump_release(t.Release(NodeId(mover), fence, samples)), t.OWN)
    assert (there.mover, there.fence, there.samples.digest) == (mover, fence, samples.digest)


@given(st.integers(0, 58))
def test_a_release_that_is_not_whole_is_refused(cut):
    whole = t.dump_release(t.Release(NodeId("d1"), 1, SampleSet.of(NodeId("d1"), np.arange(3, dtype=np.uint64))))
    for data in (
        whole[: min(cut, len(whole) - 1)],
        whole + b"x",
        b"FAS1" + whole[4:],
        whole.replace(b"d1", b"\xff1", 1),
    ):
        with pytest.raises(RemoteProtocolError):
            t.load_release(data, Limits())
