"""FedAgg as a method of the simulator: its nodes' programs, driven in Algorithm 2's order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fedagg_edge import distill
from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.base import DrawsShared, Learner
from fedagg_edge.passes import TrainReport
from fedagg_edge.records import NodeId
from fedagg_edge.simulation import stacked
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.driver import Traffic, drive
from fedagg_edge.simulation.method import Factories, OnTrain, Tensors, Trained
from fedagg_edge.simulation.moves import Migration

__all__ = ["FedAgg"]


class FedAgg(Trained):
    """Wu et al., INFOCOM 2024, arXiv 2312.11489, Algorithm 2, in the configured schedule."""

    name: ClassVar[str] = "fedagg"
    title: ClassVar[str] = "FedAgg"
    needs_nodes: ClassVar[bool] = True

    def __init__(self, world: World, factories: Factories) -> None:
        super().__init__(world, factories)
        if set(world.nodes) != set(world.tree.places):
            raise ConfigError(f"{self.name}: the world was built without nodes, expected one a place of the tree")
        self.migration = Migration(world.config, world.tree)
        self.learners = {n: node.learner for n, node in world.nodes.items()}
        if world.config.workers > 1:
            _refuse_shared_randomness(self.learners)
        self.together = stacked.chosen(world.config, world.nodes) if type(self) is FedAgg else None

    def passes(self) -> int:
        """See `Method.passes`."""
        places = self.world.tree.places.values()
        from_children = sum(len(p.children) for p in places)
        if self.world.config.schedule == "snapshot":
            from_children = sum(1 for p in places if p.children)
        return from_children + len(places) - 1

    def init(self, traffic: Traffic) -> None:
        """Algorithm 2, init. Encoding is deterministic, so a resumed run does it again rather than storing it."""
        tree = self.world.tree
        programs = {n: distill.init(tree.places[n]) for n in tree.post_order()}
        drive(
            programs, self.world.nodes, version=0, traffic=traffic
        )  # one by one: who encodes first makes the networks

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """Algorithm 2, round, after the moves that are due before it."""
        self.migration.advance(number, self.world.nodes, traffic)
        tree, schedule = self.migration.present, distill.SCHEDULES[self.world.config.schedule]
        programs = {n: schedule(tree.places[n], number) for n in tree.post_order()}

        def on_report(node: NodeId, done: TrainReport) -> None:
            on_train(node, done.loss)

        drive(
            programs,
            self.world.nodes,
            version=number,
            traffic=traffic,
            on_train=on_report,
            together=self.together,
            workers=self.world.config.workers,
        )

    def snapshot(self) -> tuple[Tensors, dict[str, Any]]:
        """See `Method.snapshot`; the queues of rectification lie beside the learners as ``<node>/rectifier/<name>``."""
        tensors, meta = super().snapshot()
        for name, node in self.world.nodes.items():
            if node.rectifier is not None:
                tensors |= {f"{name}/rectifier/{key}": array for key, array in node.rectifier.state().items()}
        return tensors, meta

    def restore(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """See `Method.restore`."""
        super().restore(tensors, meta)
        for name, node in self.world.nodes.items():
            if node.rectifier is not None:
                start = f"{name}/rectifier/"
                own = {key.removeprefix(start): array for key, array in tensors.items() if key.startswith(start)}
                node.rectifier.load_state(own)


def _refuse_shared_randomness(learners: Mapping[NodeId, Learner]) -> None:
    """Raise ConfigError if two nodes at a time would draw from one random stream: torch has one for a process."""
    for name, learner in learners.items():
        if isinstance(learner, DrawsShared) and learner.draws_shared:
            raise ConfigError(
                f"workers: got more than 1, but {name}'s model has dropout, which draws from torch's one random "
                "stream: results would vary from run to run; take workers = 1, or a model without it, or "
                'engine = "tflite"'
            )
