import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire.chunks import assemble, check_payload, digest_of, inlined, payload_of, split
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Payload
from fedagg_edge.wire.refusal import Refusal

SMALL = Limits(chunk=256, inline=64, entry_bytes=65_536, staged=65_536)


@given(st.binary(max_size=2000))
def test_what_is_cut_is_joined_again(data):
    payload = payload_of(data, SMALL)
    check_payload("p", payload, SMALL, 2000)
    whole = assemble(payload, split(data, 256)) if payload.chunks else inlined("p", payload)
    assert whole == data
    assert bool(payload.chunks) == (len(data) > 64)


@given(st.binary(min_size=300, max_size=900), st.data())
def test_one_wrong_byte_is_found(data, draw):
    at = draw.draw(st.integers(0, len(data) - 1))
    wrong = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    with pytest.raises(RemoteProtocolError, match="of another digest"):
        assemble(payload_of(data, SMALL), split(wrong, 256))


def test_too_few_and_too_many():
    data = bytes(600)
    payload, parts = payload_of(data, SMALL), split(data, 256)
    with pytest.raises(RemoteProtocolError, match="600 in 3"):
        assemble(payload, parts[:2])
    with pytest.raises(RemoteProtocolError, match="more than 600"):
        assemble(payload, [*parts, b"x"])
    with pytest.raises(RemoteProtocolError, match="another digest"):
        inlined("p", Payload(1, bytes(32), b"x"))


@pytest.mark.parametrize(
    "payload",
    [
        Payload(10, bytes(32)),
        Payload(10, bytes(32), b"x"),
        Payload(1, bytes(32), b"x", (bytes(32),)),
        Payload(0, bytes(32), b"", (bytes(32),)),
        Payload(257, bytes(32), b"", (bytes(32),)),
    ],
)
def test_parts_that_cannot_add_up(payload):
    with pytest.raises(RemoteProtocolError, match="expected"):
        check_payload("p", payload, SMALL, 1000)


def test_a_size_over_the_limit_is_refused_before_anything_is_fetched():
    with pytest.raises(Refusal) as caught:
        check_payload("p", Payload(2**40, bytes(32)), SMALL, 1000)
    assert caught.value.status == 413
    assert digest_of(b"") == payload_of(b"", SMALL).digest
