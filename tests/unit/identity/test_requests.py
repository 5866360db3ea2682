import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.identity import requests


def test_a_request_is_read_back():
    for request in (
        requests.Prepare(folder="f", time=1.0),
        requests.Install(folder="f", certificate=b"c"),
        requests.Sign(folder="f", name="n", media="m", size=1, digest=b"\0" * 32, version=0, now=1.0),
    ):
        assert requests.decode_request(requests.encode(request)) == request
    answer = requests.Failed(message="m", denied=True)
    assert requests.decode_answer(requests.encode(answer)) == answer


@given(st.binary(max_size=200))
def test_any_bytes(data):
    with pytest.raises((msgspec.DecodeError, ValueError)):
        requests.decode_request(data)


def test_limits():
    with pytest.raises(ValueError, match="65536"):
        requests.decode_request(b"\0" * (requests.LIMIT + 1))
    for wrong in (
        {"type": "Install", "folder": "f", "certificate": b"x" * 20_000},
        {"type": "Prepare", "folder": "f", "time": float("nan")},
        {"type": "Prepare", "folder": "f", "time": 1.0, "more": 1},
        {"type": "Other"},
    ):
        with pytest.raises(msgspec.DecodeError):
            requests.decode_request(msgspec.msgpack.encode(wrong))
