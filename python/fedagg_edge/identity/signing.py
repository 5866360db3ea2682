"""Signatures of artefacts (decoder, model) by the cloud, checked against the root that a node trusts.

The text that is signed, ASCII, a newline after every line: fedagg/artefact/1, federation, name, media, size, version,
time it was
made (whole Unix seconds), SHA-256 of the content in hexadecimal. The first line separates it from proofs of possession.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from fedagg_edge.errors import ArtefactError, PermissionDenied
from fedagg_edge.identity import chain, folder, keys, renewal
from fedagg_edge.identity.requests import Check, Sign, Signed, Verified
from fedagg_edge.records import Tier

__all__ = ["check", "sign"]


class _Envelope(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    schema: int
    version: Annotated[int, Meta(ge=0)]
    made: Annotated[int, Meta(ge=0)]
    chain: Annotated[bytes, Meta(max_length=8192)]
    signature: Annotated[bytes, Meta(max_length=72)]


def sign(request: Sign) -> Signed:
    """Sign an artefact with this node's key. Raises PermissionDenied if this node is not the cloud."""
    place = Path(request.folder)
    certificate = folder.read(place / folder.CERTIFICATE)
    signer = chain.check(certificate, folder.read(place / folder.AUTHORITY))
    if signer.facts.role is not Tier.CLOUD:
        raise PermissionDenied(
            f"node {signer.facts.node!r}: the cloud signs artefacts, this is {signer.facts.role.value}"
        )
    made = int(request.now)
    text = _text(signer.facts.federation, request, request.version, made)
    signature = keys.prove(keys.load_key(place / folder.KEY), text)
    return Signed(signature=msgspec.msgpack.encode(_Envelope(1, request.version, made, certificate, signature)))


def check(request: Check) -> Verified:
    """Check an artefact's signature: chain to the root, role cloud, dates, content's digest.

    The certificate must have been valid when the signature was made, and be expired by `renewal.GRACE` at most `now`.
    Raises ArtefactError if the signature is damaged or over something else, PermissionDenied if its maker is not the
    cloud.
    """
    try:
        envelope = msgspec.msgpack.decode(request.signature, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ArtefactError(f"artefact {request.name!r}: its signature is damaged; fetch it again") from None
    if envelope.schema != 1:
        raise ArtefactError(f"artefact {request.name!r}: signature of form {envelope.schema}, expected 1; upgrade here")
    signer = chain.check(envelope.chain, folder.read(Path(request.folder) / folder.AUTHORITY))
    facts = signer.facts
    if facts.role is not Tier.CLOUD:
        raise PermissionDenied(
            f"artefact {request.name!r}: signed by {facts.role.value} {facts.node!r}, expected the cloud"
        )
    if not facts.not_before <= envelope.made <= facts.not_after:
        raise PermissionDenied(f"artefact {request.name!r}: signed when the cloud's certificate was not valid")
    if request.now is not None and request.now > facts.not_after + renewal.GRACE:
        raise PermissionDenied(f"artefact {request.name!r}: signed too long ago; its server must sign it again")
    try:
        text = _text(facts.federation, request, envelope.version, envelope.made)
        keys.check_proof(signer.public_key, envelope.signature, text)
    except PermissionDenied:
        raise ArtefactError(
            f"artefact {request.name!r}: its signature is over something else; fetch it again"
        ) from None
    return Verified(version=envelope.version, made=float(envelope.made), signer=facts.node)


def _text(federation: str, artefact: Sign | Check, version: int, made: int) -> bytes:
    for each in (artefact.name, artefact.media):
        if not each.isascii() or not each.isprintable():
            raise ArtefactError(f"artefact {each!r}: expected printable ASCII in name and media")
    fields = [federation, artefact.name, artefact.media, artefact.size, version, made, artefact.digest.hex()]
    return "".join(f"{line}\n" for line in ["fedagg/artefact/1", *fields]).encode("ascii")
