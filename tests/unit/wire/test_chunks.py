import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs import SMALL

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire.chunks import assemble, check_payload, digest_of, inlined, payload_of, split
from fedagg_edge.wire.messages import Payload
from fedagg_edge.wire.refusal import Refusal


@given(st.binary(max_size=2000))
def test_bytes_come_back_inline_or_in_chunks(data):
    payload = payload_of(data, SMALL)
    check_payload("p", payload, SMALL, 2000)
    if payload.chunks:
        assert assemble(payload, split(data, SMALL.chunk)) == data
    else:
        assert inlined("p", payload) == data


DATA = bytes(range(256)) * 3


@pytest.mark.parametrize("change", ["order", "bit", "less", "more"])
def test_chunks_that_are_not_the_named_ones(change):
    payload, parts = payload_of(DATA, SMALL), split(DATA, SMALL.chunk)
    parts[0] = b"x" + parts[0][1:]
    payload = payload_of(b"".join(parts), SMALL)
    if change == "order":
        parts = parts[::-1]
    elif change == "bit":
        parts[1] = bytes(len(parts[1]))
    else:
        parts = parts[:-1] if change == "less" else [*parts, b"more"]
    with pytest.raises(RemoteProtocolError):
        assemble(payload, parts)


@pytest.mark.parametrize(
    "payload",
    [
        Payload(10, bytes(32), b"short"),
        Payload(1000, bytes(32), b"", (bytes(32),)),
        Payload(5, digest_of(b"12345"), b"12345", (bytes(32),)),
        Payload(0, bytes(32), b"", (bytes(32),)),
    ],
)
def test_parts_that_cannot_add_up(payload):
    with pytest.raises(RemoteProtocolError, match="p: got"):
        check_payload("p", payload, SMALL, 10_000)


def test_a_payload_over_what_is_taken():
    with pytest.raises(Refusal, match=r"p\.size: got 1000 bytes, expected at most 999"):
        check_payload("p", payload_of(bytes(1000), SMALL), SMALL, 999)


def test_inline_bytes_of_another_digest():
    with pytest.raises(RemoteProtocolError, match="of another digest"):
        inlined("p", Payload(2, bytes(32), b"ab"))
