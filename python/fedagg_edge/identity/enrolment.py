"""The child's side: its key, its request, and putting what came back in place, whole or not at all.

Renewal keeps the key, so that a new certificate is one file replaced by a rename and key and certificate always fit.
Enrolling
makes a key beside the one in use, which goes on working; a retry uses that new key again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from fedagg_edge.errors import IdentityError
from fedagg_edge.failpoints import reach
from fedagg_edge.files import sync_folder
from fedagg_edge.identity import chain, folder, keys, pem, tokens
from fedagg_edge.identity.facts import federation_name
from fedagg_edge.identity.issue import issued
from fedagg_edge.identity.requests import Issued, Prepared
from fedagg_edge.records import Tier, node_id

__all__ = ["EnrolmentRequest", "finish", "install", "install_first", "prepare", "request_enrolment"]

_NEXT = "key.next.pem"


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """What a node sends with its token, which is not in here. `public_key` is DER, `time` Unix seconds."""

    node: str
    role: Tier
    public_key: bytes
    proof: bytes
    time: float


def request_enrolment(
    place: Path, authority: bytes, token: tokens.Token, *, node: str, role: Tier, time: float
) -> EnrolmentRequest:
    """Make the key, unless an attempt that got no answer left one, and prove that it is ours.

    `authority`: the root as PEM; raises IdentityError if it is not the one that the token names.
    """
    roots = pem.certificates(authority)
    if len(roots) != 1 or pem.fingerprint(roots[0]) != token.authority:
        raise IdentityError("authority: not the one that the token names")
    folder.make_folder(place)
    waiting = place / _NEXT
    key = keys.load_key(waiting) if waiting.exists() else keys.make_key(waiting)
    public = keys.public_der(key)
    text = keys.proof_text(
        "enrol",
        federation=_federation(roots[0]),
        node=node_id(node),
        role=role,
        time=time,
        binding=tokens.digest(token),
        public_key=public,
    )
    return EnrolmentRequest(node, role, public, keys.prove(key, text), time)


def install_first(place: Path, certificate: bytes, authority: bytes, request: EnrolmentRequest) -> Issued:
    """Put in place what enrolment bought: root, certificate, key. `authority` is the pinned root, not what the server
    sent.

    Raises IdentityError or PermissionDenied, and then nothing has changed, if the certificate is not for this node
    and key.
    """
    checked = chain.check(certificate, authority)
    if checked.public_key != request.public_key or (checked.facts.node, checked.facts.role) != (
        request.node,
        request.role,
    ):
        raise IdentityError(
            f"certificate: got one for {checked.facts.role.value} {checked.facts.node!r}, "
            f"expected {request.role.value} {request.node!r} with the key that was sent"
        )
    folder.write(place / folder.AUTHORITY, authority)
    reach("enrolment.install.after-authority")
    folder.write(place / folder.CERTIFICATE, certificate)  # from here on `finish` can end what a kill interrupts
    reach("enrolment.install.after-certificate")
    (place / _NEXT).replace(place / folder.KEY)
    reach("enrolment.install.after-key")
    sync_folder(place)
    return issued(certificate, authority)


def finish(place: Path) -> Issued | None:
    """End an `install_first` that was killed before its last step: the new key replaces the old one.

    None if there is nothing to end. Call it before asking again: the token was spent.
    """
    if not (place / _NEXT).exists() or not (place / folder.CERTIFICATE).exists():
        return None
    certificate, root = folder.read(place / folder.CERTIFICATE), folder.read(place / folder.AUTHORITY)
    if chain.check(certificate, root).public_key != keys.public_der(keys.load_key(place / _NEXT)):
        return None
    (place / _NEXT).replace(place / folder.KEY)
    sync_folder(place)
    return issued(certificate, root)


def prepare(place: Path, time: float) -> Prepared:
    """This node's request to renew its certificate. Raises IdentityError if the folder's files do not fit."""
    certificate = folder.read(place / folder.CERTIFICATE)
    checked = chain.check(certificate, folder.read(place / folder.AUTHORITY))
    key = keys.load_key(place / folder.KEY)
    public = keys.public_der(key)
    if public != checked.public_key:
        raise IdentityError(f"{place}: {folder.KEY} is not the key of {folder.CERTIFICATE}; enrol again: fedagg enroll")
    text = keys.proof_text(
        "renew",
        federation=checked.facts.federation,
        node=checked.facts.node,
        role=checked.facts.role,
        time=time,
        binding=checked.digest,
        public_key=public,
    )
    return Prepared(
        certificate=certificate,
        public_key=public,
        proof=keys.prove(key, text),
        time=time,
        node=checked.facts.node,
        role=checked.facts.role,
    )


def install(place: Path, certificate: bytes) -> Issued:
    """Replace this node's certificate by one for the same key, node and role, under the root that is here.

    Raises IdentityError or PermissionDenied, and then nothing has changed, if it is another's.
    """
    root = folder.read(place / folder.AUTHORITY)
    old, new = chain.check(folder.read(place / folder.CERTIFICATE), root), chain.check(certificate, root)
    if (new.public_key, new.facts.node, new.facts.role) != (old.public_key, old.facts.node, old.facts.role):
        raise IdentityError(
            f"certificate: got one for {new.facts.role.value} {new.facts.node!r} or for another key, "
            f"expected {old.facts.role.value} {old.facts.node!r}"
        )
    folder.write(place / folder.CERTIFICATE, certificate)
    return issued(certificate, root)


def _federation(root: bytes) -> str:
    try:
        names = x509.load_der_x509_certificate(root).subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    except ValueError:
        raise IdentityError("authority: not a certificate") from None
    return federation_name(str(names[0].value) if len(names) == 1 else "")
