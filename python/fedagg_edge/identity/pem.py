"""PEM to DER and back, a certificate's digest, serial and validity: what needs no X.509 library.

The reader looks at the first five fields of a certificate only, on files that `install` has checked and on roots that a
digest pins; trust is never decided from what it says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime
from typing import NamedTuple

from fedagg_edge.errors import IdentityError

__all__ = ["Validity", "certificates", "fingerprint", "named_time", "to_pem", "validity"]

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
MOST = 8  # certificates in a file; ours have at most three
SIZE = 65_536
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NAMED = re.compile(r"([A-Z][a-z]{2}) +(\d{1,2}) (\d{2}):(\d{2}):(\d{2}) (\d{4}) GMT")
_SEQUENCE, _INTEGER, _UTC, _GENERALIZED, _VERSION = 0x30, 0x02, 0x17, 0x18, 0xA0


class Validity(NamedTuple):
    """A certificate's serial, lower-case hexadecimal, and the Unix seconds between which it is valid."""

    serial: str
    not_before: float
    not_after: float


def certificates(pem: bytes) -> list[bytes]:
    """The certificates of a PEM text as DER, in order. Raises IdentityError if there is none, or too much."""
    if len(pem) > SIZE:
        raise IdentityError(f"certificates: got {len(pem)} bytes, expected at most {SIZE}")
    blocks = _BLOCK.findall(pem)
    if not 0 < len(blocks) <= MOST:
        raise IdentityError(f"certificates: got {len(blocks)} PEM blocks, expected 1 to {MOST}")
    try:
        return [base64.b64decode(b"".join(block.split()), validate=True) for block in blocks]
    except binascii.Error:
        raise IdentityError("certificates: got a PEM block that is not base64") from None


def to_pem(der: bytes) -> bytes:
    """One certificate as PEM text."""
    text = base64.b64encode(der)
    lines = b"\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"


def fingerprint(der: bytes) -> bytes:
    """SHA-256 of a certificate, 32 bytes."""
    return hashlib.sha256(der).digest()


def validity(der: bytes) -> Validity:
    """Read serial and validity (RFC 5280, 4.1) of a certificate. Raises IdentityError if it is not one."""
    try:
        to_be_signed, _ = _value(_value(der, _SEQUENCE)[0], _SEQUENCE)
        _, rest = _value(to_be_signed, _VERSION)
        serial, rest = _value(rest, _INTEGER)
        _, rest = _value(rest, _SEQUENCE)  # the signature's algorithm
        _, rest = _value(rest, _SEQUENCE)  # the issuer
        times, _ = _value(rest, _SEQUENCE)
        before, rest = _time(times)
        after, _ = _time(rest)
    except (ValueError, IndexError, OverflowError):
        raise IdentityError(f"certificate: {len(der)} bytes that are no X.509 certificate") from None
    return Validity(f"{int.from_bytes(serial, 'big'):x}", before, after)


def named_time(text: str) -> float:
    """Unix seconds of a time as `ssl` writes it, ``Nov 26 08:05:09 2026 GMT``; raises ValueError.

    The standard library's own (`ssl.cert_time_to_seconds`, `time.strptime`, `calendar.timegm`) load tables of months
    and days in all languages, which a device would keep for as long as it runs.
    """
    found = _NAMED.fullmatch(text)
    if found is None:
        raise ValueError(f"time: got {text!a}, expected one like 'Nov 26 08:05:09 2026 GMT'")
    month, *numbers = found.groups()
    day, hour, minute, second, year = map(int, numbers)
    return datetime(year, _MONTHS.index(month) + 1, day, hour, minute, second, tzinfo=UTC).timestamp()


def _value(data: bytes, *tags: int) -> tuple[bytes, bytes]:
    """The content of the first DER value, which has one of `tags`, and what follows it."""
    if data[0] not in tags:
        raise ValueError("another tag")
    length, start = data[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 2 or len(data) < 2 + count:
            raise ValueError("a length of more than two bytes, or none")
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if len(data) < start + length:
        raise ValueError("too short")
    return data[start : start + length], data[start + length :]


def _time(data: bytes) -> tuple[float, bytes]:
    content, rest = _value(data, _UTC, _GENERALIZED)
    text = content.decode("ascii")
    if data[0] == _UTC:  # two digits of a year: 50 to 99 are the last century's
        text = ("19" if text[:2] >= "50" else "20") + text
    if not re.fullmatch(r"\d{14}Z", text):
        raise ValueError("a time that is not UTC")
    month, day, hour, minute, second = (int(text[i : i + 2]) for i in range(4, 14, 2))
    return datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=UTC).timestamp(), rest
