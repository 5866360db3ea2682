"""What says that nothing was lost or doubled finds what is."""

import copy
from types import SimpleNamespace

import pytest
from harness import knowledge_apart, lost_and_doubled

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
    assert lost_and_doubled(NODES, WHOLE, {"device": range(3)}) == (0, 0)


@pytest.mark.parametrize(
    ("node", "child"), [("cloud", "edge"), ("edge", "edge"), ("edge", "device"), ("device", "device")]
)
def test_on_each_link_what_is_lost_or_doubled_counts(node, child):
    found = copy.deepcopy(WHOLE)
    found[node]["links"][child] = link([0, 2])
    assert lost_and_doubled(NODES, found, {"device": range(3)}) == (1, 0)
    found[node]["links"][child] = link([0, 1, 1, 2])
    assert lost_and_doubled(NODES, found, {"device": range(3)}) == (0, 1)
    found[node]["links"][child] = link([0, 1, 2]) | {"labels": [0] * 5}  # rows that no sample is known of
    assert lost_and_doubled(NODES, found, {"device": range(3)}) == (0, 2)
    del found[node]["links"][child]
    assert lost_and_doubled(NODES, found, {"device": range(3)})[0] == 3


def test_what_a_node_has_that_should_not_have_it_is_too_much():
    found = copy.deepcopy(WHOLE)
    assert lost_and_doubled(NODES, found, {"device": range(1, 3)}) == (0, 4)  # forgotten, but there still
    left = [SimpleNamespace(place=SimpleNamespace(id="left", parent="cloud", children=())), *NODES]
    found["left"] = {"rounds": [0], "links": {"left": link([])}}
    assert lost_and_doubled(left, found, {"device": range(3)}) == (0, 0)
    found["left"]["links"]["device"] = link([])  # it has been there
    assert lost_and_doubled(left, found, {"device": range(3)}) == (0, 0)
    found["left"]["links"]["device"] = link([0, 1])
    assert lost_and_doubled(left, found, {"device": range(3)}) == (0, 2)


def test_a_round_that_was_told_twice_is_doubled():
    found = copy.deepcopy(WHOLE)
    found["edge"]["rounds"] = [0, 1, 1]
    assert lost_and_doubled(NODES, found, {"device": range(3)}) == (0, 1)
    assert lost_and_doubled(NODES, found, {"device": range(3)}, moved={"device"}) == (0, 1)
    assert lost_and_doubled(NODES, found, {"device": range(3)}, moved={"edge"}) == (0, 0)


def kept(*versions, content=b"logits"):
    return dict.fromkeys(versions, (0, "digest", content))


KNOWN = {
    "cloud": {"kept": {"edge>cloud:edge": kept(4, 5), "edge>cloud:cloud": kept(4, 5)}},
    "edge": {
        "kept": {
            "edge>cloud:edge": kept(4, 5), "edge>cloud:cloud": kept(5),
            "device>edge:device": kept(4, 5), "device>edge:edge": kept(4, 5),
        }
    },
    "device": {"kept": {"device>edge:device": kept(4, 5), "device>edge:edge": kept(4, 5)}},
}  # fmt: skip


def test_both_ends_of_each_link_have_the_same_knowledge():
    assert knowledge_apart(NODES, KNOWN, 0) == []


@pytest.mark.parametrize(
    ("link", "giver", "taker"),
    [
        ("edge>cloud:edge", "edge", "cloud"), ("edge>cloud:cloud", "cloud", "edge"),
        ("device>edge:device", "device", "edge"), ("device>edge:edge", "edge", "device"),
    ],
)  # fmt: skip
def test_on_each_link_and_in_each_direction_knowledge_that_differs_is_found(link, giver, taker):
    found = copy.deepcopy(KNOWN)

    def told(behind):
        return knowledge_apart(NODES, found, behind)

    found[taker]["kept"][link] = kept(3, 4)
    assert told(0) == [f"{link}: {giver} gave version 5, {taker} has 4"]
    assert told(1) == []  # it is on its way
    found[taker]["kept"][link] = kept(2, 3)
    assert len(told(1)) == 1
    found[taker]["kept"][link] = kept(5, 6)
    assert told(1) == [f"{link}: {giver} gave version 5, {taker} has 6"]
    found[taker]["kept"][link] = kept(4) | kept(5, content=b"others")
    assert told(0) == [f"{link}: version 5 has two contents"]
    found[taker]["kept"][link] = kept(4) | {5: None}  # forgotten there
    assert told(0) == []
    del found[taker]["kept"][link]
    assert told(0) == told(1) == [f"{link}: {giver} gave version 5, {taker} has -1"]
    del found[giver]["kept"][link]
    assert told(1) == [f"{link}: {giver} gave version -1, {taker} has -1"]
