"""What a certificate says about its owner, and which issuer may say so: the rules, free of any X.509 library.

Subject of a node's certificate: O = federation, OU = role, CN = node id; one URI fedagg://<federation>/<role>/<node>.
Subject of a signing certificate: O = federation, OU = its kind, CN = the node that holds it, serialNumber = its own
serial,
so that a verifier who sees no more than a leaf's issuer name can tell which key signed it and whether that is revoked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from fedagg_edge.errors import DataError, IdentityError, PermissionDenied
from fedagg_edge.records import NodeId, Tier, node_id

__all__ = ["Facts", "Issuer", "IssuerKind", "facts_of", "federation_name", "may_issue", "uri_of"]

_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_SCHEME = "fedagg://"
_O, _OU, _CN, _SERIAL_NUMBER = "organizationName", "organizationalUnitName", "commonName", "serialNumber"


class IssuerKind(StrEnum):
    """Who signed a certificate."""

    ROOT = "root"  # the federation's authority, the only thing a node trusts by itself
    CLOUD = "cloud-issuer"  # held by the cloud: devices below it, edges, its own renewal
    EDGE = "edge-issuer"  # held by an edge: devices and nothing else


_MAY_ISSUE = {
    IssuerKind.ROOT: frozenset(Tier),
    IssuerKind.CLOUD: frozenset(Tier),
    IssuerKind.EDGE: frozenset({Tier.DEVICE}),
}


@dataclass(frozen=True, slots=True)
class Issuer:
    """The signing certificate above a leaf. `node` is the federation's name for the root."""

    kind: IssuerKind
    node: NodeId
    serial: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a checked certificate says. Serials are lower-case hexadecimal, times are Unix seconds."""

    node: NodeId
    role: Tier
    federation: str
    serial: str
    not_before: float
    not_after: float
    issuer: Issuer


def federation_name(text: str) -> str:
    """Return `text` if it may name a federation, spelt as a node id is; raise IdentityError otherwise."""
    try:
        return str(node_id(text))
    except DataError:
        raise IdentityError(
            f"federation: got {text!r}, expected 1 to 64 of a-z 0-9 . _ -, starting with a letter or digit"
        ) from None


def may_issue(kind: IssuerKind, role: Tier) -> bool:
    """Whether an issuer of this kind may certify a node of this role."""
    return role in _MAY_ISSUE[kind]


def uri_of(federation: str, role: Tier, node: str) -> str:
    """A node's name as a URI, fedagg://<federation>/<role>/<node>."""
    return f"{_SCHEME}{federation}/{role.value}/{node}"


def facts_of(
    *,
    subject: Iterable[tuple[str, str]],
    issuer: Iterable[tuple[str, str]],
    uris: Iterable[str],
    serial: str,
    not_before: float,
    not_after: float,
) -> Facts:
    """Read a leaf's facts strictly. `subject` and `issuer` are (OpenSSL's long attribute name, value) in order.

    The signatures must have been checked before. Raises PermissionDenied for anything that is not exactly as this
    module's
    docstring says, and for a role that this kind of issuer may not give.
    """
    federation, role_text, node = _exactly(subject, (_O, _OU, _CN), "subject")
    above, kind_text, holder, above_serial = _exactly(issuer, (_O, _OU, _CN, _SERIAL_NUMBER), "issuer")
    try:
        found = Facts(
            node=node_id(node),
            role=Tier(role_text),
            federation=federation_name(federation),
            serial=_serial(serial),
            not_before=not_before,
            not_after=not_after,
            issuer=Issuer(IssuerKind(kind_text), node_id(holder), _serial(above_serial)),
        )
    except (ValueError, IdentityError) as error:
        raise PermissionDenied(f"certificate of {node!r}: {error}") from None
    if above != federation:
        raise PermissionDenied(f"certificate of {node!r}: of federation {federation!r}, but signed in {above!r}")
    if not may_issue(found.issuer.kind, found.role):
        raise PermissionDenied(
            f"certificate of {node!r}: role {found.role.value}, signed by {found.issuer.kind.value} of "
            f"{found.issuer.node!r}, which may only sign {', '.join(sorted(_MAY_ISSUE[found.issuer.kind]))}"
        )
    names = list(uris)
    if names != [uri_of(federation, found.role, node)]:
        raise PermissionDenied(
            f"certificate of {node!r}: got names {names!r}, expected {uri_of(federation, found.role, node)}"
        )
    return found


def _exactly(names: Iterable[tuple[str, str]], wanted: tuple[str, ...], what: str) -> tuple[str, ...]:
    pairs = list(names)
    if tuple(name for name, _ in pairs) != wanted:
        raise PermissionDenied(
            f"certificate: {what} has {[n for n, _ in pairs]}, expected {list(wanted)} in this order"
        )
    return tuple(value for _, value in pairs)


def _serial(text: str) -> str:
    if not _SERIAL.fullmatch(text):
        raise IdentityError(f"serial: got {text!r}, expected 1 to 40 lower-case hexadecimal digits")
    return text
