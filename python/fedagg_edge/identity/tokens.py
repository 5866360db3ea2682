"""One-time enrolment tokens: fedagg1.<id>.<secret>.<digest of the authority>, base64 without padding, safe in a URL.

A token says nothing: the server that gets one looks up what it is good for by its SHA-256, and keeps no more than
that. The
last part pins the federation's authority, so that a device cannot be enrolled by anybody else on first contact.
Whether a
token was spent is the ledger's affair.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fedagg_edge.errors import IdentityError
from fedagg_edge.identity import folder
from fedagg_edge.records import Tier

__all__ = ["Grant", "Token", "digest", "find_grant", "granted", "make", "parse", "put_grant", "remove_expired"]

_FORM = re.compile(r"fedagg1\.([A-Za-z0-9_-]{11})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})")
_ID, _SECRET = 8, 32  # bytes
LENGTH = 107  # characters


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed token. `id` may be logged; `text`, which is what is sent, may not and is not in repr()."""

    id: str
    authority: bytes  # SHA-256 of the federation's root certificate
    text: str = field(repr=False)


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a token is good for, kept under its digest. `made` and `expires` are Unix seconds, `hosts` a server's names
    and addresses.
    """

    digest: str
    id: str
    node: str
    role: Tier
    expires: float
    hosts: tuple[str, ...] = ()
    made: float = 0.0


def make(authority: bytes) -> Token:
    """A new token: 256 random bits for a federation whose root certificate has this SHA-256."""
    if len(authority) != 32:
        raise IdentityError(f"authority's digest: got {len(authority)} bytes, expected 32")
    parts = [_encode(secrets.token_bytes(_ID)), _encode(secrets.token_bytes(_SECRET)), _encode(authority)]
    return Token(parts[0], authority, ".".join(["fedagg1", *parts]))


def parse(text: str) -> Token:
    """Read a token. Raises IdentityError, which does not repeat it, if it is none."""
    found = _FORM.fullmatch(text.strip()) if len(text) <= 2 * LENGTH else None
    if not found:
        raise IdentityError(
            f"enrolment token: got {len(text)} characters, expected {LENGTH} of the form "
            f"fedagg1.<id>.<secret>.<authority>; "
            "copy it whole, or make another: fedagg pki token"
        )
    try:
        authority = base64.urlsafe_b64decode(found[3] + "=")
    except binascii.Error:
        authority = b""
    if _encode(authority) != found[3]:  # base64 has several spellings of the last bits; a token has one
        raise IdentityError("enrolment token: its last part is damaged; copy it whole")
    return Token(found[1], authority, found[0])


def digest(token: Token | str) -> bytes:
    """What is kept of a token: SHA-256 of its whole text, so that no part can be exchanged. 32 bytes."""
    text = token if isinstance(token, str) else token.text
    return hashlib.sha256(b"fedagg/token/1\n" + text.encode("utf-8", "surrogatepass")).digest()


def put_grant(place: Path, grant: Grant) -> None:
    """Keep a grant in the folder `place` of a server's identity. Raises OSError."""
    folder.make_folder(place / folder.TOKENS)
    folder.write_private(place / folder.TOKENS / f"{grant.digest}.json", msgspec.json.encode(grant))


def find_grant(place: Path, token: str, now: float) -> Grant:
    """The grant of a token that a node sent. Says nothing about whether it was spent.

    Raises IdentityError if there is none, which also is the answer for one that expired at `now`.
    """
    path = place / folder.TOKENS / f"{digest(token).hex()}.json"
    unknown = IdentityError("enrolment token: not known here, or expired; make another: fedagg pki token")
    if not path.is_file():
        raise unknown
    try:
        grant = msgspec.json.decode(folder.read(path), type=Grant)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise IdentityError(f"{path}: damaged; remove it and make another token: fedagg pki token") from None
    if now >= grant.expires or grant.digest != path.stem:
        raise unknown
    return grant


def granted(place: Path) -> set[str]:
    """The nodes that a token was made for here, of those that are kept. A file that is no grant is passed over."""
    found = set()
    for path in (place / folder.TOKENS).glob("*.json"):
        try:
            found.add(msgspec.json.decode(folder.read(path), type=Grant).node)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found


def remove_expired(place: Path, now: float) -> int:
    """Remove the grants that expired before `now`; return how many. A file that is no grant stays."""
    removed = 0
    for path in sorted((place / folder.TOKENS).glob("*.json")):
        try:
            expired = msgspec.json.decode(folder.read(path), type=Grant).expires <= now
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if expired:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
