import hashlib
import re
import ssl
import time

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from identity.worlds import NOW

from fedagg_edge.errors import IdentityError
from fedagg_edge.identity import authority, folder, pem
from fedagg_edge.identity.renewal import DAY
from fedagg_edge.records import Tier


def test_validity_is_what_a_library_reads(world):
    signer = authority.load_signer(world.root)
    for now in (400 * DAY, NOW, 2**31 + DAY):  # in 1971, now, and after 2038
        signer = authority.Signer(authority.make_root(signer.key, "fed", now), signer.key)
        for made in (signer.certificate, authority.certify(
            signer, node="d", role=Tier.DEVICE, public_key=signer.key.public_key(), now=now
        )):  # fmt: skip
            der = pem.certificates(authority.to_pem(made))[0]
            assert pem.validity(der) == (
                f"{made.serial_number:x}",
                made.not_valid_before_utc.timestamp(),
                made.not_valid_after_utc.timestamp(),
            )


def test_years_from_2050_have_four_digits(world):
    signer = authority.load_signer(world.root)
    root = authority.make_root(signer.key, "fed", 2_500_000_000.0)  # until 2059
    assert pem.validity(pem.certificates(authority.to_pem(root))[0]).not_after == root.not_valid_after_utc.timestamp()


@given(st.integers(0, 253_402_300_799))
def test_a_time_as_ssl_writes_it(at):
    text = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(at))
    for written in (text, re.sub(r"^(...) 0", r"\1  ", text)):  # OpenSSL's days have one figure or two
        assert pem.named_time(written) == at == ssl.cert_time_to_seconds(written)


def test_what_is_no_time_as_ssl_writes_it():
    for wrong in (
        "",
        "Nov 26 08:05:09 2026",
        "Nov 31 08:05:09 2026 GMT",
        "Nob 26 08:05:09 2026 GMT",
        "Nov 26 2026 GMT",
    ):
        with pytest.raises(ValueError):  # noqa: PT011  of several modules
            pem.named_time(wrong)


def test_text_and_bytes(world):
    text = (world.edge / folder.CERTIFICATE).read_bytes()
    found = pem.certificates(text)
    assert len(found) == 2  # the operator signed it: leaf and root
    assert b"".join(map(pem.to_pem, found)) == text
    assert pem.fingerprint(found[0]) == hashlib.sha256(found[0]).digest()
    assert x509.load_der_x509_certificate(found[0]) == x509.load_pem_x509_certificates(text)[0]


def test_what_is_no_certificate():
    block = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for wrong in (b"", b"x" * 70_000, block * 9, block.replace(b"AAAA", b"AAA")):
        with pytest.raises(IdentityError, match="certificates"):
            pem.certificates(wrong)
    with pytest.raises(IdentityError, match="that are no X"):
        pem.validity(pem.certificates(block)[0])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_politely(data):
    with pytest.raises(IdentityError):
        pem.validity(data)


def test_a_damaged_certificate_is_refused_or_read(world):
    der = pem.certificates((world.device / folder.CERTIFICATE).read_bytes())[0]
    for i in range(120):
        try:
            pem.validity(der[:i] + bytes([der[i] ^ 0x80]) + der[i + 1 :])
        except IdentityError:
            continue
    for i in range(100):
        with pytest.raises(IdentityError):
            pem.validity(der[:i])
