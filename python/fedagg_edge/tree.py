"""The rooted tree of nodes: who is whose parent, in which order links are met, which model each node has.

No I/O and no state: a `Tree` is made from a configuration (simulation) or grows as nodes enrol (fleet).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedagg_edge.config import NodeGroup
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import Link, NodeId, Tier, node_id
from fedagg_edge.seeds import stream

__all__ = ["Place", "Tree", "plant"]


@dataclass(frozen=True, slots=True)
class Place:
    """One node's place: its neighbours, its tier, the name of its model."""

    id: NodeId
    tier: Tier
    model: str
    parent: NodeId | None
    children: tuple[NodeId, ...]

    @property
    def link(self) -> Link | None:
        """The link to the parent; None for the cloud."""
        return None if self.parent is None else Link(child=self.id, parent=self.parent)

    def link_to(self, child: NodeId) -> Link:
        """The link to a child."""
        return Link(child=child, parent=self.id)


@dataclass(frozen=True, slots=True)
class Tree:
    """All places, parents before children, siblings in their order."""

    places: Mapping[NodeId, Place]

    @property
    def root(self) -> Place:
        """The cloud."""
        return next(p for p in self.places.values() if p.parent is None)

    def tier(self, tier: Tier) -> tuple[NodeId, ...]:
        """The nodes of one tier, in tree order."""
        return tuple(p.id for p in self.places.values() if p.tier is tier)

    def post_order(self) -> Iterator[NodeId]:
        """Children before parents: the order in which Algorithm 2's recursion finishes."""
        stack: list[tuple[NodeId, bool]] = [(self.root.id, False)]
        while stack:
            node, children_done = stack.pop()
            if children_done:
                yield node
            else:
                stack.append((node, True))
                stack.extend((c, False) for c in reversed(self.places[node].children))

    def depths(self) -> dict[NodeId, int]:
        """Each node's number of tiers down from the cloud, which has 1."""
        found: dict[NodeId, int] = {}
        for place in self.places.values():
            found[place.id] = 1 if place.parent is None else found[place.parent] + 1
        return found

    def depth(self) -> int:
        """Number of tiers on the longest path: 3 for cloud, edges, devices."""
        return max(self.depths().values())

    def moved(self, parents: Mapping[NodeId, NodeId]) -> Tree:
        """The tree after these devices changed to these parents; siblings stay in this tree's order."""
        place_of = {p.id: replace(p, parent=parents.get(p.id, p.parent)) for p in self.places.values()}
        return _with_children(place_of)

    def without(self, devices: Collection[NodeId]) -> Tree:
        """The tree while these devices have no parent."""
        return _with_children({n: p for n, p in self.places.items() if n not in devices})


def _with_children(places: Mapping[NodeId, Place]) -> Tree:
    """The tree that the places' parents make."""
    children: dict[NodeId, list[NodeId]] = {n: [] for n in places}
    for place in places.values():
        if place.parent is not None:
            children[place.parent].append(place.id)
    return Tree({n: replace(p, children=tuple(children[n])) for n, p in places.items()})


def plant(root: NodeGroup, seed: int) -> Tree:
    """Expand the configured groups into a tree; shares of models are dealt out at random, the same for the same seed.

    Names: ``cloud``; inner nodes ``edge-0``, ``edge-0.1`` by their path; devices ``device-000`` counted over the tree;
    a group's own `name` replaces the word. Raises ConfigError if two groups' names collide.
    """
    nodes = list(_expand(root))
    places: dict[NodeId, Place] = {}
    models = _deal_models(nodes, seed)
    ids = _name_nodes(nodes)
    for i, node in enumerate(nodes):
        children = tuple(ids[j] for j in node.children)
        parent = None if node.parent is None else ids[node.parent]
        tier = Tier.CLOUD if parent is None else Tier.EDGE if children else Tier.DEVICE
        if ids[i] in places:
            raise ConfigError(f"tree: two nodes are called {ids[i]!r}; give their groups different names")
        places[ids[i]] = Place(ids[i], tier, models[i], parent, children)
    return Tree(places)


@dataclass(slots=True)
class _Node:
    """A node while the tree is being laid out; `parent` and `children` are positions in the list of nodes."""

    group: NodeGroup
    parent: int | None
    rank: int  # among its siblings
    children: list[int]


def _expand(root: NodeGroup) -> list[_Node]:
    """All nodes, parents before children, breadth first."""
    nodes = [_Node(root, None, 0, [])]
    for i, node in enumerate(nodes):  # grows while it is walked
        for group in node.group.children:
            for _ in range(group.count):
                node.children.append(len(nodes))
                nodes.append(_Node(group, i, len(node.children) - 1, []))
    return nodes


def _deal_models(nodes: list[_Node], seed: int) -> list[str]:
    """The model of each node: shares by largest remainder over all nodes of a group, then shuffled."""
    by_group: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        by_group.setdefault(id(node.group), []).append(i)
    models = [""] * len(nodes)
    for number, members in enumerate(by_group.values()):
        shares = nodes[members[0]].group.model
        names = [shares] * len(members) if isinstance(shares, str) else _by_share(shares, len(members))
        order = stream(seed, "tree", "models", number).permutation(len(members))
        for place, name in zip(order, names, strict=True):
            models[members[place]] = name
    return models


def _by_share(shares: Mapping[str, float], count: int) -> list[str]:
    """`count` names in proportion to `shares`, rounded by largest remainder."""
    names = list(shares)
    exact = np.array([shares[n] for n in names], float)
    exact *= count / exact.sum()
    whole = np.floor(exact).astype(int)
    for i in np.argsort(whole - exact, kind="stable")[: count - int(whole.sum())]:
        whole[i] += 1
    return [n for n, k in zip(names, whole, strict=True) for _ in range(k)]


def _name_nodes(nodes: list[_Node]) -> list[NodeId]:
    devices = [i for i, n in enumerate(nodes) if not n.children and n.parent is not None]
    number = {i: k for k, i in enumerate(devices)}
    digits = max(3, len(str(len(devices) - 1)))
    paths = [""] * len(nodes)
    ids: list[NodeId] = []
    for i, node in enumerate(nodes):
        if node.parent is None:
            ids.append(node_id(node.group.name or "cloud"))
            continue
        paths[i] = f"{paths[node.parent]}.{node.rank}".lstrip(".")
        if i in number:
            ids.append(node_id(f"{node.group.name or 'device'}-{number[i]:0{digits}d}"))
        else:
            ids.append(node_id(f"{node.group.name or 'edge'}-{paths[i]}"))
    return ids
