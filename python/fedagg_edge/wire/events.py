"""What a child end tells its node: what came of the answers. Data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass

from fedagg_edge.records import NodeId
from fedagg_edge.wire.messages import Artefact, Notice, Problem, Welcome

__all__ = [
    "ArtefactArrived",
    "EntriesTaken",
    "EntryCommitted",
    "Event",
    "Finished",
    "KnowledgeAccepted",
    "KnowledgeArrived",
    "Moved",
    "NoticeArrived",
    "ReceiptsTaken",
    "Refused",
    "Settled",
    "Welcomed",
]


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The parent answered hello."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class EntryCommitted:
    """The parent has committed an own batch as entry `entry`."""

    key: int
    entry: int


@dataclass(frozen=True, slots=True)
class EntriesTaken:
    """Entries that the parent wrote are in the own log now."""

    count: int


@dataclass(frozen=True, slots=True)
class KnowledgeArrived:
    """The parent's knowledge of this version is in the state."""

    version: int


@dataclass(frozen=True, slots=True)
class KnowledgeAccepted:
    """The parent has committed this node's knowledge up to this version."""

    version: int


@dataclass(frozen=True, slots=True)
class NoticeArrived:
    """News that is neither entry nor knowledge; told again until `ChildEnd.noticed` is raised past it."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class ReceiptsTaken:
    """The parent has committed these receipts."""

    receipts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ArtefactArrived:
    """An artefact that was asked for with `ChildEnd.fetch`; its signature is for the caller to check."""

    artefact: Artefact
    content: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """This node's log is the new parent's: the move number `fence` is over."""

    fence: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A node that moved is below this one now."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Finished:
    """The training is over."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The parent refused a request for good; what it was about waits for a person, or for another certificate."""

    status: int
    problem: Problem


Event = (
    Welcomed
    | EntryCommitted
    | EntriesTaken
    | KnowledgeArrived
    | KnowledgeAccepted
    | NoticeArrived
    | ReceiptsTaken
    | ArtefactArrived
    | Moved
    | Settled
    | Finished
    | Refused
)
