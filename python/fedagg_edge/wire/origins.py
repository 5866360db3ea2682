"""A list of origins in parts: an edge that moves may have more devices below it than one message names.

A part that is not the last ends with the name that it begins with, which no whole list does; the next one begins with
the last name before that. So the parent sees that more follow, and that nothing is missing in between.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedagg_edge.records import NodeId
from fedagg_edge.wire.limits import check
from fedagg_edge.wire.refusal import Refusal

__all__ = ["is_part", "joined", "last_of", "part"]

_MOST = 1000  # names in a part; a message takes 1,024
_ROOM = 12_000  # bytes of them: the smallest message that a parent may take has 16,384
_ALL = 65_535  # what the arrays of rows can name


def part(origins: Sequence[NodeId], after: NodeId | None) -> tuple[NodeId, ...]:
    """The part that follows the one whose last name is `after`; the first if that is None or not among them."""
    start = origins.index(after) if after in origins else 0
    end, size = start, 0
    while end < len(origins) and end - start < _MOST and size < _ROOM:
        size += len(origins[end]) + 2
        end += 1
    found = tuple(origins[start:end])
    return found if end == len(origins) else (*found, found[0])


def is_part(names: Sequence[str]) -> bool:
    """Whether more follow."""
    return len(names) > 1 and names[0] == names[-1]


def last_of(names: Sequence[str]) -> str:
    """The name that the part after this one begins with."""
    return names[-2]


def joined(node: NodeId, known: Sequence[NodeId], names: Sequence[NodeId]) -> tuple[NodeId, ...]:
    """What is known of the origins of `node` with one more part; a first part, which begins with the node, replaces it.

    The same part again changes nothing. Raises Refusal: 409 `missing` if parts between are not here, 413 for too many.
    """
    new = tuple(names[:-1] if is_part(names) else names)
    if new[:1] == (node,):
        found = new
    elif known and known[-1] == new[0]:
        found = (*known, *new[1:])
    elif new and set(new) <= set(known):
        found = tuple(known)
    else:
        due = known[-1] if known else node
        text = f"adopt.origins: got a list that begins with {new[0] if new else ''!r}, expected {due!r}; begin again"
        raise Refusal(409, "missing", text)
    check("adopt.origins", len(found), _ALL, "origins")
    return found
