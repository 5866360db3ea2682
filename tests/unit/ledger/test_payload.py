import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import embeddings

from fedagg_edge.errors import LocalProtocolError, RemoteProtocolError
from fedagg_edge.ledger import _payload
from fedagg_edge.ledger._payload import OWN
from fedagg_edge.records import Embeddings, LogitsFormat, PackedLogits


@pytest.mark.parametrize(("highest", "width"), [(-1, 0), (127, 1), (128, 2), (40000, 4)])
def test_embeddings_come_back_with_labels_as_narrow_as_they_allow(highest, width):
    rows = embeddings("d1", 3)
    rows = Embeddings(rows.samples, rows.code_NB, np.array([-1, -1, highest], np.int64))
    data = _payload.dump_embeddings(rows)
    assert len(data) == 4 + 2 + 1 + 2 + 4 + 5 + 3 * (8 + width + 4)
    back = _payload.load_embeddings(data, OWN)
    assert back.samples.digest == rows.samples.digest
    assert np.array_equal(back.code_NB, rows.code_NB)
    assert np.array_equal(back.label_N, rows.label_N)


def test_samples_and_logits_come_back():
    samples = Embeddings.merge([embeddings("a", 2), embeddings("b", 3)]).samples
    assert _payload.load_samples(_payload.dump_samples(samples), OWN).digest == samples.digest
    for form, dtype in [(LogitsFormat.F32, np.float32), (LogitsFormat.F16, np.float16), (LogitsFormat.INT8, np.int8)]:
        scale_N = np.arange(2, dtype=np.float32) if form is LogitsFormat.INT8 else None
        packed = PackedLogits(form, np.arange(6).reshape(2, 3).astype(dtype), scale_N)
        back = _payload.load_logits(_payload.dump_logits(packed), str(form), 2, 3)
        assert np.array_equal(back.value_NC, packed.value_NC)
        assert back.value_NC.dtype == dtype
        with pytest.raises(RemoteProtocolError, match="expected"):
            _payload.load_logits(_payload.dump_logits(packed), str(form), 3, 3)
    with pytest.raises(RemoteProtocolError, match="format"):
        _payload.load_logits(b"", "f8", 0, 1)


@settings(max_examples=300)
@given(st.integers(0, 60), st.binary(max_size=8))
def test_damage_is_refused_or_read_as_something_whole(at, noise):
    data = bytearray(_payload.dump_embeddings(embeddings("d1", 3)))
    data[at : at + len(noise)] = noise
    try:
        back = _payload.load_embeddings(bytes(data), OWN)
    except RemoteProtocolError:
        return
    assert len(_payload.dump_embeddings(back)) <= len(data) + 3 * 4


def test_wrong_labels_and_lengths():
    rows = embeddings("d1", 1)
    with pytest.raises(LocalProtocolError, match="labels from -2"):
        _payload.dump_embeddings(Embeddings(rows.samples, rows.code_NB, np.array([-2])))
    with pytest.raises(RemoteProtocolError, match="got"):
        _payload.load_embeddings(_payload.dump_embeddings(rows) + b"x", OWN)
