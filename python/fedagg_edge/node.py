"""One node: the parts it owns, and how it does what its program asks of it.

A device has private samples and a parent, an edge children and a parent, the cloud children: one class, different
parts. What goes over a link (`Publish`, `Receive`, `SendEmbeddings`, `ReceiveEmbeddings`) is the driver's affair;
everything a node can do by itself is `perform`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.bridge import Bridge
from fedagg_edge.config import Hyperparameters
from fedagg_edge.distill import Encode, Predict, Received, Request, Store, Train
from fedagg_edge.errors import DataError, LocalProtocolError, RemoteProtocolError
from fedagg_edge.learners.base import Learner
from fedagg_edge.packing import pack, unpack
from fedagg_edge.passes import Lesson, TrainReport, bridge_logits, train_pass
from fedagg_edge.records import Embeddings, Knowledge, Link, LogitsFormat, NodeId, SampleSet
from fedagg_edge.samples import PrivateSamples
from fedagg_edge.seeds import derive, stream
from fedagg_edge.store import EmbeddingStore
from fedagg_edge.teachers import Rectifier, ensemble, trust_weights
from fedagg_edge.tree import Place
from fedagg_edge.views import Views, draw_views

__all__ = ["Node"]


@dataclass(slots=True)
class Node:
    """A node and all it owns. `samples` is a device's; nobody else has any. `rectifier`: its queues belong to
    the node's checkpoint. `views`: how bridge samples are seen, the same for all nodes of a tree."""

    place: Place
    federation: str
    classes: int
    seed: int
    learner: Learner
    bridge: Bridge
    store: EmbeddingStore
    hyperparameters: Hyperparameters
    knowledge_format: LogitsFormat
    samples: PrivateSamples | None = None
    rectifier: Rectifier | None = None
    views: Views = "plain"
    _said: dict[Link, tuple[int, Received]] = field(default_factory=dict)
    """What a node with a teacher ensemble was last taught by each child, and in which of its rounds."""

    def perform(self, request: Request, version: int) -> Embeddings | Knowledge | TrainReport | None:
        """Do one request of the program for round `version`; raise LocalProtocolError for one that needs the driver."""
        match request:
            case Encode():
                return self._encode()
            case Store(child, embeddings):
                self.store.append(child, embeddings)
                return None
            case Predict(link, knowledge_version):
                return self._predict(link, knowledge_version)
            case Train(received, phase):
                return self._train(received, phase, version)
            case _:
                raise LocalProtocolError(f"{self.place.id}: {type(request).__name__} is not for the node to perform")

    def embeddings(self, link: Link) -> Embeddings:
        """The embeddings that this node shares with its neighbour on `link`: those of the leaves below the child."""
        return self.store.read_all() if link.child == self.place.id else self.store.read(link.child)

    def _named(self, knowledge: Knowledge) -> tuple[SampleSet, Embeddings]:
        """The sample set that the knowledge's rows follow, and what this node still has of it."""
        own = knowledge.link.child == self.place.id
        try:
            return self.store.named(None if own else knowledge.link.child, knowledge.digest)
        except DataError as e:
            raise RemoteProtocolError(f"knowledge on {knowledge.link}: {e}") from None

    def rows_in(self, received: Received) -> int:
        """How many rows a pass over it would have; raise RemoteProtocolError if it does not fit this node."""
        return len(self._lesson(received).label_N)

    def _encode(self) -> Embeddings:
        samples = self._private()
        return Embeddings(samples.samples, self.bridge.encode(samples.x_N), samples.y_N)

    def _predict(self, link: Link, version: int) -> Knowledge:
        shared = self.embeddings(link)
        seed = self.view_seed(link, self.place.id, version)
        view_NA = draw_views(self.views, seed, len(shared), self.bridge.sample_shape)
        logits_NC = bridge_logits(self.learner, self.bridge, shared.code_NB, view_NA)
        packed = pack(logits_NC, self.knowledge_format)
        return Knowledge(self.federation, link, self.place.id, version, shared.samples.digest, seed, packed)

    def view_seed(self, link: Link, publisher: NodeId, version: int) -> int:
        """The view on which `publisher` gives its knowledge of this version: new each time, 0 where views are plain."""
        return 0 if self.views == "plain" else derive(self.seed, "view", publisher, str(link), version) | 1

    def _train(self, received: tuple[Received, ...], phase: str, version: int) -> TrainReport:
        lesson, rng = self.study(received, phase, version)
        return train_pass(self.learner, self.bridge, lesson, self.settings(received, version), rng)

    def settings(self, received: tuple[Received, ...], version: int) -> Hyperparameters:
        """The hyperparameters of a pass against that knowledge: of its round and of its links."""
        by_parent = any(r.knowledge.link.child == self.place.id for r in received)
        return self.hyperparameters.at(version).taught_by("parent" if by_parent else "children")

    def study(self, received: tuple[Received, ...], phase: str, version: int) -> tuple[Lesson, np.random.Generator]:
        """What a `Train` request's pass learns from, and its random stream."""
        rng = stream(self.seed, "train", self.place.id, version, phase)
        return self._judged(_join([self._assembled(self._lesson(r), r, version) for r in received])), rng

    def _assembled(self, lesson: Lesson, received: Received, version: int) -> Lesson:
        """The lesson with the parent's logits joined by those that the children taught in this round.

        Nothing outlives a round, so a checkpoint between rounds need not hold it.
        """
        rule, link = self.hyperparameters.teacher_ensemble, received.knowledge.link
        if rule == "none" or not self.place.children:
            return lesson
        if link.child != self.place.id:
            self._said[link] = version, received
            return lesson
        held = self._named(received.knowledge)[1].samples
        others = []
        for round_of, said in self._said.values():
            if round_of == version:
                named, still = self._named(said.knowledge)
                teacher_NC = named.select(unpack(said.knowledge.rows_of(named, self.classes)), still.samples)
                others.append((still.samples.contains(held), teacher_NC))
        self._said.clear()
        assert lesson.teacher_NC is not None
        return dataclasses.replace(lesson, teacher_NC=ensemble(lesson.teacher_NC, others, rule))

    def _judged(self, lesson: Lesson) -> Lesson:
        """The lesson with its teachers mended and weighted as the hyperparameters ask."""
        teacher_NC, weight_N = lesson.teacher_NC, lesson.teacher_weight_N
        if teacher_NC is None:
            return lesson
        if self.rectifier is not None:
            teacher_NC = self.rectifier.rectify(teacher_NC, lesson.label_N)
        trust_N = trust_weights(teacher_NC, lesson.label_N, self.hyperparameters.teacher_trust)
        if trust_N is not None:
            weight_N = trust_N if weight_N is None else weight_N * trust_N
        return dataclasses.replace(lesson, teacher_NC=teacher_NC, teacher_weight_N=weight_N)

    def _lesson(self, received: Received) -> Lesson:
        """Row by row what one neighbour teaches: only samples that this node still has, and a leaf's private ones."""
        knowledge = received.knowledge
        if knowledge.federation != self.federation:
            raise RemoteProtocolError(
                f"{self.place.id}: got knowledge of federation {knowledge.federation!r}, expected {self.federation!r}"
            )
        if knowledge.view_seed and self.views == "plain":
            raise RemoteProtocolError(
                f"knowledge on {knowledge.link}: got logits on view {knowledge.view_seed} of the bridge samples, this "
                "node sees them plainly; give all nodes the same views"
            )
        named, held = self._named(knowledge)
        view_NA = draw_views(self.views, knowledge.view_seed, len(named), self.bridge.sample_shape)
        teacher_NC = unpack(knowledge.rows_of(named, self.classes))
        if self.samples is not None:  # a leaf trains on what it still has in private
            held = held.only(self.samples.samples)
        teacher_NC = named.select(teacher_NC, held.samples)
        view_NA = None if view_NA is None else named.select(view_NA, held.samples)
        private_x_N = None if self.samples is None else self.samples.take(held.samples)[0]
        weight_N = None
        if received.age:
            weight = (1.0 + received.age) ** -self.hyperparameters.staleness
            weight_N = np.full(len(held), weight, np.float32)
        return Lesson(held.label_N, held.code_NB, teacher_NC, private_x_N, weight_N, view_NA)

    def _private(self) -> PrivateSamples:
        if self.samples is None:
            raise LocalProtocolError(f"{self.place.id}: this {self.place.tier} has no private samples to encode")
        return self.samples


def _join(lessons: list[Lesson]) -> Lesson:
    """Several links' lessons as one, to be shuffled together; a device has one link, so no private samples here."""
    if len(lessons) == 1:
        return lessons[0]
    return Lesson(
        np.concatenate([part.label_N for part in lessons]),
        np.concatenate([part.code_NB for part in lessons if part.code_NB is not None]),
        np.concatenate([part.teacher_NC for part in lessons if part.teacher_NC is not None]),
        teacher_weight_N=_join_weights(lessons),
        view_NA=_join_views(lessons),
    )


def _join_views(lessons: list[Lesson]) -> NDArray[np.int16] | None:
    """The views of all rows; all lessons have some or none."""
    found = [part.view_NA for part in lessons if part.view_NA is not None]
    return np.concatenate(found) if found else None


def _join_weights(lessons: list[Lesson]) -> NDArray[np.float32] | None:
    """The weights of all rows, or None while all knowledge is fresh."""
    if all(part.teacher_weight_N is None for part in lessons):
        return None
    ones = (np.ones(len(part.label_N), np.float32) for part in lessons)
    return np.concatenate(
        [
            one if part.teacher_weight_N is None else part.teacher_weight_N
            for part, one in zip(lessons, ones, strict=True)
        ]
    )
