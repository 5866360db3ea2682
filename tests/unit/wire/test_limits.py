import msgspec
import pytest

from fedagg_edge.wire.limits import Limits, check
from fedagg_edge.wire.refusal import Refusal


def test_digests_must_fit_into_half_a_message():
    with pytest.raises(ValueError, match="must hold the digests"):
        Limits(chunk=256)
    assert Limits(chunk=256, entry_bytes=1000, staged=1000).body == 131_072


@pytest.mark.parametrize(
    "parent",
    [
        Limits(message=16_384, chunk=1 << 24, entry_bytes=1 << 30, staged=1 << 30),
        Limits(message=1 << 20, chunk=256, entry_bytes=3_900_000, staged=3_900_000),
        Limits(message=1 << 24, inline=1 << 24, chunk=2 << 20, wait=600.0, samples=10),
    ],
)
def test_a_child_keeps_to_the_smaller_bounds_and_the_parents_layout(parent):
    mine, kept = Limits(), Limits().narrowed(parent)
    assert (kept.message, kept.inline, kept.chunk) == (parent.message, parent.inline, parent.chunk)
    for name in ("entry_rows", "entry_bytes", "samples", "classes", "wait", "staged"):
        assert getattr(kept, name) == min(getattr(mine, name), getattr(parent, name))


def test_over_a_limit_is_refused_for_good():
    check("rows", 5, 5)
    with pytest.raises(Refusal, match="rows: got 6 samples, expected at most 5") as caught:
        check("rows", 6, 5, "samples")
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (413, "too_large", None)


def test_limits_from_a_neighbour_are_checked_by_their_types():
    body = msgspec.msgpack.encode([*msgspec.structs.astuple(Limits(wait=10.0))[:2], 2**40])
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(body, type=Limits)
