"""Migration in the simulator (paper, IV-D): devices change parents between rounds; their rows follow inside the tree.

As in a fleet a device keeps its weights and sends nothing again: its embeddings go down from the nearest ancestor that
old and new parent have in common. Which devices move where follows from the run's seed alone, so a resumed run
repeats it.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedagg_edge.config import MoveConfig, SimulationConfig
from fedagg_edge.errors import ConfigError
from fedagg_edge.node import Node
from fedagg_edge.records import Embeddings, Link, NodeId, Tier
from fedagg_edge.seeds import stream
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.store import MemoryStore
from fedagg_edge.tree import Tree

__all__ = ["Migration", "choose", "rehome"]


def choose(tree: Tree, move: MoveConfig, seed: int, number: int) -> dict[NodeId, NodeId]:
    """{device: its new parent} for move `number` of the configuration. Raises ConfigError if nobody can move."""
    rng = stream(seed, "moves", number)
    devices = tree.tier(Tier.DEVICE)
    wanted = max(1, round(move.share * len(devices)))
    left = {n: len(p.children) for n, p in tree.places.items()}
    depths = tree.depths()
    found: dict[NodeId, NodeId] = {}
    for i in rng.permutation(len(devices)):
        old = tree.places[devices[i]].parent
        others = [
            n
            for n, p in tree.places.items()
            if old is not None and n != old and p.children and depths[n] == depths[old]
        ]
        pick = int(rng.integers(1 << 32))  # drawn whether it is used or not: who moves where depends on less
        if len(found) < wanted and old is not None and others and left[old] > 1:
            found[devices[i]] = others[pick % len(others)]
            left[old] -= 1
    if not found:
        raise ConfigError(f"moves[{number}]: no device can move; it takes two parents of a tier, one with two devices")
    return found


def rehome(before: Tree, after: Tree, nodes: Mapping[NodeId, Node], traffic: Traffic) -> None:
    """Give every inner node of `after` the rows of the leaves below it, by the child that they now come through.

    Counts what goes down: each moved device's rows over the links from the common ancestor to its new parent.
    """
    rows: dict[NodeId, Embeddings] = {}
    for name in after.post_order():
        place, node = after.places[name], nodes[name]
        if place.tier is Tier.DEVICE:
            rows[name] = node.store.read_all()
            continue
        node.store = MemoryStore()
        for child in place.children:
            node.store.append(child, rows[child])
        rows[name] = node.store.read_all()
    for device in after.tier(Tier.DEVICE):
        had = set(_ancestors(before, device))
        for parent in _ancestors(after, device):
            above = after.places[parent].parent
            if parent in had or above is None:
                break
            traffic.add(Link(parent, above), above, rows[device].nbytes)


def _ancestors(tree: Tree, node: NodeId) -> list[NodeId]:
    """From the parent to the cloud."""
    found, at = [], tree.places[node].parent
    while at is not None:
        found.append(at)
        at = tree.places[at].parent
    return found


class Migration:
    """Where everybody is: `tree` after the moves made so far, `present` without those who are on their way."""

    def __init__(self, config: SimulationConfig, tree: Tree) -> None:
        self.tree = self.present = tree
        self._seed = config.seed
        self._waiting = sorted(enumerate(config.moves), key=lambda pair: pair[1].round)
        self._until: dict[NodeId, int] = {}  # device -> the round it takes part in again

    def advance(self, number: int, nodes: Mapping[NodeId, Node], traffic: Traffic) -> None:
        """Make the moves that are due before round `number`; those of earlier rounds, in a resumed run, count no
        traffic again."""
        while self._waiting and self._waiting[0][1].round <= number:
            i, move = self._waiting.pop(0)
            chosen = choose(self.tree, move, self._seed, i)
            after = self.tree.moved(chosen)
            rehome(self.tree, after, nodes, traffic if move.round == number else Traffic())
            self.tree = after
            self._until |= dict.fromkeys(chosen, move.round + move.away)
        self.present = self.tree.without([n for n, until in self._until.items() if until > number])
        for place in self.present.places.values():
            nodes[place.id].place = place
