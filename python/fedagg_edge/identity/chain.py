"""Checking a chain outside of a handshake: of a certificate that is renewed, of one that was just issued, of a signer.

The same rules that TLS and `tls.peer_of` apply, on the three shapes of chain that the authority makes. Dates are the
caller's affair: renewal wants an expired certificate, a board may have no clock.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import keys, pem
from fedagg_edge.identity.facts import Facts, facts_of

__all__ = ["Checked", "check"]

_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.ExtensionNotFound, x509.DuplicateExtension),
)
"""What the parser raises for a certificate that is none."""
_LONG = {
    NameOID.ORGANIZATION_NAME: "organizationName",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "organizationalUnitName",
    NameOID.COMMON_NAME: "commonName",
    NameOID.SERIAL_NUMBER: "serialNumber",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A leaf whose chain ends at the root. `public_key` is SubjectPublicKeyInfo in DER, `digest` the leaf's SHA-256."""

    facts: Facts
    public_key: bytes
    hosts: tuple[str, ...]
    digest: bytes


def check(chain: bytes, authority: bytes) -> Checked:
    """Check `chain` (PEM: the leaf, then its issuer unless that is the root, which may follow) against the root
    `authority` (PEM).

    Signatures, constraints, names and roles are checked; dates and revocation are not. Raises PermissionDenied if
    anything does not fit, IdentityError if it is no PEM.
    """
    roots = pem.certificates(authority)
    given = pem.certificates(chain)
    if len(roots) != 1:
        raise IdentityError(f"authority: got {len(roots)} certificates, expected one")
    if given[-1] == roots[0]:
        given = given[:-1]
    if len(given) not in (1, 2):
        raise PermissionDenied(f"certificate chain: got {len(given)} certificates below the root, expected 1 or 2")
    try:
        found = [_load(der) for der in [*given, roots[0]]]
        for below, above in itertools.pairwise(found):
            below.verify_directly_issued_by(above)
        for depth, issuer in enumerate(found[1:]):
            _require_signing(issuer, depth)
        return _checked(found[0], found[1], given[0])
    except InvalidSignature:
        raise PermissionDenied("certificate chain: not signed by this federation's authority") from None
    except _UNREADABLE as error:
        raise PermissionDenied(f"certificate chain: {type(error).__name__} in a certificate") from None


def _load(der: bytes) -> x509.Certificate:
    """The certificate; raise ValueError if its last field, the signature, is not encoded as DER has it.

    No signature covers that field's count of unused bits, and a parser passes over a wrong one: the same certificate
    would have a second digest.
    """
    found = x509.load_der_x509_certificate(der)
    if not der.endswith(b"\0" + found.signature):
        raise ValueError("the signature is not a whole number of bytes")
    return found


def _require_signing(issuer: x509.Certificate, depth: int) -> None:
    """Raise PermissionDenied unless `issuer` may have `depth` signing certificates below it."""
    basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    if not basic.ca or not usage.key_cert_sign or basic.path_length is None or basic.path_length < depth:
        raise PermissionDenied("certificate chain: a certificate in it was signed by one that may not sign it")


def _checked(leaf: x509.Certificate, issuer: x509.Certificate, der: bytes) -> Checked:
    if leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise PermissionDenied("certificate chain: its first certificate is a signing one, expected a node's")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    facts = facts_of(
        subject=_pairs(leaf.subject),
        issuer=_pairs(issuer.subject),
        uris=names.get_values_for_type(x509.UniformResourceIdentifier),
        serial=f"{leaf.serial_number:x}",
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise PermissionDenied("certificate: of a key of another kind, expected P-256")
    public = keys.public_der(key)
    keys.load_public(public)
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return Checked(facts, public, (*names.get_values_for_type(x509.DNSName), *addresses), pem.fingerprint(der))


def _pairs(name: x509.Name) -> list[tuple[str, str]]:
    return [(_LONG.get(each.oid, each.oid.dotted_string), str(each.value)) for each in name]
