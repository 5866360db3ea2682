import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import embeddings

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.records import Embeddings, LogitsFormat, PackedLogits
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.tensors import (
    OWN,
    dump_embeddings,
    dump_logits,
    dump_samples,
    load_embeddings,
    load_logits,
    load_samples,
)


def several(*counts):
    return Embeddings.merge([embeddings(chr(97 + i), n, start=7 * i) for i, n in enumerate(counts)])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.sampled_from([0, 100, 30_000, 100_000]), st.booleans())
def test_embeddings_come_back_as_they_were(counts, top, held_back):
    given_ = several(*counts)
    label_N = np.full(len(given_), -1) if held_back else given_.label_N + top
    given_ = Embeddings(given_.samples, given_.code_NB, label_N.astype(np.int64))
    back = load_embeddings(dump_embeddings(given_), OWN)
    assert back.samples.digest == given_.samples.digest
    np.testing.assert_array_equal(back.code_NB, given_.code_NB)
    np.testing.assert_array_equal(back.label_N, given_.label_N)
    assert load_samples(dump_samples(given_.samples), OWN).digest == given_.samples.digest


def test_a_label_is_as_short_as_it_can_be():
    given_ = several(3)
    sizes = []
    for top in (-1, 100, 30_000, 100_000):
        label_N = np.full(3, top)
        sizes.append(len(dump_embeddings(Embeddings(given_.samples, given_.code_NB, label_N))))
    assert [size - sizes[0] for size in sizes] == [0, 3, 6, 12]


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_and_nothing_else_happens(data):
    for load in (load_embeddings, load_samples):
        with pytest.raises(RemoteProtocolError):
            load(data, Limits())


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_byte_that_changed_is_refused_or_read_as_something_valid(at, byte):
    data = bytearray(dump_embeddings(several(2, 3)))
    data[at % len(data)] = byte
    try:
        found = load_embeddings(bytes(data), Limits())
    except RemoteProtocolError:
        return
    assert len(found.code_NB) == len(found.label_N) == len(found.samples)


def test_a_length_that_is_only_claimed_takes_no_memory():
    head = b"FAE1" + (1).to_bytes(2, "little") + b"\x01a" + (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(RemoteProtocolError):
        load_embeddings(head + b"\x04\x00\x00\x00\x01", OWN)


def test_limits_hold():
    data = dump_embeddings(several(5))
    with pytest.raises(Refusal, match="rows: got 5 samples, expected at most 4"):
        load_embeddings(data, Limits(entry_rows=4))
    with pytest.raises(Refusal, match="embeddings: got"):
        load_embeddings(data, Limits(entry_bytes=10))


@given(st.sampled_from(list(LogitsFormat)), st.integers(0, 5), st.integers(1, 4), st.randoms())
def test_logits_come_back_bit_for_bit(form, rows, classes, random):
    rng = np.random.default_rng(random.randrange(2**32))
    dtype = {LogitsFormat.F32: np.float32, LogitsFormat.F16: np.float16, LogitsFormat.INT8: np.int8}[form]
    value = rng.integers(-100, 100, (rows, classes)).astype(dtype)
    scale = rng.random(rows, np.float32) if form is LogitsFormat.INT8 else None
    data = dump_logits(PackedLogits(form, value, scale))
    back = load_logits(data, form.value, rows, classes)
    np.testing.assert_array_equal(back.value_NC, value)
    if scale is not None:
        np.testing.assert_array_equal(back.scale_N, scale)
    for wrong in (data + b"x", data[:-1]):
        if wrong != data:
            with pytest.raises(RemoteProtocolError):
                load_logits(wrong, form.value, rows, classes)


def test_a_format_that_nobody_knows():
    with pytest.raises(RemoteProtocolError, match="f64"):
        load_logits(b"", "f64", 0, 1)
