from collections import Counter

import pytest

from fedagg_edge.config import NodeGroup
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import Link, Tier
from fedagg_edge.tree import plant


def leaves(count, model="m", **more):
    return NodeGroup(model=model, count=count, **more)


def inner(*children, count=1, **more):
    return NodeGroup(model="m", count=count, children=children, **more)


@pytest.mark.parametrize(
    ("root", "depth", "edges", "devices"),
    [
        (inner(leaves(3)), 2, 0, 3),
        (inner(inner(leaves(2), count=3)), 3, 3, 6),
        (inner(inner(inner(leaves(2), count=2), count=2)), 4, 6, 8),
        (inner(inner(leaves(2), count=2), leaves(3), inner(leaves(1))), 3, 3, 8),
    ],
)
def test_shapes(root, depth, edges, devices):
    tree = plant(root, 0)
    assert tree.depth() == depth
    assert len(tree.tier(Tier.EDGE)) == edges
    assert len(tree.tier(Tier.DEVICE)) == devices
    for place in tree.places.values():
        assert all(tree.places[c].parent == place.id for c in place.children)


def test_names_are_stable_and_say_where_a_node_is():
    tree = plant(inner(inner(inner(leaves(1)), count=2), leaves(1, name="phone")), 0)
    assert list(tree.places) == [
        "cloud", "edge-0", "edge-1", "phone-000", "edge-0.0", "edge-1.0", "device-001", "device-002",
    ]  # fmt: skip
    assert tree.root.link is None
    assert tree.places["edge-0.0"].link == Link(child="edge-0.0", parent="edge-0")


def test_children_come_before_parents_and_siblings_in_order():
    tree = plant(inner(inner(leaves(2)), leaves(1)), 0)
    assert list(tree.post_order()) == ["device-001", "device-002", "edge-0", "device-000", "cloud"]


def test_shares_are_met_over_the_whole_tier_and_repeat_with_the_seed():
    root = inner(inner(leaves(5, {"a": 0.8, "b": 0.2}), count=3))
    tree = plant(root, 1)
    models = [tree.places[d].model for d in tree.tier(Tier.DEVICE)]
    assert Counter(models) == {"a": 12, "b": 3}
    assert models == [p.model for p in plant(root, 1).places.values() if p.tier is Tier.DEVICE]
    assert any(
        models != [p.model for p in plant(root, s).places.values() if p.tier is Tier.DEVICE] for s in range(2, 6)
    )


def test_shares_round_by_largest_remainder():
    tree = plant(inner(leaves(4, {"a": 1, "b": 1, "c": 1})), 0)
    assert Counter(tree.places[d].model for d in tree.tier(Tier.DEVICE)) == {"a": 2, "b": 1, "c": 1}


def test_two_nodes_may_not_share_a_name():
    with pytest.raises(ConfigError, match="two nodes are called 'edge-0'"):
        plant(inner(inner(leaves(1)), leaves(1, name="edge"), name="edge-0"), 0)
