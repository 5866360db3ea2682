"""The parent's side: check who asks, then certify. Runs in a short-lived process, as it holds the signing key.

Enrolment trusts the one-time token, whose grant the caller has found and spent; renewal trusts the certificate that
is renewed,
also for `renewal.GRACE` after it expired. Both want proof that the caller holds the private key.
"""

from __future__ import annotations

from pathlib import Path

from fedagg_edge.errors import PermissionDenied
from fedagg_edge.identity import authority, chain, folder, keys, pem, renewal, revocation
from fedagg_edge.identity.facts import IssuerKind
from fedagg_edge.identity.requests import Enrol, Issued, Renew
from fedagg_edge.records import Tier

__all__ = ["certificate_chain", "enrol", "issued", "renew"]


def enrol(request: Enrol) -> Issued:
    """A new node's certificate.

    Raises PermissionDenied if the proof does not hold, IdentityError if this server cannot sign for the role.
    """
    place = Path(request.folder)
    signer = authority.load_signer(place)
    _check_window(request.time, request.now, request.window)
    text = keys.proof_text(
        "enrol",
        federation=signer.federation,
        node=request.node,
        role=request.role,
        time=request.time,
        binding=request.token_digest,
        public_key=request.public_key,
    )
    keys.check_proof(request.public_key, request.proof, text)
    leaf = authority.certify(
        signer,
        node=request.node,
        role=request.role,
        public_key=keys.load_public(request.public_key),
        now=request.now,
        hosts=request.hosts,
        lifetime=request.lifetime,
    )
    root = folder.read(place / folder.AUTHORITY)
    return issued(certificate_chain(signer, authority.to_pem(leaf), request.role, root), root)


def renew(request: Renew) -> Issued:
    """A certificate like the one that is renewed, for the same key: node, role, federation and host names stay.

    Raises PermissionDenied if the certificate is not this federation's, is revoked or lapsed, or the proof does not
    hold; then CannotCertify if this server may not sign for the role: that another one may grant, what was denied not.
    """
    place = Path(request.folder)
    root = folder.read(place / folder.AUTHORITY)
    old = chain.check(request.certificate, root)
    facts = old.facts
    revocation.check(revocation.load(place), facts)
    validity = pem.Validity(facts.serial, facts.not_before, facts.not_after)
    if renewal.standing(validity, request.now) is renewal.Standing.LAPSED:
        days = (request.now - facts.not_after) / renewal.DAY
        raise PermissionDenied(
            f"node {facts.node!r}: its certificate expired {days:.0f} days ago, expected at most "
            f"{renewal.GRACE / renewal.DAY:.0f}; enrol again with a new token"
        )
    if request.public_key != old.public_key:
        raise PermissionDenied(f"node {facts.node!r}: renewal keeps the key; for another one, enrol again")
    _check_window(request.time, request.now, request.window)
    text = keys.proof_text(
        "renew",
        federation=facts.federation,
        node=facts.node,
        role=facts.role,
        time=request.time,
        binding=old.digest,
        public_key=request.public_key,
    )
    keys.check_proof(request.public_key, request.proof, text)
    signer = authority.load_signer(place)
    leaf = authority.certify(
        signer,
        node=facts.node,
        role=facts.role,
        public_key=keys.load_public(old.public_key),
        now=request.now,
        hosts=old.hosts,
        lifetime=request.lifetime,
    )
    return issued(certificate_chain(signer, authority.to_pem(leaf), facts.role, root), root)


def certificate_chain(signer: authority.Signer, leaf: bytes, role: Tier, root: bytes) -> bytes:
    """What a node presents, as PEM: its leaf, the issuer unless that is the root, and for servers the root as well.

    A server sends the root although its children have it: on first contact a child knows no more than the root's
    digest.
    """
    above = b"" if signer.kind is IssuerKind.ROOT else authority.to_pem(signer.certificate)
    return leaf + above + (b"" if role is Tier.DEVICE else pem.to_pem(pem.certificates(root)[0]))


def issued(certificate: bytes, root: bytes) -> Issued:
    """Check a chain and give it with its facts. Raises PermissionDenied or IdentityError as `chain.check` does."""
    checked = chain.check(certificate, root)
    facts = checked.facts
    return Issued(
        certificate=certificate,
        authority=root,
        node=facts.node,
        role=facts.role,
        federation=facts.federation,
        serial=facts.serial,
        not_before=facts.not_before,
        not_after=facts.not_after,
        digest=checked.digest,
    )


def _check_window(time: float, now: float, window: float | None) -> None:
    if window is not None and abs(now - time) > window:
        raise PermissionDenied(
            f"request: made at {time:.0f} by its clock, {abs(now - time):.0f} s from this server's, expected "
            f"{window:.0f} at most"
        )
