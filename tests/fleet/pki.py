"""A small certificate authority for tests and benchmarks on loopback."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class TestPeer:
    node: str
    role: str
    serial: str


def identify(connection: Any) -> TestPeer | None:
    """The peer of a TLS connection, from its certificate's ``fedagg://<federation>/<role>/<node>``."""
    certificate = connection.getpeercert() if connection is not None else None
    if not certificate:
        return None
    uri = next(value for kind, value in certificate["subjectAltName"] if kind == "URI")
    _, role, node = uri.removeprefix("fedagg://").split("/")
    return TestPeer(node, role, certificate["serialNumber"].lower())


def require_parent(connection: ssl.SSLSocket) -> None:
    """Accept an edge or the cloud only."""
    peer = identify(connection)
    if peer is None or peer.role == "device":
        raise ssl.SSLError("the server is not a parent")


class Authority:
    """Makes certificates into `folder`, one key for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        builder = _builder(name, name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        (folder / "authority.pem").write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        (folder / "authority.key").write_bytes(_private(self._key))

    @classmethod
    def of(cls, folder: Path) -> Authority:
        """The authority that another process has made there."""
        made = cls.__new__(cls)
        made._folder = folder
        made._key = serialization.load_pem_private_key((folder / "authority.key").read_bytes(), None)
        made._certificate = x509.load_pem_x509_certificate((folder / "authority.pem").read_bytes())
        return made

    def _issue(self, node: str, role: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
        names = [
            x509.UniformResourceIdentifier(f"fedagg://test/{role}/{node}"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        builder = _builder(subject, self._certificate.subject, key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        path = self._folder / f"{role}-{node}.pem"
        path.write_bytes(
            _private(key) + builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return path

    def server(self, node: str = "edge-1", role: str = "edge") -> ssl.SSLContext:
        """A server's context: asks for a certificate, does not insist."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._issue(node, role))
        context.load_verify_locations(self._folder / "authority.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        context.num_tickets = 0
        return context

    def client(self, node: str | None, role: str = "device") -> ssl.SSLContext:
        """A client's context; without a node it has no certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.load_verify_locations(self._folder / "authority.pem")
        if node is not None:
            context.load_cert_chain(self._issue(node, role))
        return context


def _private(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
