"""What the short-lived process is asked and answers: typed, limited in size, msgpack. Needs no `cryptography`.

Whoever calls it has found the token's grant, or the certificate's node, in the ledger first: an unknown caller on the
network must not
be able to start a process. Times are Unix seconds; folders are identity folders.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fedagg_edge.identity.renewal import LIFETIME
from fedagg_edge.records import Tier

__all__ = [
    "LIMIT",
    "Answer",
    "Check",
    "Enrol",
    "Failed",
    "Install",
    "Issued",
    "Prepare",
    "Prepared",
    "Renew",
    "Request",
    "Sign",
    "Signed",
    "Verified",
    "decode_answer",
    "decode_request",
    "encode",
]

LIMIT = 65_536
"""Bytes of a request and of an answer."""

_Text = Annotated[str, Meta(min_length=1, max_length=4096)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Short = Annotated[bytes, Meta(max_length=256)]
_Chain = Annotated[bytes, Meta(max_length=16_384)]
_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Time = Annotated[float, Meta(ge=0, lt=1e11)]
_Hosts = Annotated[tuple[Annotated[str, Meta(max_length=253)], ...], Meta(max_length=32)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """One request or answer."""


class Enrol(_Message, frozen=True, kw_only=True):
    """Certify a new node; answered by Issued. `node`, `role` and `hosts` are the grant's, not the caller's."""

    folder: _Text
    node: _Name
    role: Tier
    token_digest: _Digest
    public_key: _Short
    proof: _Short
    time: _Time
    now: _Time
    hosts: _Hosts = ()
    lifetime: float = LIFETIME
    window: float | None = None


class Renew(_Message, frozen=True, kw_only=True):
    """Certify a node for longer; answered by Issued. What the folder's revocation list names is refused."""

    folder: _Text
    certificate: _Chain
    public_key: _Short
    proof: _Short
    time: _Time
    now: _Time
    lifetime: float = LIFETIME
    window: float | None = None


class Prepare(_Message, frozen=True, kw_only=True):
    """Make this node's renewal request; answered by Prepared."""

    folder: _Text
    time: _Time


class Install(_Message, frozen=True, kw_only=True):
    """Check a new certificate of this node and put it in place; answered by Issued."""

    folder: _Text
    certificate: _Chain


class Sign(_Message, frozen=True, kw_only=True):
    """Sign an artefact; answered by Signed."""

    folder: _Text
    name: _Name
    media: _Name
    size: Annotated[int, Meta(ge=0)]
    digest: _Digest
    version: Annotated[int, Meta(ge=0)]
    now: _Time


class Check(_Message, frozen=True, kw_only=True):
    """Check an artefact's signature; answered by Verified. `now` None: this machine's clock is not set."""

    folder: _Text
    name: _Name
    media: _Name
    size: Annotated[int, Meta(ge=0)]
    digest: _Digest
    signature: Annotated[bytes, Meta(max_length=8192)]
    now: _Time | None


class Issued(_Message, frozen=True, kw_only=True):
    """A certificate (PEM chain) with the root (PEM) and its facts; `digest` is the leaf's SHA-256."""

    certificate: bytes
    authority: bytes
    node: str
    role: Tier
    federation: str
    serial: str
    not_before: float
    not_after: float
    digest: bytes


class Prepared(_Message, frozen=True, kw_only=True):
    """A renewal request's fields: the certificate is the chain as PEM."""

    certificate: bytes
    public_key: bytes
    proof: bytes
    time: float
    node: str
    role: Tier


class Signed(_Message, frozen=True, kw_only=True):
    """An artefact's signature, opaque bytes with the signer's chain in them."""

    signature: bytes


class Verified(_Message, frozen=True, kw_only=True):
    """A signature holds. Refuse a `version` lower than one that was seen before."""

    version: int
    made: float
    signer: str


class Failed(_Message, frozen=True, kw_only=True):
    """The request was refused; `denied`: as the other side broke a rule, otherwise as something here is wrong;
    `elsewhere`: as this server may not certify whom another may."""

    message: str
    denied: bool
    elsewhere: bool = False


Request = Enrol | Renew | Prepare | Install | Sign | Check
Answer = Issued | Prepared | Signed | Verified | Failed

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """A request or answer as msgpack."""
    return msgspec.msgpack.encode(message)


def decode_request(data: bytes) -> Request:
    """Read a request. Raises msgspec.DecodeError, ValueError if it is larger than LIMIT."""
    return _requests.decode(_limited(data))


def decode_answer(data: bytes) -> Answer:
    """Read an answer. Raises msgspec.DecodeError, ValueError if it is larger than LIMIT."""
    return _answers.decode(_limited(data))


def _limited(data: bytes) -> bytes:
    if len(data) > LIMIT:
        raise ValueError(f"got more than {LIMIT} bytes")
    return data
