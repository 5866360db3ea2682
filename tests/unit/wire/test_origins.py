import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.records import NodeId
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Adopt, decode, encode
from fedagg_edge.wire.origins import is_part, joined, last_of, part
from fedagg_edge.wire.refusal import Refusal

EDGE = NodeId("edge-0")


def names(count, length=10):
    return (EDGE, *(NodeId(f"d{i}".ljust(length, "x")) for i in range(count - 1)))


def parts_of(origins):
    found, after = [part(origins, None)], None
    while is_part(found[-1]):
        after = last_of(found[-1])
        found.append(part(origins, after))
    return found


@given(st.sampled_from([1, 2, 999, 1000, 1001, 1999, 2000, 5000]), st.sampled_from([5, 10, 64]))
def test_parts_fit_into_messages_of_the_smallest_kind_and_join_to_the_whole(count, length):
    origins = names(count, length)
    known = ()
    smallest = Limits(message=16_384, inline=0, entry_bytes=1 << 20, staged=1 << 20)
    for found in parts_of(origins):
        assert decode(Adopt, encode(Adopt(EDGE, found, 1)), smallest).origins == found
        known = joined(EDGE, known, found)
        assert joined(EDGE, known, found) == (found[:-1] if found[0] == EDGE and is_part(found) else known)  # twice
    assert known == origins


def test_a_list_that_fits_is_sent_as_it_always_was():
    assert parts_of(names(3)) == [names(3)]


def test_a_part_that_is_not_the_next_one_is_refused_and_a_first_one_begins_again():
    first, second, third, *_ = parts_of(names(5000))
    with pytest.raises(Refusal, match="begin again") as caught:
        joined(EDGE, joined(EDGE, (), first), third)
    assert (caught.value.status, caught.value.code) == (409, "missing")
    known = joined(EDGE, joined(EDGE, (), first), second)
    assert joined(EDGE, known, second) == known
    assert joined(EDGE, known, first) == first[:-1]


@pytest.mark.parametrize("names", [(), ("d1",), ("d1", "d2", "d1")])
def test_a_list_begins_with_the_node(names):
    """Else a part would pass for the whole at a parent that lost those before it."""
    with pytest.raises(Refusal, match="expected 'edge-0'"):
        joined(EDGE, (), names)


def test_no_more_than_rows_can_name():
    known = joined(EDGE, (), names(65_000))
    with pytest.raises(Refusal, match="expected at most 65535"):
        joined(EDGE, known, (known[-1], *(NodeId(f"e{i}") for i in range(1000))))
