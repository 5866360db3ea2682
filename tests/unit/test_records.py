import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import embeddings

from fedagg_edge.errors import DataError, LocalProtocolError, RemoteProtocolError
from fedagg_edge.records import (
    Embeddings,
    Knowledge,
    Link,
    LogitsFormat,
    NodeId,
    PackedLogits,
    SampleSet,
    counters,
    node_id,
)

A, B = NodeId("a"), NodeId("b")


@pytest.mark.parametrize("text", ["a", "edge-0.1", "device_007", "0"])
def test_node_ids_that_are_fine(text):
    assert node_id(text) == text


@pytest.mark.parametrize("text", ["", "A", "-a", "a b", "é", "a" * 65, "a\n"])
def test_node_ids_that_are_not(text):
    with pytest.raises(DataError, match="node id: got"):
        node_id(text)


def test_a_link_knows_the_other_end():
    link = Link(child=A, parent=B)
    assert link.other(A) == B
    assert link.other(B) == A
    with pytest.raises(LocalProtocolError, match="no end of link a->b"):
        link.other(NodeId("c"))


def test_the_digest_is_of_the_documented_bytes():
    samples = SampleSet((A, B), (counters(0, 2), counters(5, 1)))
    told = b"fedagg/sample-set/1\n" + struct.pack(">H1sQQQ", 1, b"a", 2, 0, 1) + struct.pack(">H1sQQ", 1, b"b", 1, 5)
    assert samples.digest == hashlib.sha256(told).hexdigest()
    assert len(samples) == 3


@pytest.mark.parametrize(
    ("origins", "counted"),
    [((B, A), ([0], [0])), ((A, A), ([0], [1])), ((A,), ([1, 0],)), ((A,), ([1, 1],)), ((A,), ([0], [0]))],
)
def test_a_sample_set_has_one_order(origins, counted):
    with pytest.raises(DataError, match="sample set"):
        SampleSet(origins, tuple(np.array(c, np.uint64) for c in counted))


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8), st.randoms())
def test_merging_gives_the_same_rows_in_any_order_and_any_number_of_times(names, random):
    parts = [embeddings(n, 3, start=start) for n in set(names) for start in (0, 3)]
    once = Embeddings.merge(parts)
    random.shuffle(parts)
    again = Embeddings.merge([*parts, *parts[:2]])
    assert again.samples.digest == once.samples.digest
    np.testing.assert_array_equal(again.code_NB, once.code_NB)
    np.testing.assert_array_equal(again.label_N, once.label_N)
    assert list(once.samples.origins) == sorted(set(names))


def test_one_id_with_two_contents_is_refused():
    with pytest.raises(DataError, match=r"sample \(a, 0\) came with two different contents"):
        Embeddings.merge([embeddings("a", 2), embeddings("a", 2, seed=1)])


def test_merging_nothing_or_empty_parts():
    with pytest.raises(DataError, match="nothing to merge"):
        Embeddings.merge([])
    assert len(Embeddings.merge([embeddings("a", 0), embeddings("b", 0)])) == 0


def test_embeddings_check_their_arrays():
    good = embeddings("a", 2)
    with pytest.raises(DataError, match=r"got float32 \(2, 4\) codes, expected uint8"):
        Embeddings(good.samples, good.code_NB.astype(np.float32), good.label_N)
    with pytest.raises(DataError, match=r"labels, expected int64 \(2,\)"):
        Embeddings(good.samples, good.code_NB, good.label_N[:1])


def test_packed_logits_check_dtype_and_scales():
    logits = np.zeros((2, 3), np.float32)
    PackedLogits(LogitsFormat.F32, logits)
    with pytest.raises(DataError, match=r"got float32 \(2, 3\), expected float16"):
        PackedLogits(LogitsFormat.F16, logits)
    with pytest.raises(DataError, match="int8 logits need row scales"):
        PackedLogits(LogitsFormat.INT8, logits.astype(np.int8))
    with pytest.raises(DataError, match="f32 logits have no row scales"):
        PackedLogits(LogitsFormat.F32, logits, np.ones(2, np.float32))
    with pytest.raises(DataError, match=r"expected float32 \(2,\)"):
        PackedLogits(LogitsFormat.INT8, logits.astype(np.int8), np.ones(3, np.float32))


def knowledge(rows, digest, classes=3):
    packed = PackedLogits(LogitsFormat.F32, np.zeros((rows, classes), np.float32))
    return Knowledge("f", Link(A, B), B, 0, digest, 0, packed)


def test_knowledge_must_fit_the_sample_set_and_the_classes():
    shared = embeddings("a", 4)
    assert knowledge(4, shared.samples.digest).rows_of(shared.samples, 3).value_NC.shape == (4, 3)
    with pytest.raises(RemoteProtocolError, match="got sample set 0000"):
        knowledge(4, "0" * 64).rows_of(shared.samples, 3)
    with pytest.raises(RemoteProtocolError, match="got 4 rows of 3 classes, this link agreed on 4 rows of 10"):
        knowledge(4, shared.samples.digest).rows_of(shared.samples, 10)


def test_knowledge_comes_from_an_end_of_its_link():
    with pytest.raises(LocalProtocolError, match="no end of link"):
        Knowledge("f", Link(A, B), NodeId("c"), 0, "", 0, knowledge(1, "").logits)
    with pytest.raises(DataError, match="got version -1"):
        Knowledge("f", Link(A, B), A, -1, "", 0, knowledge(1, "").logits)


def test_payload_sizes():
    assert embeddings("ab", 5).nbytes == 5 * (4 + 2 + 8) + 2
    assert knowledge(4, "").nbytes == 4 * 3 * 4 + 48
    int8 = PackedLogits(LogitsFormat.INT8, np.zeros((4, 3), np.int8), np.ones(4, np.float32))
    assert int8.nbytes == 4 * 3 + 4 * 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), unique=True), st.randoms())
def test_a_part_of_a_set_is_found_by_id(ids, random):
    whole = Embeddings.merge([embeddings(n, 10) for n in "abc"])
    part = Embeddings.merge([one(*sample) for sample in ids] or [embeddings("a", 0)])
    kept = whole.only(part.samples)
    assert {(o, int(c)) for o, cs in _rows(kept.samples) for c in cs} == set(ids)
    np.testing.assert_array_equal(kept.code_NB, whole.samples.select(whole.code_NB, kept.samples))
    np.testing.assert_array_equal(kept.samples.contains(whole.samples), part.samples.contains(whole.samples))


def one(origin, counter):
    return Embeddings(
        SampleSet.of(NodeId(origin), counters(counter, 1)), np.zeros((1, 4), np.uint8), np.zeros(1, np.int64)
    )


def _rows(samples):
    return zip(samples.origins, samples.counters, strict=True)


def test_rows_of_samples_that_a_set_has_not():
    few, many = embeddings("a", 2).samples, embeddings("a", 3).samples
    with pytest.raises(DataError, match="asked for 3 samples, this set has 2 of them"):
        few.select(np.zeros(2), many)
