"""Making certificates: the federation's root, the signing certificates that servers hold, and nodes' short-lived
leaves.

    root (self-signed) -> leaf of any node               made by the operator
    root -> cloud-issuer -> leaf of any node             the cloud renews edges, devices below it and itself
    root -> edge-issuer  -> leaf of a device             an edge enrols and renews devices

An edge-issuer cannot make an edge or a cloud: name constraints bind what it signs to O = federation, OU = device,
which OpenSSL
checks in the handshake; its extended key usage is client authentication only, so nothing it signs is accepted as a
server;
path length 0 keeps it from making issuers; and `facts.may_issue` refuses what a laxer verifier let through.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedagg_edge.errors import CannotCertify, IdentityError
from fedagg_edge.identity import folder, keys, pem
from fedagg_edge.identity.facts import IssuerKind, federation_name, may_issue, uri_of
from fedagg_edge.identity.renewal import DAY, LIFETIME, LONGEST, SKEW
from fedagg_edge.records import Tier, node_id

__all__ = ["Signer", "certify", "certify_issuer", "check_hosts", "load_signer", "make_root", "to_pem"]

ROOT_LIFETIME, ISSUER_LIFETIME = 3650 * DAY, 730 * DAY
_SHORTEST = 3600.0  # what an issuer must have left, seconds
_MOST_HOSTS = 32


@dataclass(frozen=True, slots=True)
class Signer:
    """A signing certificate with its key. The key is not in repr()."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def kind(self) -> IssuerKind:
        """Root, the cloud's or an edge's."""
        return IssuerKind(_value(self.certificate, NameOID.ORGANIZATIONAL_UNIT_NAME))

    @property
    def federation(self) -> str:
        """The name of the federation that it signs for."""
        return _value(self.certificate, NameOID.ORGANIZATION_NAME)


def make_root(key: ec.EllipticCurvePrivateKey, federation: str, now: float) -> x509.Certificate:
    """The federation's self-signed root, for ten years. Raises IdentityError if the name is not one."""
    federation = federation_name(federation)
    serial = x509.random_serial_number()
    name = _issuer_name(federation, IssuerKind.ROOT, federation, serial)
    builder = _builder(
        name, name, key.public_key(), key.public_key(), serial=serial, now=now, until=now + ROOT_LIFETIME
    )
    return _signing(builder, path_length=1).sign(key, hashes.SHA256())


def certify_issuer(
    root: Signer, *, node: str, role: Tier, public_key: ec.EllipticCurvePublicKey, now: float
) -> x509.Certificate:
    """A signing certificate for an edge or the cloud, for two years. Raises IdentityError if `root` is not the root."""
    if root.kind is not IssuerKind.ROOT:
        raise IdentityError(f"signing certificates come from the operator's root; this is {root.kind.value}")
    if role is Tier.DEVICE:
        raise IdentityError(f"node {node!r}: a device signs nothing, expected role edge or cloud")
    kind = IssuerKind.EDGE if role is Tier.EDGE else IssuerKind.CLOUD
    serial = x509.random_serial_number()
    name = _issuer_name(root.federation, kind, node_id(node), serial)
    until = _until(root, now, ISSUER_LIFETIME)
    builder = _builder(
        name, root.certificate.subject, public_key, root.key.public_key(), serial=serial, now=now, until=until
    )
    builder = _signing(builder, path_length=0)
    inside: list[x509.GeneralName] = [x509.UniformResourceIdentifier(root.federation)]  # the host part of fedagg://
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if kind is IssuerKind.EDGE:
        inside.append(x509.DirectoryName(_name(root.federation, Tier.DEVICE.value)))
    else:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(x509.NameConstraints(inside, None), critical=True)
    return builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False).sign(root.key, hashes.SHA256())


