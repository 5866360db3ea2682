"""What says that nothing was lost or doubled finds what is."""

import copy
from types import SimpleNamespace

import pytest
from harness import lost_and_doubled

NODES = [
    SimpleNamespace(place=SimpleNamespace(id=name, parent=parent, children=children))
    for name, parent, children in (("cloud", None, ("edge",)), ("edge", "cloud", ("device",)), ("device", "edge", ()))
]


def link(counters):
    return {"samples": {"device": counters}, "labels": [0] * len(counters)}


WHOLE = {
    "cloud": {"rounds": [0, 1], "links": {"edge": link([0, 1, 2])}},
    "edge": {"rounds": [0, 1], "links": {"edge": link([0, 1, 2]), "device": link([0, 1, 2])}},
    "device": {"rounds": [0, 1], "links": {"device": link([0, 1, 2])}},
}


def test_nothing_is_lost_or_doubled():
    assert lost_and_doubled(NODES, WHOLE, {"device": 3}) == (0, 0)


@pytest.mark.parametrize(
    ("node", "child"), [("cloud", "edge"), ("edge", "edge"), ("edge", "device"), ("device", "device")]
)
def test_on_each_link_what_is_lost_or_doubled_counts(node, child):
    found = copy.deepcopy(WHOLE)
    found[node]["links"][child] = link([0, 2])
    assert lost_and_doubled(NODES, found, {"device": 3}) == (1, 0)
    found[node]["links"][child] = link([0, 1, 1, 2])
    assert lost_and_doubled(NODES, found, {"device": 3}) == (0, 1)
    found[node]["links"][child] = link([0, 1, 2]) | {"labels": [0] * 5}  # rows that no sample is known of
    assert lost_and_doubled(NODES, found, {"device": 3}) == (0, 2)
    del found[node]["links"][child]
    assert lost_and_doubled(NODES, found, {"device": 3})[0] == 3


def test_a_round_that_was_told_twice_is_doubled():
    found = copy.deepcopy(WHOLE)
    found["edge"]["rounds"] = [0, 1, 1]
    assert lost_and_doubled(NODES, found, {"device": 3}) == (0, 1)
