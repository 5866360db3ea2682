"""Bridge-only: FedAgg's data flow without its distillation, to show what distillation itself buys.

Embeddings and labels go up once, as in Algorithm 2's init. Then every node trains by itself on labels: inner nodes on
the bridge samples of the leaves below them (eq. 2 with beta = 0), devices on private and bridge samples (eq. 4 with
beta = 0). Passes, their order and their random streams are those of FedAgg's schedule, so the weights are those of a
FedAgg run with beta = 0 everywhere, to the bit, and only the knowledge is not sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import msgspec
import numpy as np

from fedagg_edge.node import Node
from fedagg_edge.passes import Lesson, train_pass
from fedagg_edge.records import Link
from fedagg_edge.seeds import stream
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.fedagg import FedAgg
from fedagg_edge.simulation.method import OnTrain
from fedagg_edge.tree import Place
from fedagg_edge.views import draw_views

__all__ = ["BridgeOnly", "lessons"]


class BridgeOnly(FedAgg):
    """Labels alone on bridge samples: beta = 0, nobody distils, nothing is sent after the embeddings."""

    name: ClassVar[str] = "bridge-only"
    title: ClassVar[str] = "bridge-only"

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """Every node's passes of one round, on labels."""
        self.migration.advance(number, self.world.nodes, traffic)
        for name in self.migration.present.post_order():
            node = self.world.nodes[name]
            hyperparameters = msgspec.structs.replace(node.hyperparameters.at(number), beta=0.0)
            for phase, links in lessons(node.place, self.world.config.schedule):
                rng = stream(node.seed, "train", name, number, phase)
                report = train_pass(node.learner, node.bridge, _lesson(node, links, number), hyperparameters, rng)
                on_train(name, report.loss)


def lessons(place: Place, schedule: str) -> Iterator[tuple[str, Sequence[Link]]]:
    """The training passes of a node in one round, in order: the phase that names its random stream, and its links."""
    below = [place.link_to(child) for child in place.children]
    if schedule == "sequential":
        yield from ((str(link), [link]) for link in below)
    elif below:
        yield "children", below
    if place.link is not None:
        yield str(place.link), [place.link]


def _lesson(node: Node, links: Sequence[Link], number: int) -> Lesson:
    shared = [node.embeddings(link) for link in links]
    private_x_N = None if node.samples is None else node.samples.take(shared[0].samples)[0]
    label_N, code_NB = (np.concatenate(parts) for parts in zip(*((e.label_N, e.code_NB) for e in shared), strict=True))
    found = []
    for link, part in zip(links, shared, strict=True):
        seed = node.view_seed(link, link.other(node.place.id), number)
        view_NA = draw_views(node.views, seed, len(part), node.bridge.sample_shape)
        if view_NA is not None:
            found.append(view_NA)
    return Lesson(label_N, code_NB, None, private_x_N, view_NA=np.concatenate(found) if found else None)
