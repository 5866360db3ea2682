import msgspec
import pytest

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Append, Hello, decode


def message(**changes):
    fields = {"key": 1, "after": 0, "kind": 1, "rows": 2, "digest": bytes(32)}
    fields |= {"payload": (0, bytes(32), b"", ()), "fence": 0} | changes
    return msgspec.msgpack.encode(tuple(fields.values()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "x"}, ["append.key"]),
        ({"kind": 3}, ["append.kind"]),
        ({"rows": -1}, ["append.rows"]),
        ({"digest": b"short"}, ["append.digest"]),
        ({"payload": (0, bytes(31), b"", ())}, ["append.payload"]),
    ],
)
def test_the_field_is_named(changes, words):
    with pytest.raises(RemoteProtocolError) as caught:
        decode(Append, message(**changes), Limits())
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_whole_message_that_is_none():
    for body in (b"", b"\xc1", msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode([])):
        with pytest.raises(RemoteProtocolError, match="hello"):
            decode(Hello, body, Limits())
