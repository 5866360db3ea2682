"""P-256 keys and proofs of possession. A private key is made where it is used, and never leaves that machine.

A proof is an ECDSA signature (SHA-256, DER) over this text, ASCII, a newline after every line:

    fedagg/proof/1
    <purpose: enrol or renew>
    <federation>
    <node id>
    <role>
    <time: Unix seconds, whole, rounded down>
    <binding, hexadecimal: the token's digest, or the SHA-256 of the certificate that is renewed>
    <SHA-256 of the public key (SubjectPublicKeyInfo, DER), hexadecimal>

The binding makes a proof good for one token or one certificate. Time is there for the logs, as a board's clock may
not be
set: a proof that is replayed buys a certificate of the same key for the same node, of no use to anybody else.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import folder
from fedagg_edge.records import Tier

__all__ = ["Purpose", "check_proof", "load_key", "load_public", "make_key", "proof_text", "prove", "public_der"]

Purpose = Literal["enrol", "renew"]
_ECDSA = ec.ECDSA(hashes.SHA256())
_PUBLIC, _SIGNATURE = 91, 72  # bytes: of a P-256 SubjectPublicKeyInfo with a named curve, of the longest signature


def make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key and keep it at `path`, mode 0600. Raises OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    folder.write_private(
        path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return key


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a key that `make_key` wrote. Raises IdentityError if it is missing, damaged, or everybody's to read."""
    content = folder.read_private(path)
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IdentityError(f"{path}: got something that is no private key without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError(f"{path}: got a key of another kind, expected P-256")
    return key


def public_der(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bytes:
    """The public key as SubjectPublicKeyInfo in DER, 91 bytes."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_public(der: bytes) -> ec.EllipticCurvePublicKey:
    """Read a public key that a node sent. Raises PermissionDenied unless it is P-256 in its one spelling."""
    wrong = PermissionDenied(f"public key: got {len(der)} bytes, expected the {_PUBLIC} of a P-256 key in DER")
    if len(der) != _PUBLIC:
        raise wrong
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise wrong from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise wrong
    if public_der(key) != der:
        raise wrong
    return key


def proof_text(
    purpose: Purpose, *, federation: str, node: str, role: Tier, time: float, binding: bytes, public_key: bytes
) -> bytes:
    """The text of this module's docstring. `binding` has 32 bytes. Raises PermissionDenied for what has no such
    text.
    """
    if len(binding) != 32 or not math.isfinite(time) or not 0 <= time < 1e11:
        raise PermissionDenied(
            f"proof: got a binding of {len(binding)} bytes and time {time}, expected 32 and Unix time"
        )
    digest = hashlib.sha256(public_key).hexdigest()
    lines = ["fedagg/proof/1", purpose, federation, node, role.value, str(int(time)), binding.hex(), digest]
    try:
        return "".join(f"{line}\n" for line in lines).encode("ascii")
    except UnicodeEncodeError:
        raise PermissionDenied("proof: a name that is not ASCII") from None


def prove(key: ec.EllipticCurvePrivateKey, text: bytes) -> bytes:
    """Sign a proof's text."""
    return key.sign(text, _ECDSA)


def check_proof(public_key: bytes, proof: bytes, text: bytes) -> None:
    """Raise PermissionDenied unless the owner of `public_key` (DER) signed `text`."""
    key = load_public(public_key)
    try:
        if len(proof) > _SIGNATURE:
            raise InvalidSignature
        key.verify(proof, text, _ECDSA)
    except InvalidSignature:
        raise PermissionDenied("proof of possession: not signed by the key it is for, or over something else") from None
