from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.wire.faults import peek


@given(st.binary(max_size=60), st.lists(st.integers(0, 5), max_size=6))
def test_peek_reads_any_bytes(body, indices):
    assert isinstance(peek(body, indices), str)


def test_peek_shows_numbers_and_lengths_never_content():
    body = b"\x93\xff\xa6secret\x92\x01\xc4\x02ab"
    assert peek(body, [0]) == "-1"
    assert peek(body, [1]) == "6 bytes of text"
    assert peek(body, [2]) == "an array of 2"
    assert peek(body, [2, 1]) == "2 bytes"
    assert peek(body, [3]) == "nothing"
    assert peek(b"\x92\xdc", [1]) == "what ends too early"
