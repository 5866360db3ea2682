"""A simulation between rounds: it runs them, keeps score, makes checkpoints and writes what a run leaves behind."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as to_safetensors

from fedagg_edge import checkpoint
from fedagg_edge.files import write_atomic
from fedagg_edge.learners.base import LearnerFactory
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation import references, report, state
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.evaluate import evaluated_nodes, on_own_mix, view_accuracies
from fedagg_edge.simulation.folder import RunFolder
from fedagg_edge.simulation.method import Method
from fedagg_edge.simulation.progress import Progress
from fedagg_edge.simulation.results import SimulationResults

__all__ = ["Experiment"]


@dataclass(slots=True)
class Experiment:
    """A world and the method that trains it, where the run stands, and where it is written.

    `pinned`: digests of data and autoencoder.
    """

    folder: RunFolder
    world: World
    method: Method
    factories: Mapping[str, LearnerFactory]
    pinned: dict[str, str]
    next_round: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    rows: list[dict[str, Any]] = field(default_factory=list)
    metrics_length: int = 0

    @property
    def watched(self) -> tuple[NodeId, ...]:
        """The nodes that are evaluated."""
        trained = self.method.trained
        return tuple(n for n in evaluated_nodes(self.world.tree, self.world.config.evaluation.devices) if n in trained)

    def init(self) -> None:
        """What comes before round 0; a resumed run does it again, its traffic already counted."""
        traffic = Traffic()
        self.method.init(traffic)
        if self.next_round == 0:
            self.traffic = traffic

    def rounds(self, progress: Progress) -> None:
        """Run what is left of the configured rounds."""
        config = self.world.config
        progress.start(self.next_round, config.rounds, self.method.passes())
        for number in range(self.next_round, config.rounds):
            began = time.monotonic()
            losses = self._round(number, progress)
            row = self._row(number, losses, time.monotonic() - began)
            self.rows.append(row)
            self.metrics_length = self.folder.append_metrics(row)
            last = number + 1 == config.rounds
            if last or (number + 1) % config.checkpoint_every == 0:
                self._checkpoint(number)
            progress.finished(number, _summary(row, self.world))

    def _round(self, number: int, progress: Progress) -> dict[NodeId, float]:
        losses: dict[NodeId, list[float]] = {}

        def on_train(node: NodeId, loss: float) -> None:
            losses.setdefault(node, []).append(loss)
            progress.trained(node)

        self.method.round(number, self.traffic, on_train)
        return {n: float(np.mean(v)) for n, v in losses.items()}

    def _row(self, number: int, losses: Mapping[NodeId, float], seconds: float) -> dict[str, Any]:
        config = self.world.config
        due = (number + 1) % config.evaluation.every == 0 or number + 1 == config.rounds
        scores = {**self._scores(), **self._views()} if due else {"accuracy": None}
        return {
            "schema": 1,
            "round": number,
            **scores,
            "loss": dict(losses),
            "bytes": self.traffic.total(),
            "seconds": round(seconds, 3),
        }

    def _scores(self) -> dict[str, dict[NodeId, float]]:
        """``accuracy`` of each watched node on the common test set, ``own`` of each device on its own mix of classes
        (without devices that have no class of the test set)."""
        arrays, places = self.world.arrays, self.world.tree.places
        hits = self.method.hits(self.watched, arrays.test_x_N, arrays.test_y_N)
        own = {
            n: on_own_mix(right_N, arrays.test_y_N, arrays.train_y_N[arrays.rows_of[n]])
            for n, right_N in hits.items()
            if places[n].tier is Tier.DEVICE
        }
        return {
            "accuracy": {n: float(right_N.mean()) for n, right_N in hits.items()},
            "own": {n: share for n, share in own.items() if share is not None},
        }

    def _views(self) -> dict[str, dict[str, float]]:
        """The cloud's accuracy in each configured view: ``views`` on the test set and, where the data has one,
        ``validation`` on that; nothing where only raw samples are asked for, or the method has no cloud."""
        arrays, views, bridge = self.world.arrays, self.world.config.evaluation.views, self.world.bridge
        logits = self.method.cloud_logits()
        if views == ("raw",) or logits is None:
            return {}
        found = {"views": view_accuracies(logits, bridge, arrays.test_x_N, arrays.test_y_N, views)}
        if arrays.validation_x_N is not None and arrays.validation_y_N is not None:
            found["validation"] = view_accuracies(logits, bridge, arrays.validation_x_N, arrays.validation_y_N, views)
        return found

    def _checkpoint(self, number: int) -> None:
        tensors, nodes = self.method.snapshot()
        meta = {
            "nodes": nodes,
            "traffic": state.snapshot_traffic(self.traffic),
            "metrics_length": self.metrics_length,
            **self.pinned,
        }
        checkpoint.save(self.folder.checkpoints, checkpoint.Checkpoint(number, tensors, meta))

    def finish(self, progress: Progress) -> SimulationResults:
        """Train the references, then write results, pictures and the cloud's model."""
        world, alone, bound = self.world, None, None
        if self.rows[-1]["accuracy"] is None:  # resumed with fewer rounds than were planned
            self.rows[-1] = {**self.rows[-1], **self._scores(), **self._views()}
        some = evaluated_nodes(world.tree, world.config.evaluation.devices)
        devices = [n for n in some if world.tree.places[n].tier is Tier.DEVICE]
        if world.config.evaluation.references:
            progress.stage(f"references: {len(devices)} devices alone, the cloud's model on all private data")
            passes = itertools.count(1)
            total = (len(devices) + 1) * world.config.rounds

            def on_pass() -> None:
                progress.part(next(passes), total, "passes")

            alone = references.alone(world, devices, self.factories, on_pass)
            bound = references.centralised(world, self.factories, on_pass)
        results = self._results(alone, bound)
        write_atomic(self.folder.results, json.dumps(report.as_json(results), indent=1).encode())
        self._write_cloud()
        self._draw(results, progress)
        return results

    def _results(self, alone: references.Alone | None, bound: float | None) -> SimulationResults:
        scored = [r for r in self.rows if r["accuracy"] is not None]
        places = self.world.tree.places
        moved = [self.traffic.of(d) for d in self.world.tree.tier(Tier.DEVICE)]
        return SimulationResults(
            folder=self.folder.root,
            method=self.method.name,
            title=self.method.title,
            round_R=np.array([r["round"] for r in scored], np.int64),
            nodes=self.watched,
            tiers=tuple(places[n].tier for n in self.watched),
            accuracy_RV=np.array([[r["accuracy"][n] for n in self.watched] for r in scored], float),
            alone=None if alone is None else alone.common,
            alone_own=None if alone is None else alone.own,
            centralised=bound,
            bytes_total=self.traffic.total(),
            bytes_per_device=float(np.mean(moved)),
            seconds=sum(r["seconds"] for r in self.rows),
            views_R=_by_view(scored, "views"),
            validation_R=_by_view(scored, "validation"),
            own_R=_own(scored),
        )

    def _write_cloud(self) -> None:
        arrays = self.method.product()
        if arrays is None:
            return
        write_atomic(self.folder.cloud, to_safetensors({k: np.ascontiguousarray(v) for k, v in arrays.items()}))

    def _draw(self, results: SimulationResults, progress: Progress) -> None:
        try:
            from fedagg_edge.simulation.pictures import draw_bridge, draw_curves  # noqa: PLC0415

            draw_curves(results, self.folder.curves)
            world = self.world
            private_x_N = world.arrays.train_x(world.arrays.rows_of[world.tree.tier(Tier.DEVICE)[0]][:8])
            draw_bridge(private_x_N, world.bridge.decode(world.bridge.encode(private_x_N)), self.folder.bridge)
        except ImportError:
            progress.stage("no pictures: matplotlib is missing; pip install 'fedagg-edge[sim]'")


def _by_view(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, NDArray[np.float64]]:
    """View -> accuracy by round, as far as the rows have it."""
    return {view: np.array([row[key][view] for row in rows], float) for view in rows[-1].get(key, {})}


def _own(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """The devices' mean on their own mixes by round; NaN in rounds that an older version ran, and without devices."""
    means = [np.mean([*row["own"].values()]) if row.get("own") else np.nan for row in rows]
    return np.array(means, float)


def _summary(row: Mapping[str, Any], world: World) -> str:
    if row["accuracy"] is None:
        return ""
    parts = []
    for tier in (Tier.CLOUD, Tier.EDGE, Tier.DEVICE):
        scores = [a for n, a in row["accuracy"].items() if world.tree.places[n].tier is tier]
        if scores:
            parts.append(f"{tier.value} {100 * float(np.mean(scores)):.1f}%")
    return "  ".join(parts)
