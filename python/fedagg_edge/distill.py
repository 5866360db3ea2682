"""FedAgg as pure code: one generator per node, which yields what it needs and is resumed with it.

Nothing here opens a socket, a file or a clock, holds a model or sees an array. A driver runs the programs: the
simulator in the order in which they unblock, a fleet node by what arrives over its links. Equations and algorithms are
the paper's (Wu et al., "Agglomerative Federated Learning", INFOCOM 2024, arXiv 2312.11489).

What a program may yield:

    Encode                  -> Embeddings   make embeddings of this node's private samples
    Store(child, rows)      -> None         keep embeddings that came through a child
    SendEmbeddings(to)      -> None         hand everything this node holds to its parent
    ReceiveEmbeddings(link) -> Embeddings   wait for a child's embeddings
    Predict(link, version)  -> Knowledge    this node's logits on the link's bridge samples, in evaluation mode
    Publish(knowledge)      -> None         give it to the neighbour on the link
    Receive(link, version)  -> Received     wait for the neighbour's knowledge of that version
    Gather(links, version)  -> Received...  wait for all children's; a driver with a deadline may give some an older one
    Freshest(links)         -> Received...  what has come and was not trained on yet; never waits
    Train(received)         -> TrainReport  train on the links' bridge samples against that knowledge
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal

from fedagg_edge.records import Embeddings, Knowledge, Link, NodeId, Tier
from fedagg_edge.tree import Place

__all__ = [
    "SCHEDULES",
    "Encode",
    "Freshest",
    "Gather",
    "Predict",
    "Program",
    "Publish",
    "Receive",
    "ReceiveEmbeddings",
    "Received",
    "Request",
    "SendEmbeddings",
    "Store",
    "Train",
    "init",
    "round_async",
    "round_sequential",
    "round_snapshot",
]


@dataclass(frozen=True, slots=True)
class Encode:
    """Make embeddings of all private samples: e = enc(X), once per sample."""


@dataclass(frozen=True, slots=True)
class Store:
    """Keep embeddings that came through `child` (a leaf's own come through itself)."""

    child: NodeId
    embeddings: Embeddings


@dataclass(frozen=True, slots=True)
class SendEmbeddings:
    """Hand all embeddings that this node holds to its parent."""

    link: Link
    embeddings: Embeddings


@dataclass(frozen=True, slots=True)
class ReceiveEmbeddings:
    """Wait for the embeddings of the leaves below the link's child."""

    link: Link


@dataclass(frozen=True, slots=True)
class Predict:
    """Extract logits z = f(dec(e); W) on the bridge samples of `link`."""

    link: Link
    version: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Send knowledge to the neighbour."""

    knowledge: Knowledge


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the neighbour's knowledge on `link`, of this version (a fleet may answer with a newer one)."""

    link: Link
    version: int


@dataclass(frozen=True, slots=True)
class Gather:
    """Wait for all children's knowledge of this version. A fleet that has waited long enough answers with what it has:
    a straggler's older knowledge, its age beside it, or nothing of a child that never spoke."""

    links: tuple[Link, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Freshest:
    """The newest knowledge of each link that was not trained on yet; a link without any is left out."""

    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Received:
    """Knowledge as it arrived. `age`: how many of the receiver's versions lie between the one it was based on, or was
    asked for, and the present one; 0 is fresh."""

    knowledge: Knowledge
    age: int = 0


@dataclass(frozen=True, slots=True)
class Train:
    """Train on L_nl (eq. 2), a leaf on L_leaf (eq. 4), against the teachers' knowledge; several links are shuffled
    together. `phase` tells the passes of one round apart, for their random streams."""

    received: tuple[Received, ...]
    phase: str


Request = Encode | Store | SendEmbeddings | ReceiveEmbeddings | Predict | Publish | Receive | Gather | Freshest | Train
Program = Generator[Request, Any, None]


def init(place: Place) -> Program:
    """Algorithm 2, init: embeddings and labels go up tier by tier, and every ancestor stores them."""
    if place.tier is Tier.DEVICE:
        own = yield Encode()
        yield Store(place.id, own)
        held = [own]
    else:
        held = []
        for child in place.children:
            rows = yield ReceiveEmbeddings(place.link_to(child))
            yield Store(child, rows)
            held.append(rows)
    if place.link is not None:
        yield SendEmbeddings(place.link, Embeddings.merge(held))


def round_sequential(place: Place, version: int) -> Program:
    """Algorithm 2, round(v), as the paper has it: each child in turn meets this node's latest weights, then this node
    meets its parent."""
    for child in place.children:
        yield from _teach(place.link_to(child), version)
        yield from _learn(place.link_to(child), version)
    if place.link is not None:
        yield from _learn(place.link, version)
        yield from _teach(place.link, version)


def round_snapshot(place: Place, version: int) -> Program:
    """One round in which siblings are independent: this node publishes to all its children before anything else, then
    trains on all their knowledge shuffled together, then meets its parent."""
    for child in place.children:
        yield from _teach(place.link_to(child), version)
    if place.children:
        received = yield Gather(_links(place), version)
        if received:
            yield Train(received, phase="children")
    if place.link is not None:
        yield from _learn(place.link, version)
        yield from _teach(place.link, version)


def round_async(place: Place, version: int) -> Program:
    """One turn of a node that never waits: it publishes to its children, trains on what they have said since, then on
    what its parent has said since, and publishes to its parent. `version` is the node's own count of its turns."""
    for child in place.children:
        yield from _teach(place.link_to(child), version)
    if place.children:
        received = yield Freshest(_links(place))
        if received:
            yield Train(received, phase="children")
    if place.link is not None:
        received = yield Freshest((place.link,))
        if received:
            yield Train(received, phase=str(place.link))
        yield from _teach(place.link, version)


def _links(place: Place) -> tuple[Link, ...]:
    return tuple(place.link_to(child) for child in place.children)


def _teach(link: Link, version: int) -> Program:
    """BSBODP-directional, the teacher's half (Algorithm 1): logits on bridge samples, sent to the student."""
    knowledge = yield Predict(link, version)
    yield Publish(knowledge)


def _learn(link: Link, version: int) -> Program:
    """BSBODP-directional, the student's half (Algorithm 1): wait for the teacher's logits, train on them."""
    received = yield Receive(link, version)
    yield Train((received,), phase=str(link))


Schedule = Literal["sequential", "snapshot"]

SCHEDULES: dict[Schedule, Callable[[Place, int], Program]] = {
    "sequential": round_sequential,
    "snapshot": round_snapshot,
}
