"""Where identity lies on disk, and reading it with limits and clear errors.

a node's <state>/identity   key.pem 0600, certificate.pem (leaf, its issuer; a server's root too), authority.pem
a server's, as well         issuer_key.pem 0600, issuer.pem, tokens/, revoked.json
the operator's folder       authority_key.pem 0600, authority.pem, issued.jsonl, revoked.json
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from fedagg_edge.errors import IdentityError
from fedagg_edge.files import sync_folder, write_atomic

__all__ = [
    "AUTHORITY",
    "AUTHORITY_KEY",
    "CERTIFICATE",
    "ISSUED",
    "ISSUER",
    "ISSUER_KEY",
    "KEY",
    "REVOKED",
    "TOKENS",
    "make_folder",
    "may_sign",
    "read",
    "read_private",
    "write",
    "write_private",
]

KEY, CERTIFICATE, AUTHORITY = "key.pem", "certificate.pem", "authority.pem"
ISSUER_KEY, ISSUER, AUTHORITY_KEY = "issuer_key.pem", "issuer.pem", "authority_key.pem"
TOKENS, REVOKED, ISSUED = "tokens", "revoked.json", "issued.jsonl"
LIMIT = 65_536  # bytes of a file; the largest of ours, a chain of three certificates, has 2,500


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; one that is there stays as it is."""
    if not path.exists():
        path.mkdir(mode=0o700, parents=True)
        sync_folder(path.parent)


def may_sign(place: Path) -> bool:
    """Whether a signing key is here: a server's or the operator's. Who was enrolled with a token has none, an edge
    either."""
    return any((place / name).exists() for name in (ISSUER_KEY, AUTHORITY_KEY))


def read(path: Path, *, limit: int = LIMIT) -> bytes:
    """The content of a file. Raises IdentityError if it is missing, not readable or larger than `limit` bytes."""
    try:
        with path.open("rb") as f:
            content = f.read(limit + 1)
    except FileNotFoundError:
        raise IdentityError(f"{path}: not there; `fedagg enroll` or `fedagg pki` makes it") from None
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from None
    if len(content) > limit:
        raise IdentityError(f"{path}: got more than {limit} bytes, expected a file that fedagg wrote")
    return content


def read_private(path: Path) -> bytes:
    """The content of a key file. Raises IdentityError also if everybody on this machine may read or change it."""
    content = read(path)
    check_private(path)
    return content


def check_private(path: Path) -> None:
    """Raise IdentityError if users outside the file's group may read or write it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        raise IdentityError(f"{path}: not there; `fedagg enroll` or `fedagg pki` makes it") from None
    if mode & 0o007:
        raise IdentityError(f"{path}: got mode {mode:04o}, expected 0600; run: chmod 600 {path}")


def write(path: Path, content: bytes) -> None:
    """Write a public file whole or not at all. Raises OSError."""
    write_atomic(path, content)


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole or not at all; it is never readable by others, not even before it is complete.

    Raises OSError, and then `path` is as it was.
    """
    write_atomic(path, content, create=_create_private)


def _create_private(beside: Path) -> BinaryIO:
    beside.unlink(missing_ok=True)  # a killed writer's, perhaps of another mode
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)  # a umask may only take away; this also holds where it took too much
    return os.fdopen(descriptor, "wb")
