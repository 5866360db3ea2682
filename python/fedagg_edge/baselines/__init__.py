"""What FedAgg is compared with, each faithful to its paper, on the same tree, data, seeds and metrics.

`METHODS` is all that ``fedagg simulate --method NAME`` knows, FedAgg among them; docs/baselines.md has their equations.
"""

from __future__ import annotations

from fedagg_edge import plugins
from fedagg_edge.baselines.bridge_only import BridgeOnly
from fedagg_edge.baselines.demlearn import DemLearn
from fedagg_edge.baselines.feddkc import FedDkc
from fedagg_edge.baselines.fedgkt import FedGkt
from fedagg_edge.baselines.hierfavg import FedAvgPerEdge, HierFavg
from fedagg_edge.baselines.references import Alone, Centralised
from fedagg_edge.errors import ConfigError, nearest
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.fedagg import FedAgg
from fedagg_edge.simulation.method import Factories, Method

__all__ = ["METHODS", "find_method", "make_method"]

METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (FedAgg, HierFavg, DemLearn, FedGkt, FedDkc, FedAvgPerEdge, BridgeOnly, Alone, Centralised)
}


def find_method(name: str) -> type[Method]:
    """The method called `name`; raise ConfigError, naming the nearest, if there is none."""
    if name not in METHODS:
        raise ConfigError(f"method: got {name!r}{nearest(name, METHODS)}, expected one of {', '.join(METHODS)}")
    return METHODS[name]


def make_method(kind: type[Method], world: World, factories: Factories) -> Method:
    """Make a method for a world, with the configuration's options for it.

    Raises ConfigError for an unknown option, or for a tree that the method cannot train.
    """
    if world.config.moves and not issubclass(kind, FedAgg):
        raise ConfigError(
            f"moves: {kind.title} cannot train a tree that changes; take {FedAgg.name} or {BridgeOnly.name}"
        )
    for name in world.config.methods:
        find_method(name)
    arguments = {"world": world, "factories": factories, **world.config.methods.get(kind.name, {})}
    made: Method = plugins.call(kind, f"methods.{kind.name}", arguments)
    return made
