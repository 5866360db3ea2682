import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.errors import LocalProtocolError, RemoteProtocolError
from fedagg_edge.wire import messages
from fedagg_edge.wire.codec import decode, encode
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.refusal import Refusal

KINDS = [k for k in vars(messages).values() if isinstance(k, type) and issubclass(k, messages.Message)]


@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_broken_protocol(kind, data):
    try:
        decode(kind, data, Limits())
    except RemoteProtocolError as error:
        assert kind.__name__.lower() in str(error).lower()


def test_a_fault_names_field_got_and_expected():
    good = messages.Append(1, 2, 1, 3, bytes(32), messages.Payload(0, bytes(32)), 0)
    data = encode(good).replace(b"\x93"[:0] + encode(good)[1:2], b"\xa1", 1)
    with pytest.raises(RemoteProtocolError, match=r"append"):
        decode(messages.Append, data, Limits())


def test_a_body_that_is_too_long_is_not_looked_at():
    with pytest.raises(Refusal, match="hello message: got"):
        decode(messages.Hello, bytes(200_000), Limits())


def test_a_number_that_is_none():
    asked = messages.Exchange(-1, 0, 0, float("nan"), 0)
    with pytest.raises(RemoteProtocolError, match="wait"):
        decode(messages.Exchange, encode(asked), Limits())


def test_a_number_that_msgpack_cannot_hold_is_our_mistake():
    with pytest.raises(LocalProtocolError, match="left"):
        encode(messages.Left(2**70))
