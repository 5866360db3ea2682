"""What the operator does: found a federation, make a server's identity, grant a token, revoke."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fedagg_edge.errors import IdentityError
from fedagg_edge.identity import authority, folder, keys, pem, revocation, tokens
from fedagg_edge.identity.facts import IssuerKind, may_issue
from fedagg_edge.identity.issue import certificate_chain, issued
from fedagg_edge.identity.requests import Issued
from fedagg_edge.records import Tier, node_id

__all__ = ["found", "grant", "make_server", "revoke"]


def found(place: Path, federation: str, now: float) -> bytes:
    """Make a federation's root in a new folder; return its SHA-256. Raises IdentityError if there is one already."""
    for name in (folder.AUTHORITY_KEY, folder.AUTHORITY):
        if (place / name).exists():
            raise IdentityError(
                f"{place}: has {name} already; a federation's root is never replaced, take another folder"
            )
    folder.make_folder(place)
    key = keys.make_key(place / folder.AUTHORITY_KEY)
    root = authority.to_pem(authority.make_root(key, federation, now))
    folder.write(place / folder.AUTHORITY, root)
    return pem.fingerprint(pem.certificates(root)[0])


def make_server(
    place: Path, out: Path, *, node: str, role: Tier, hosts: Sequence[str], now: float, lifetime: float
) -> Issued:
    """Make an edge's or the cloud's identity folder: its key and certificate, its signing key and certificate.

    Raises IdentityError if `place` is not the operator's folder, or `out` holds an identity.
    """
    signer = authority.load_signer(place)
    if signer.kind is not IssuerKind.ROOT:
        raise IdentityError(f"{place}: holds {signer.kind.value}, expected the operator's folder: fedagg pki init")
    if role is Tier.DEVICE:
        raise IdentityError("role device: a device makes its own key; give it a token: fedagg pki token")
    if (out / folder.KEY).exists():
        raise IdentityError(f"{out}: holds an identity already; take a new folder")
    folder.make_folder(out)
    root = folder.read(place / folder.AUTHORITY)
    issuer_key, key = keys.make_key(out / folder.ISSUER_KEY), keys.make_key(out / folder.KEY)
    issuer = authority.certify_issuer(signer, node=node, role=role, public_key=issuer_key.public_key(), now=now)
    leaf = authority.certify(
        signer, node=node, role=role, public_key=key.public_key(), now=now, hosts=hosts, lifetime=lifetime
    )
    chain = certificate_chain(signer, authority.to_pem(leaf), role, root)
    done = issued(chain, root)
    _record(place, {"node": node, "serial": done.serial, "issuer": f"{issuer.serial_number:x}"})
    folder.write(out / folder.AUTHORITY, root)
    folder.write(out / folder.ISSUER, authority.to_pem(issuer))
    folder.write(out / folder.CERTIFICATE, chain)
    return done


def grant(
    place: Path, *, node: str, role: Tier, expires: float, hosts: Sequence[str] = (), now: float | None = None
) -> tokens.Token:
    """Make a token that a server with the identity folder `place` will take. It is kept as a digest only.

    Raises IdentityError if that server could not certify who brings it: it has no signing key, or one that may not
    sign for this role.
    """
    roots = pem.certificates(folder.read(place / folder.AUTHORITY))
    authority.check_hosts(node, role, hosts)
    kind = authority.load_signer(place).kind
    if not may_issue(kind, role):
        raise IdentityError(
            f"role {role.value}: {place} holds {kind.value}, which may not sign for it; make the token in the cloud's "
            "identity folder, or an identity with `fedagg pki server`"
        )
    token = tokens.make(pem.fingerprint(roots[0]))
    tokens.put_grant(
        place,
        tokens.Grant(
            digest=tokens.digest(token).hex(),
            id=token.id,
            node=node_id(node),
            role=role,
            expires=expires,
            hosts=tuple(hosts),
            made=time.time() if now is None else now,
        ),
    )
    return token


def revoke(place: Path, now: float, *, node: str | None = None, serial: str | None = None) -> revocation.Revocations:
    """Add a node, a serial or both to a folder's list; in the operator's folder a server's signing certificates as
    well.
    """
    servers = [each for each in _recorded(place) if node is not None and each.get("node") == node]

    def add(known: revocation.Revocations) -> revocation.Revocations:
        known = revocation.revoke(known, now, node=None if node is None else node_id(node), serial=serial)
        for each in servers:
            known = revocation.revoke(known, now, serial=each["issuer"])
            known = revocation.revoke(known, now, serial=each["serial"])
        return known

    return revocation.update(place, add)


def _recorded(place: Path) -> list[dict[str, str]]:
    path = place / folder.ISSUED
    if not path.exists():
        return []
    try:
        return [
            msgspec.json.decode(line, type=dict[str, str])
            for line in folder.read(path, limit=revocation.LIMIT).splitlines()
        ]
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise IdentityError(f"{path}: damaged; it lists what was issued, restore it from a backup") from None


def _record(place: Path, entry: dict[str, str]) -> None:
    lines = [msgspec.json.encode(each) + b"\n" for each in [*_recorded(place), entry]]
    folder.write(place / folder.ISSUED, b"".join(lines))
