import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from identity.worlds import mode

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import keys
from fedagg_edge.records import Tier

KEY = ec.generate_private_key(ec.SECP256R1())
WORDS = {
    "federation": "fed", "node": "d", "role": Tier.DEVICE, "time": 12.9, "binding": b"\1" * 32,
    "public_key": keys.public_der(KEY),
}  # fmt: skip


def test_a_key_is_kept_privately_and_read_back(tmp_path):
    key = keys.make_key(tmp_path / "key.pem")
    assert mode(tmp_path / "key.pem") == 0o600
    assert keys.public_der(keys.load_key(tmp_path / "key.pem")) == keys.public_der(key)


def test_other_keys_are_refused(tmp_path):
    for other in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        text = other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "k").write_bytes(text)
        (tmp_path / "k").chmod(0o600)
        with pytest.raises(IdentityError, match="P-256"):
            keys.load_key(tmp_path / "k")
        public = other.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with pytest.raises(PermissionDenied):
            keys.load_public(public)
    (tmp_path / "k").write_bytes(b"no key")
    with pytest.raises(IdentityError, match="no private key"):
        keys.load_key(tmp_path / "k")


@given(st.binary(max_size=100) | st.binary(min_size=91, max_size=91))
def test_any_bytes_as_a_public_key(data):
    with pytest.raises(PermissionDenied):
        keys.load_public(data)


def test_a_point_that_is_not_on_the_curve():
    der = keys.public_der(KEY)
    with pytest.raises(PermissionDenied):
        keys.load_public(der[:-1] + bytes([der[-1] ^ 1]))


def test_the_text_is_as_documented():
    lines = keys.proof_text("enrol", **WORDS).decode().split("\n")
    assert lines[:7] == ["fedagg/proof/1", "enrol", "fed", "d", "device", "12", "01" * 32]
    assert (len(lines[7]), lines[8:]) == (64, [""])
    for wrong in ({"binding": b""}, {"time": float("nan")}, {"time": -1.0}, {"node": "é"}):
        with pytest.raises(PermissionDenied):
            keys.proof_text("enrol", **WORDS | wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"node": "e"}, {"role": Tier.EDGE}, {"federation": "other"}, {"time": 13.0}, {"binding": b"\2" * 32},
        {"public_key": keys.public_der(ec.generate_private_key(ec.SECP256R1()))},
    ],
)  # fmt: skip
def test_a_proof_is_good_for_one_text(change):
    proof = keys.prove(KEY, keys.proof_text("enrol", **WORDS))
    keys.check_proof(WORDS["public_key"], proof, keys.proof_text("enrol", **WORDS))
    with pytest.raises(PermissionDenied):
        keys.check_proof(WORDS["public_key"], proof, keys.proof_text("enrol", **WORDS | change))
    with pytest.raises(PermissionDenied):
        keys.check_proof(WORDS["public_key"], proof, keys.proof_text("renew", **WORDS))


@given(st.binary(max_size=100))
def test_any_bytes_as_a_proof(data):
    with pytest.raises(PermissionDenied):
        keys.check_proof(WORDS["public_key"], data, b"text")