def certify(
    signer: Signer,
    *,
    node: str,
    role: Tier,
    public_key: ec.EllipticCurvePublicKey,
    now: float,
    hosts: Iterable[str] = (),
    lifetime: float = LIFETIME,
) -> x509.Certificate:
    """A node's certificate, valid from `SKEW` before `now` for `lifetime` seconds, or until its issuer's ends.

    `hosts`: DNS names and IP addresses of a server, as its clients spell them. Raises IdentityError if the signer may
    not
    give this role, if a device has hosts or a server none, or if the lifetime is not one.
    """
    names = check_hosts(node, role, hosts)
    if not may_issue(signer.kind, role):
        raise CannotCertify(f"node {node!r}: this {signer.kind.value} may not sign for role {role.value}")
    if not 0 < lifetime <= LONGEST:
        raise IdentityError(f"lifetime: got {lifetime / DAY:g} days, expected up to {LONGEST / DAY:g}")
    name = _name(signer.federation, role.value, node_id(node))
    uri = x509.UniformResourceIdentifier(uri_of(signer.federation, role, node))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([] if role is Tier.DEVICE else [ExtendedKeyUsageOID.SERVER_AUTH])]
    until = _until(signer, now, lifetime)
    own = signer.key.public_key()
    above = signer.certificate.subject
    return (
        _builder(name, above, public_key, own, serial=x509.random_serial_number(), now=now, until=until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signing=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri, *names]), critical=False)
        .sign(signer.key, hashes.SHA256())
    )


def load_signer(place: Path) -> Signer:
    """The signing certificate of a server's identity folder or, in the operator's, the root.

    Raises IdentityError if neither is there, or the key is another's.
    """
    if (place / folder.ISSUER_KEY).exists():
        certificate, key = folder.ISSUER, folder.ISSUER_KEY
    elif (place / folder.AUTHORITY_KEY).exists():
        certificate, key = folder.AUTHORITY, folder.AUTHORITY_KEY
    else:
        raise CannotCertify(
            f"{place}: holds no signing key, neither {folder.AUTHORITY_KEY} nor {folder.ISSUER_KEY}; an edge that was "
            "enrolled with a token has none: have its identity made with `fedagg pki server`, or take another folder"
        )
    private = keys.load_key(place / key)
    found = x509.load_der_x509_certificate(pem.certificates(folder.read(place / certificate))[0])
    if found.public_key() != private.public_key():
        raise IdentityError(f"{place}: {key} is not the key of {certificate}")
    return Signer(found, private)


def to_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM text."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    *,
    serial: int,
    now: float,
    until: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(_at(now - SKEW))
        .not_valid_after(_at(until))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _signing(builder: x509.CertificateBuilder, *, path_length: int) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(signing=True), critical=True)


def _usage(*, signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing,
        key_cert_sign=signing,
        crl_sign=signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _until(signer: Signer, now: float, lifetime: float) -> float:
    """The end of a certificate: its signer's, if that comes first."""
    end = signer.certificate.not_valid_after_utc.timestamp()
    if end < now + _SHORTEST:
        raise IdentityError(
            f"{signer.kind.value} of {_value(signer.certificate, NameOID.COMMON_NAME)!r}: its certificate ends "
            f"{signer.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; make another: fedagg pki server"
        )
    return min(end, now + lifetime)


def check_hosts(node: str, role: Tier, hosts: Iterable[str]) -> list[x509.GeneralName]:
    """A server's DNS names and IP addresses. Raises IdentityError if one is neither, or the role is wrong for them."""
    found = list(hosts)
    if role is Tier.DEVICE and found:
        raise IdentityError(f"node {node!r}: a device is no server, expected no host names")
    if role is not Tier.DEVICE and not 0 < len(found) <= _MOST_HOSTS:
        raise IdentityError(f"node {node!r}: got {len(found)} host names or addresses, expected 1 to {_MOST_HOSTS}")
    names: list[x509.GeneralName] = []
    for host in found:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
            continue
        except ValueError:
            pass
        labels = host.split(".")
        if len(host) > 253 or not host.isascii() or not all(_is_label(label) for label in labels):
            raise IdentityError(f"host {host!r}: expected a DNS name in ASCII or an IP address")
        names.append(x509.DNSName(host.lower()))
    return names


def _is_label(text: str) -> bool:
    return 0 < len(text) < 64 and text.replace("-", "").replace("_", "").isalnum() and text[0] != "-"


def _issuer_name(federation: str, kind: IssuerKind, holder: str, serial: int) -> x509.Name:
    own = x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:x}")
    return x509.Name([*_name(federation, kind.value, holder), own])


def _name(federation: str, unit: str, common: str | None = None) -> x509.Name:
    pairs = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
    ]
    return x509.Name(pairs if common is None else [*pairs, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _value(certificate: x509.Certificate, which: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(which)
    if len(found) != 1:
        raise IdentityError("signing certificate: its subject is not one that fedagg wrote")
    return str(found[0].value)


def _at(seconds: float) -> datetime.datetime:
    """Unix seconds as a certificate has them: UTC, whole, and not before 1970."""
    return datetime.datetime.fromtimestamp(max(0, int(seconds)), datetime.UTC)
