"""Writes chains/: certificates without their keys, good ones and each wrong in one way, for the JVM's tests.

They are as old as their dates say: what is tested is who may say what, and that the expired one is expired.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedagg_edge.identity import authority
from fedagg_edge.identity.authority import Signer
from fedagg_edge.identity.pem import Validity
from fedagg_edge.identity.renewal import renewal_due
from fedagg_edge.records import Tier

FOLDER = Path(__file__).parent / "chains"
MADE, LATER = 1.6e9, 4e9  # Unix time: in 2020, and when no clock of a test will have come


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _root(federation: str) -> Signer:
    key = _key()
    return Signer(authority.make_root(key, federation, MADE), key)


def _issuer(root: Signer, node: str, role: Tier) -> Signer:
    key = _key()
    made = authority.certify_issuer(root, node=node, role=role, public_key=key.public_key(), now=MADE)
    return Signer(made, key)


def _leaf(signer: Signer, node: str, role: Tier, now: float = MADE) -> x509.Certificate:
    hosts = () if role is Tier.DEVICE else ("127.0.0.1",)
    return authority.certify(signer, node=node, role=role, public_key=_key().public_key(), now=now, hosts=hosts)


def _odd(
    signer: Signer, names: list[tuple[x509.ObjectIdentifier, str]], uri: str, *, ca: bool = False
) -> x509.Certificate:
    """A leaf as nobody of this package would make it."""
    good = _leaf(_root("f"), "d1", Tier.DEVICE)
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject)
        .public_key(_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(good.not_valid_before_utc)
        .not_valid_after(good.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .sign(signer.key, hashes.SHA256())
    )


def main() -> None:
    root, foreign = _root("f"), _root("f")
    cloud_issuer, edge_issuer = _issuer(root, "cloud", Tier.CLOUD), _issuer(root, "edge-a", Tier.EDGE)
    o, ou, cn = NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME
    device = _leaf(edge_issuer, "d1", Tier.DEVICE)
    good = "fedagg://f/device/d1"
    chains: dict[str, list[x509.Certificate]] = {
        "root": [root.certificate],
        "good-device": [device, edge_issuer.certificate],
        "good-edge": [_leaf(root, "edge-a", Tier.EDGE), root.certificate],
        "good-edge-of-cloud": [_leaf(cloud_issuer, "edge-a", Tier.EDGE), cloud_issuer.certificate, root.certificate],
        "good-cloud": [_leaf(root, "cloud", Tier.CLOUD), root.certificate],
        "good-edge-later": [_leaf(Signer(_forever(root), root.key), "edge-a", Tier.EDGE, LATER), root.certificate],
        "good-device-later": [_leaf(Signer(_forever(root), root.key), "d1", Tier.DEVICE, LATER)],
        "bad-foreign": [_leaf(foreign, "d1", Tier.DEVICE), foreign.certificate],
        "bad-foreign-root-cut-off": [_leaf(foreign, "d1", Tier.DEVICE)],
        "bad-issuer-missing": [device],
        "bad-issuer-alone": [edge_issuer.certificate],
        "bad-edge-by-edge": [
            _odd(edge_issuer, [(o, "f"), (ou, "edge"), (cn, "e2")], "fedagg://f/edge/e2"),
            edge_issuer.certificate,
        ],
        "bad-role": [_odd(root, [(o, "f"), (ou, "boss"), (cn, "d1")], "fedagg://f/boss/d1")],
        "bad-federation": [_odd(root, [(o, "g"), (ou, "device"), (cn, "d1")], "fedagg://g/device/d1")],
        "bad-uri": [_odd(root, [(o, "f"), (ou, "device"), (cn, "d1")], "fedagg://f/device/d2")],
        "bad-name": [_odd(root, [(o, "f"), (ou, "device"), (cn, "D1")], "fedagg://f/device/D1")],
        "bad-order": [_odd(root, [(ou, "device"), (o, "f"), (cn, "d1")], good)],
        "bad-two-names": [_odd(root, [(o, "f"), (ou, "device"), (cn, "d1"), (cn, "d2")], good)],
        "bad-signing": [_odd(root, [(o, "f"), (ou, "device"), (cn, "d1")], good, ca=True)],
    }
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, chain in chains.items():
        (FOLDER / f"{name}.pem").write_bytes(b"".join(authority.to_pem(each) for each in chain))
    from fedagg_edge.fleet.renewal import _jitter

    serial = f"{device.serial_number:x}"
    known = Validity(serial, device.not_valid_before_utc.timestamp(), device.not_valid_after_utc.timestamp())
    (FOLDER / "good-device.due.txt").write_text(f"{renewal_due(known, _jitter(serial)):.3f}\n")


def _forever(root: Signer) -> x509.Certificate:
    """The root, with a lifetime that does not end before a leaf of the year 2096."""
    return (
        x509.CertificateBuilder()
        .subject_name(root.certificate.subject)
        .issuer_name(root.certificate.subject)
        .public_key(root.key.public_key())
        .serial_number(root.certificate.serial_number)
        .not_valid_before(root.certificate.not_valid_before_utc)
        .not_valid_after(root.certificate.not_valid_before_utc.replace(year=2199))
        .sign(root.key, hashes.SHA256())
    )


if __name__ == "__main__":
    main()
