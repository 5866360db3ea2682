import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedagg_edge.errors import LocalProtocolError, RemoteProtocolError
from fedagg_edge.wire import messages as m
from fedagg_edge.wire.codec import _may_hold_floats
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.refusal import Refusal

KINDS = [m.Hello, m.Welcome, m.Append, m.Behind, m.Exchange, m.Exchanged, m.Missing, m.Problem, m.Enrol, m.Versions]


def said(kind, body):
    """What the refusal says; for the rare bytes that are a message, its name and that something was got."""
    try:
        m.decode(kind, body, Limits())
    except RemoteProtocolError as error:
        return str(error)
    return f"{kind.__name__.lower()}: got one"


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_malformed_bytes_raise_one_error_only(kind, body):
    assert said(kind, body).startswith(kind.__name__.lower())


tree = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=12),
    max_leaves=20,
)


@settings(max_examples=300)
@given(st.sampled_from(KINDS), tree)
def test_values_of_other_shapes_raise_one_error_only(kind, value):
    assert "got" in said(kind, msgspec.msgpack.encode(value))


def test_numbers_that_are_none_and_numbers_that_do_not_fit():
    body = m.encode(m.Exchange(-1, 0, 0, math.nan, 0))
    with pytest.raises(RemoteProtocolError, match=r"exchange\.wait: got nan"):
        m.decode(m.Exchange, body, Limits())
    with pytest.raises(LocalProtocolError, match="left"):
        m.encode(m.Left(2**70))


def test_every_float_of_a_message_is_looked_at():
    expected = {
        m.Exchange: ("wait",),
        m.Exchanged: ("retry_after",),
        m.Problem: ("retry_after",),
        m.Welcome: ("time", "limits"),
        m.Enrol: ("time",),
        m.Renew: ("time",),
        m.Append: (),
    }
    for kind, names in expected.items():
        found = tuple(f.name for f in msgspec.structs.fields(kind) if _may_hold_floats(f.type))
        assert found == names


def test_a_long_body_is_not_read():
    with pytest.raises(Refusal, match="hello message: got 131073 bytes"):
        m.decode(m.Hello, bytes(131_073), Limits())


def test_deep_nesting_and_claimed_lengths():
    for body in (b"\x91" * 50_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91\xdd\xff\xff\xff\xff"):
        with pytest.raises(RemoteProtocolError):
            m.decode(m.Missing, body, Limits())


def test_a_later_field_is_left_out_where_it_says_nothing():
    """So whoever does not know it reads the message; what older software writes is read, too."""
    brief, longer = m.Adopt("e1", ("e1",), 2), m.Adopt("e1", ("e1",), 2, "m1")
    assert m.encode(brief) == bytes.fromhex("93a2653191a2653102")
    assert m.encode(longer) == bytes.fromhex("94a2653191a2653102a26d31")
    for message in (brief, longer):
        assert m.decode(m.Adopt, m.encode(message), Limits()) == message
    with pytest.raises(RemoteProtocolError, match="adopt"):
        m.decode(m.Adopt, bytes.fromhex("95a2653191a2653102a26d3100"), Limits())
