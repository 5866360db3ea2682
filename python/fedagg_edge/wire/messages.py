"""The messages: msgpack arrays, fields by position, decoded strictly. docs/protocol.md says what each one means.

Lengths are bounded here by type, so that nothing is allocated for a length that was only claimed; what depends on the
link's `Limits` is checked by the end that receives it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from fedagg_edge.wire.codec import Message, decode, encode
from fedagg_edge.wire.http import MEDIA_TYPE
from fedagg_edge.wire.limits import Limits

__all__ = [
    "APPEND",
    "FORGET",
    "MEDIA_TYPE",
    "NOT_COMPUTED",
    "PROTOCOL",
    "RELEASE",
    "Adopt",
    "Adopted",
    "Append",
    "Appended",
    "Artefact",
    "Behind",
    "Enrol",
    "Enrolled",
    "Entry",
    "Exchange",
    "Exchanged",
    "Hello",
    "Leave",
    "Left",
    "Message",
    "Missing",
    "MoveTo",
    "Notice",
    "Offered",
    "Payload",
    "Problem",
    "Renew",
    "Versions",
    "Welcome",
    "WireKnowledge",
    "decode",
    "encode",
]

PROTOCOL = 1
"""The version this module speaks. Paths begin with it: /v1."""
APPEND, FORGET, RELEASE = 1, 2, 3
"""Kinds of a log's entry: embeddings to add, sample ids to drop, sample ids that went to another parent with a node."""
NOT_COMPUTED = bytes(32)
"""In place of a set's digest: the sender did not compute it."""

