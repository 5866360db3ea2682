import pytest

from fedagg_edge.wire.limits import Limits, check
from fedagg_edge.wire.refusal import Refusal


def test_what_is_over_a_limit_is_refused_with_the_field_and_both_numbers():
    check("chunk", 5, 5)
    with pytest.raises(Refusal, match="chunk: got 6 bytes, expected at most 5") as caught:
        check("chunk", 6, 5)
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (413, "too_large", None)


def test_both_ends_keep_to_the_smaller():
    both = Limits(chunk=512, entry_bytes=10_000, staged=10_000).narrowed(Limits(wait=5.0))
    assert (both.chunk, both.wait, both.message) == (512, 5.0, 65_536)


def test_limits_whose_digests_do_not_fit_a_message_are_no_limits():
    with pytest.raises(ValueError, match="half a message"):
        Limits(chunk=256)


def test_a_body_is_a_message_and_what_travels_in_it():
    assert Limits().body == 131_072
