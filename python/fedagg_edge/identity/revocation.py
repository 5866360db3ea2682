"""The revocation list: which certificates are refused although they are in date. Pure data, and one file.

By serial, exact, of leaves and of signing certificates: what a revoked issuer signed is refused too. By node: every
certificate
of it that was made up to then, so that a node that is enrolled again works.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import Meta

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import folder
from fedagg_edge.identity.facts import Facts
from fedagg_edge.identity.renewal import GRACE, LONGEST, SKEW

__all__ = [
    "Revocations",
    "check",
    "check_token",
    "decode",
    "encode",
    "load",
    "merge",
    "prune",
    "revoke",
    "save",
    "update",
]

_LOCK = "revoked.lock"
LIMIT = 8 << 20  # bytes of an encoded list: some 100,000 entries
FEW = 10_000  # nodes: so many are kept whatever their age
_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_Time = Annotated[float, Meta(ge=0, le=1e11)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]


class Revocations(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Serials and nodes with the Unix seconds of their revocation; `version` grows with every change made at one
    place.
    """

    version: Annotated[int, Meta(ge=0)] = 0
    serials: Mapping[_Name, _Time] = MappingProxyType({})
    nodes: Mapping[_Name, _Time] = MappingProxyType({})


def revoke(known: Revocations, at: float, *, serial: str | None = None, node: str | None = None) -> Revocations:
    """The list with a serial, a node or both added. Raises IdentityError if `serial` is not lower-case hexadecimal."""
    if serial is not None and not _SERIAL.fullmatch(serial):
        raise IdentityError(f"serial: got {serial!r}, expected 1 to 40 lower-case hexadecimal digits")
    more = Revocations(
        version=known.version,
        serials={} if serial is None else {serial: at},
        nodes={} if node is None else {node: at},
    )
    return merge(known, more)


def merge(ours: Revocations, theirs: Revocations) -> Revocations:
    """Both lists' entries, the later time of each. `ours`, the same object, if `theirs` adds nothing."""
    serials, nodes = _later(ours.serials, theirs.serials), _later(ours.nodes, theirs.nodes)
    if serials == ours.serials and nodes == ours.nodes:
        return ours
    return Revocations(version=max(ours.version, theirs.version) + 1, serials=serials, nodes=nodes)


def prune(known: Revocations, now: float) -> Revocations:
    """The list without nodes whose revoked certificates can no longer be renewed. Serials, which may be an issuer's,
    stay, and so does a list that is short: it costs nothing, and once a clock was ahead for a moment an entry that went
    by it would be missed.
    """
    if len(known.nodes) <= FEW:
        return known
    kept = {node: at for node, at in known.nodes.items() if now <= at + LONGEST + GRACE}
    if len(kept) == len(known.nodes):
        return known
    return Revocations(version=known.version + 1, serials=known.serials, nodes=kept)


def check(known: Revocations, facts: Facts) -> None:
    """Raise PermissionDenied if a certificate with these facts, or the issuer that signed it, is revoked."""
    for what, serial in (("certificate", facts.serial), ("its issuer's certificate", facts.issuer.serial)):
        if serial in known.serials:
            raise PermissionDenied(f"node {facts.node!r}: {what} {serial} is revoked; enrol again with a new token")
    made = facts.not_before + SKEW
    if made <= known.nodes.get(facts.node, -1.0):
        raise PermissionDenied(f"node {facts.node!r}: revoked; enrol again with a new token")


def check_token(known: Revocations, node: str, made: float) -> None:
    """Raise PermissionDenied if a token for `node` was made before it was revoked: what it buys would not be refused,
    so whoever has the board, or its token file, would lift the revocation."""
    if made <= known.nodes.get(node, -1.0):
        raise PermissionDenied(f"enrolment token: node {node!r} was revoked since; make another: fedagg pki token")


def encode(known: Revocations) -> bytes:
    """The list as JSON, the same bytes for the same list."""
    return msgspec.json.encode(known, order="deterministic", enc_hook=dict)  # of an empty list, too


def decode(data: bytes) -> Revocations:
    """Read a list. Raises IdentityError if it is none, or too large."""
    if len(data) > LIMIT:
        raise IdentityError(f"revocation list: got {len(data)} bytes, expected at most {LIMIT}")
    try:
        return msgspec.json.decode(data, type=Revocations)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IdentityError(f"revocation list: {error}") from None


def load(place: Path) -> Revocations:
    """The list of an identity folder; an empty one if there is no file. Raises IdentityError if it is damaged."""
    path = place / folder.REVOKED
    return decode(folder.read(path, limit=LIMIT)) if path.exists() else Revocations()


def update(place: Path, change: Callable[[Revocations], Revocations]) -> Revocations:
    """Change the list of an identity folder; what it is then. Writers in several processes wait for each other.

    Raises IdentityError as `load` does, OSError.
    """
    lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = load(place)
        changed = change(known)
        if changed is not known:
            save(place, changed)
        return changed
    finally:
        os.close(lock)


def save(place: Path, known: Revocations) -> None:
    """Keep the list in an identity folder. Raises OSError."""
    folder.write(place / folder.REVOKED, encode(known))


def _later(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    both = dict(ours)
    for name, at in theirs.items():
        both[name] = max(at, both.get(name, at))
    return both