Text = Annotated[str, Meta(max_length=256)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Count = Annotated[int, Meta(ge=0, le=2**40)]
Counter = Annotated[int, Meta(ge=0, le=2**62)]
Version = Annotated[int, Meta(ge=-1, le=2**62)]  # -1: none yet
Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Chunks = Annotated[tuple[Digest, ...], Meta(max_length=16_384)]
Blob = Annotated[bytes, Meta(max_length=65_536)]
Receipt = Annotated[bytes, Meta(max_length=4096)]


class Payload(Message, frozen=True):
    """Where bytes are: in `inline`, or in chunks that travel by themselves, named by their SHA-256 in order."""

    size: Count
    digest: Digest  # SHA-256 of all of them
    inline: Annotated[bytes, Meta(max_length=1 << 24)] = b""
    chunks: Chunks = ()


class Versions(msgspec.Struct, array_like=True, frozen=True):
    """The first three fields of Hello, which no version of the protocol changes; more may follow."""

    oldest: Count
    newest: Count
    software: Text


class Hello(Message, frozen=True):
    """Opens a session: who the child is, what it speaks, and the last entry of the log that it knows.

    `labels`: how far up the labels of what it appends may go, "all" the way or to the "first-edge"."""

    oldest: Count
    newest: Count
    software: Text
    node: Name
    role: Name
    federation: Text
    formats: Annotated[tuple[Name, ...], Meta(max_length=16)]
    fence: Counter
    head: Counter
    digest: Digest
    labels: Name


class Artefact(Message, frozen=True):
    """A file that the federation pins: the autoencoder, the trained model."""

    name: Text
    digest: Digest
    size: Count
    signature: Annotated[bytes, Meta(max_length=8192)]  # with the signer's certificate chain in it
    media: Text


class Welcome(Message, frozen=True):
    """The answer to Hello; `version` is the newest knowledge of the child that the parent has committed."""

    protocol: Count
    software: Text
    node: Name
    federation: Text
    classes: Count
    time: Annotated[float, Meta(ge=0, le=1e11)]  # Unix time at the parent
    fence: Counter
    head: Counter
    digest: Digest
    version: Version
    mode: Name
    target: Count  # versions after which the training is over, 0: nobody has said
    finished: bool
    limits: Limits
    artefacts: Annotated[tuple[Artefact, ...], Meta(max_length=32)] = ()


class Offered(Message, frozen=True):
    """What a node has to give to any node of its federation; each travels in parts of `chunk` bytes."""

    chunk: Annotated[int, Meta(ge=256, le=1 << 24)]
    artefacts: Annotated[tuple[Artefact, ...], Meta(max_length=32)]


class Append(Message, frozen=True):
    """Asks for one more entry behind `after`; `key` counts the child's own batches and is never used twice."""

    key: Counter
    after: Counter
    kind: Annotated[int, Meta(ge=APPEND, le=FORGET)]
    rows: Count
    digest: Digest
    payload: Payload
    fence: Counter


class Appended(Message, frozen=True):
    """The entry is committed; `digest` names the set behind it. `already`: it was before."""

    entry: Counter
    digest: Digest
    already: bool


class Entry(Message, frozen=True):
    """An entry of the log. `key` is the child's own, or -1 where the parent wrote it."""

    number: Annotated[int, Meta(ge=1, le=2**62)]
    kind: Annotated[int, Meta(ge=APPEND, le=RELEASE)]
    key: Version
    rows: Count
    digest: Digest  # of the set behind it
    payload: Payload


Entries = Annotated[tuple[Entry, ...], Meta(max_length=1024)]


class Behind(Message, frozen=True):
    """Answers an Append whose `after` is not the head: what the child has missed, oldest first."""

    head: Counter
    entries: Entries


class WireKnowledge(Message, frozen=True):
    """Knowledge without what the link implies: federation, link and publisher are the connection's."""

    version: Counter
    basis: Version  # the receiver's version that it was based on
    digest: Digest  # the sample set that its rows follow
    view_seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    format: Name
    rows: Count
    classes: Count
    payload: Payload


class Exchange(Message, frozen=True):
    """Gives knowledge, or asks for news, or both; held for up to `wait` seconds while there is none."""

    have: Version
    head: Counter
    noticed: Counter
    wait: Seconds
    fence: Counter
    knowledge: WireKnowledge | None = None
    receipts: Annotated[tuple[Receipt, ...], Meta(max_length=64)] = ()


class Notice(Message, frozen=True):
    """News that is neither entry nor knowledge; `body` is msgpack, its shape is the kind's."""

    number: Annotated[int, Meta(ge=1, le=2**62)]
    kind: Name
    body: Blob


class Exchanged(Message, frozen=True):
    """The parent's side: what it has of the child, and what the child has not seen."""

    version: Version
    head: Counter
    entries: Entries
    knowledge: WireKnowledge | None
    notices: Annotated[tuple[Notice, ...], Meta(max_length=1024)]
    finished: bool
    retry_after: Seconds = 0.0


class Missing(Message, frozen=True):
    """Asked: chunks the child is about to name. Answered: those of them that the parent lacks."""

    chunks: Chunks


class Enrol(Message, frozen=True):
    """Buys a certificate with a token; sent without one."""

    token: Annotated[str, Meta(min_length=1, max_length=512)]
    node: Name
    role: Name
    public_key: Annotated[bytes, Meta(max_length=256)]  # SubjectPublicKeyInfo, DER
    proof: Annotated[bytes, Meta(max_length=256)]
    time: Annotated[float, Meta(ge=0, lt=1e11)]

    def __repr__(self) -> str:  # who asks, never the token
        return f"Enrol(node={self.node!r}, role={self.role!r})"


class Renew(Message, frozen=True):
    """Buys a certificate with the one before it, which may have expired."""

    certificate: Blob
    public_key: Annotated[bytes, Meta(max_length=256)]
    proof: Annotated[bytes, Meta(max_length=256)]
    time: Annotated[float, Meta(ge=0, lt=1e11)]


class Enrolled(Message, frozen=True):
    """The certificate with its chain, and the authority to trust, both PEM."""

    certificate: Blob
    authority: Blob
    node: Name  # the parent
    federation: Text


class MoveTo(Message, frozen=True):
    """The body of a notice of kind ``move``: where to go, in order; none: to the child's own fallbacks."""

    urls: Annotated[tuple[Text, ...], Meta(max_length=16)]


class Adopt(Message, frozen=True):
    """Asks a parent to take in `node`, which moved: the sender or a node below it. `fence`: the number of the move."""

    later: ClassVar[int] = 1
    node: Name
    origins: Annotated[tuple[Name, ...], Meta(max_length=1024)]  # whose samples come through it
    fence: Annotated[int, Meta(ge=1, le=2**62)]
    former: Annotated[str, Meta(max_length=64)] = ""  # an edge's parent until now; "": not said


class Adopted(Message, frozen=True):
    """It belongs to the sender's link, and its rows are entries of the sender's log up to `head`."""

    fence: Counter
    head: Counter


class Leave(Message, frozen=True):
    """The child goes; the parent no longer waits for it, until it says hello or exchanges again."""

    fence: Counter


class Left(Message, frozen=True):
    """The answer to Leave."""

    head: Counter


class Problem(Message, frozen=True):
    """The body of every status from 400 on. Its first three fields are the same in every version."""

    code: Name
    message: Annotated[str, Meta(max_length=1024)]
    retry_after: Seconds | None = None
