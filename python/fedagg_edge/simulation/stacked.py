"""Devices that are alike train as one stacked model, for FedAgg under the `snapshot` schedule.

`reason` is the one predicate that says which devices may; whatever it does not know stays one by one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fedagg_edge.config import Hyperparameters, SimulationConfig
from fedagg_edge.distill import Train
from fedagg_edge.errors import ConfigError
from fedagg_edge.node import Node
from fedagg_edge.passes import Lesson, TrainReport, batch_rows, mean_report, measure_norms, pass_batches
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.simulation.driver import Job

if TYPE_CHECKING:
    from fedagg_edge.learners.base import Batch, StepReport
    from fedagg_edge.learners.torch import TorchLearner

__all__ = ["Stacked", "chosen", "reason"]

_CHUNK = 16  # devices a stacked step: more gain little at 3x32x32 and hold more (docs/decisions/stacked-devices.md)

# "auto" leaves larger models one by one: an MLP of 98,666 values was measured to be slower stacked
_AUTO_VALUES = 50_000

# the hyperparameters whose meaning a stacked pass keeps; another one that is not at its default keeps devices apart
_KNOWN = {
    *("learning_rate", "optimizer", "momentum", "weight_decay", "batch_size", "epochs", "temperature", "beta"),
    *("learning_rate_schedule", "decay_rounds", "decay_factor"),
    *("gamma", "kl", "temperature_on", "staleness", "engine", "teacher_trust", "rectification"),
    *("parent_temperature", "children_temperature", "distillation", "target_weight", "non_target_weight"),
    *("parent_beta", "children_beta"),
    "teacher_ensemble",  # of nodes with children
    "batch_norm_rows",  # each by itself, after the stacked pass
}


def reason(node: Node) -> str | None:
    """Why this node cannot train in a stack; None if it can."""
    from fedagg_edge.learners.stacked import stack_key  # noqa: PLC0415  # torch loads when it is wanted

    if node.place.tier is not Tier.DEVICE:
        return f"it is of the {node.place.tier} tier"
    for field in msgspec.structs.fields(Hyperparameters):
        if field.name not in _KNOWN and getattr(node.hyperparameters, field.name) != field.default:
            return f"its option {field.name} is not known to stacked training"
    if stack_key(node.learner) is None:
        return "its model is not a plain torch Sequential of layers that can be stacked"
    return None


def chosen(config: SimulationConfig, nodes: Mapping[NodeId, Node]) -> Stacked | None:
    """What the configuration's `stacked` asks for; raise ConfigError if it says true and a device cannot."""
    if config.stacked is False:
        return None
    if config.schedule != "snapshot":
        if config.stacked == "auto":
            return None
        raise ConfigError(
            f"stacked: got true with schedule {config.schedule!r}, in which siblings train in turn; "
            'take schedule = "snapshot", or stacked = false'
        )
    able = set()
    for name, node in nodes.items():
        why = reason(node)
        if why is None:
            if config.stacked is True or _values(node) <= _AUTO_VALUES:
                able.add(name)
        elif config.stacked is True and node.place.tier is Tier.DEVICE:
            raise ConfigError(f'stacked: got true, but {name} cannot be stacked: {why}; take "auto" or false')
    return Stacked(able)


def _values(node: Node) -> int:
    return sum(entry.size for entry in node.learner.state().table)


class Stacked:
    """A `simulation.driver.Together` of the named nodes."""

    def __init__(self, able: set[NodeId]) -> None:
        self._able = able

    def joins(self, node: Node) -> bool:
        """See `Together.joins`."""
        return node.place.id in self._able

    def parts(self, jobs: Mapping[NodeId, Job]) -> list[dict[NodeId, Job]]:
        """See `Together.parts`: nodes of equal models and hyperparameters in chunks, those of like size together."""
        from fedagg_edge.learners.stacked import stack_key  # noqa: PLC0415  # torch loads when it is wanted

        alike: dict[Hashable, list[NodeId]] = {}
        for name, (node, _) in jobs.items():
            alike.setdefault((stack_key(node.learner), node.hyperparameters), []).append(name)
        chunks = []
        for names in alike.values():
            names.sort(key=lambda n: len(jobs[n][0].samples or ()))
            chunks += [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]
        return [{name: jobs[name] for name in chunk} for chunk in chunks]

    def train(self, jobs: Mapping[NodeId, Job], version: int) -> dict[NodeId, TrainReport]:
        """See `Together.train`."""
        reports: dict[NodeId, list[tuple[StepReport, int]]] = {name: [] for name in jobs}
        studies = {name: _study(node, request, version) for name, (node, request) in jobs.items()}
        pending = {name: pass_batches(jobs[name][0].bridge, *study) for name, study in studies.items()}
        while pending:
            # devices whose batches have the same shapes step together; the last batch of a device may be on its own
            groups: dict[Hashable, dict[NodeId, Batch]] = {}
            for name in list(pending):
                batch = next(pending[name], None)
                if batch is None:
                    del pending[name]
                else:
                    groups.setdefault(_shape(batch), {})[name] = batch
            for group in groups.values():
                for name, report in _step(jobs, group, version).items():
                    reports[name].append((report, batch_rows(group[name])))
        for name, study in studies.items():
            node = jobs[name][0]
            measure_norms(node.learner, node.bridge, *study)
        return {name: mean_report(parts) for name, parts in reports.items()}


def _study(node: Node, request: Train, version: int) -> tuple[Lesson, Hyperparameters, np.random.Generator]:
    lesson, rng = node.study(request.received, request.phase, version)
    rng.integers(2**63)  # the learner's seed in `train_pass`: nothing that can be stacked is random
    return lesson, node.hyperparameters, rng


def _shape(batch: Batch) -> Hashable:
    return len(batch.bridge_x_N), None if batch.private_x_N is None else len(batch.private_x_N)


def _step(jobs: Mapping[NodeId, Job], group: Mapping[NodeId, Batch], version: int) -> dict[NodeId, StepReport]:
    from fedagg_edge.learners.stacked import stacked_step  # noqa: PLC0415  # torch loads when it is wanted

    nodes = [jobs[name][0] for name in group]
    hyperparameters = nodes[0].settings(next(jobs[name][1].received for name in group), version)
    if len(nodes) == 1:
        return {name: nodes[0].learner.step(batch, hyperparameters) for name, batch in group.items()}
    learners: list[TorchLearner] = [node.learner for node in nodes]  # type: ignore[misc]  # `reason` saw to it
    found = stacked_step(learners, list(group.values()), hyperparameters)
    return dict(zip(group, found, strict=True))
