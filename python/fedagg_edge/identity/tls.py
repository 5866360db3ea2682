"""TLS as the fleet uses it, from the standard library alone: contexts for both ends, and who is at the other one.

Both ends trust the federation's root and nothing else. A server asks for a client certificate but does not insist:
enrolment and
renewal come without one. Whoever presents one must pass. Sessions are not resumed: a resumed session would not look at
the client's certificate again, and its tickets, which hold that certificate, add 1.7 KB to a handshake of 3.5 KB.
"""

from __future__ import annotations

import hmac
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedagg_edge.errors import IdentityError, PermissionDenied
from fedagg_edge.identity import folder, pem
from fedagg_edge.identity.facts import Facts, facts_of
from fedagg_edge.identity.renewal import clock_is_unset

__all__ = [
    "NO_TLS",
    "Contact",
    "broke_off",
    "client_context",
    "clock_is_behind",
    "expired_by_this_clock",
    "first_contact",
    "peer_of",
    "refused_as_expired",
    "server_context",
    "speaks_no_tls",
]

NO_TLS = "what answers there does not speak TLS: a proxy or captive portal in between, or the port of something else"
_NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")  # OpenSSL 3.0; 3.2, 3.3

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: everything but the dates is checked. The `ssl` module has no name for it."""

_NOT_YET_VALID, _HAS_EXPIRED = 9, 10  # OpenSSL's X509_V_ERR_CERT_...
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all fine


class Contact(NamedTuple):
    """What first contact gives: a context that trusts the federation's root only, and that root as PEM."""

    context: ssl.SSLContext
    authority: bytes


def server_context(place: Path) -> ssl.SSLContext:
    """The context of an edge's or the cloud's gateway, from its identity folder. Make another after a renewal.

    Raises IdentityError if a file is missing, damaged, readable by everybody, or does not fit the others.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder.read(place / folder.AUTHORITY), check_time=True)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_own(context, place)
    return context


def client_context(
    place: Path, *, now: float | None = None, with_certificate: bool = True, check_time: bool | None = None
) -> ssl.SSLContext:
    """The context of a child's link to its parent, from its identity folder. Make another after a renewal.

    `with_certificate` False: for renewing one that expired, which a server would refuse. `check_time` None: the
    server's
    dates are checked unless `now` (the clock's, if None) is evidently wrong, before this node's own certificate was
    made; its
    chain and its name always are. Raises IdentityError as `server_context` does.
    """
    authority = folder.read(place / folder.AUTHORITY)
    if check_time is None:
        now = time.time() if now is None else now
        own = folder.read(place / folder.CERTIFICATE) if with_certificate else b""
        known = pem.certificates(authority)[:1] + (pem.certificates(own)[:1] if own else [])
        check_time = not clock_is_unset(now, *map(pem.validity, known))
    context = _context(ssl.PROTOCOL_TLS_CLIENT, authority, check_time=check_time)
    if with_certificate:
        _load_own(context, place)
    return context


def first_contact(
    host: str, port: int, fingerprint: bytes, *, timeout: float = 20.0, now: float | None = None
) -> Contact:
    """Fetch a server's chain, find the root that a token names in it, and return a context that trusts that root only.

    `fingerprint` is the root's SHA-256. Nothing is sent to the server but a TLS hello, and nothing that it says is
    believed:
    the connection that is made with the context checks chain and host name. Raises IdentityError if the root is not in
    the chain, OSError if there is no connection.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((host, port), timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        chain = _unverified_chain(secured)
    for der in chain:
        if hmac.compare_digest(pem.fingerprint(der), fingerprint):
            authority = pem.to_pem(der)
            unset = clock_is_unset(time.time() if now is None else now, pem.validity(der))
            return Contact(_context(ssl.PROTOCOL_TLS_CLIENT, authority, check_time=not unset), authority)
    raise IdentityError(
        f"{host}:{port}: none of its {len(chain)} certificates is the authority that the token names; "
        "is this the right server, and is nobody in between?"
    )


def peer_of(source: ssl.SSLSocket | ssl.SSLObject | Mapping[str, Any] | None) -> Facts:
    """Who is at the other end, from a connection or its `getpeercert()`, which is only filled once OpenSSL has
    checked it.

    Raises PermissionDenied if there is no certificate, or one that the federation's rules do not allow.
    """
    shown: Any = source.getpeercert() if isinstance(source, ssl.SSLSocket | ssl.SSLObject) else source
    if not shown:
        raise PermissionDenied("no client certificate; enrol first: fedagg enroll")
    try:
        names = shown.get("subjectAltName", ())
        return facts_of(
            subject=_flat(shown["subject"]),
            issuer=_flat(shown["issuer"]),
            uris=[value for kind, value in names if kind == "URI"],
            serial=f"{int(shown['serialNumber'], 16):x}",
            not_before=pem.named_time(shown["notBefore"]),
            not_after=pem.named_time(shown["notAfter"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, PermissionDenied):
            raise
        raise PermissionDenied(f"certificate: not readable ({type(error).__name__})") from None


def clock_is_behind(error: BaseException | None) -> bool:
    """Whether a handshake failed as the server's certificate is not valid *yet*: this machine's clock is behind.

    The federation's root has signed that the present is later than the clock says, so a caller may go on with
    `client_context(..., check_time=False)`. Looks through the exceptions that led to this one.
    """
    return _is_unverified(error, _NOT_YET_VALID)


def expired_by_this_clock(error: BaseException | None) -> bool:
    """Whether a handshake failed as the server's certificate has expired: either the server did not renew it, or this
    machine's clock is ahead. Unlike a clock that is behind this is no reason to skip the dates: nobody has signed that
    the present is earlier than the clock says."""
    return _is_unverified(error, _HAS_EXPIRED)


def _is_unverified(error: BaseException | None, code: int) -> bool:
    return any(
        isinstance(e, ssl.SSLCertVerificationError) and getattr(e, "verify_code", None) == code for e in _causes(error)
    )


def refused_as_expired(error: BaseException | None) -> bool:
    """Whether the server refused this node's certificate as expired, whatever the local clock says: renew it."""
    return any(
        isinstance(e, ssl.SSLError) and "CERTIFICATE_EXPIRED" in str(getattr(e, "reason", "")) for e in _causes(error)
    )


def broke_off(error: BaseException | None) -> bool:
    """Whether a server accepted a connection and then ended it without a word: it may have refused the certificate."""
    return any(isinstance(e, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError) for e in _causes(error))


def speaks_no_tls(error: BaseException | None) -> bool:
    """Whether what answered does not speak TLS: a captive portal in between, or another port's service."""
    return any(isinstance(e, ssl.SSLError) and e.reason in _NO_TLS_REASONS for e in _causes(error))


def _context(protocol: ssl._SSLMethod, authority: bytes, *, check_time: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION
    context.hostname_checks_common_name = False  # a node id is no host name, even with a dot in it
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if not check_time:
        context.verify_flags |= NO_CHECK_TIME
    context.set_alpn_protocols(["http/1.1"])
    roots = pem.certificates(authority)
    if len(roots) != 1:
        raise IdentityError(f"{folder.AUTHORITY}: got {len(roots)} certificates, expected the federation's root alone")
    try:
        context.load_verify_locations(cadata=roots[0])
    except ssl.SSLError:
        raise IdentityError(f"{folder.AUTHORITY}: no certificate that TLS can use") from None
    return context


def _load_own(context: ssl.SSLContext, place: Path) -> None:
    key, chain = place / folder.KEY, place / folder.CERTIFICATE
    folder.check_private(key)
    folder.read(chain)
    try:
        # an encrypted key would make OpenSSL ask on the terminal, and a service wait for ever
        context.load_cert_chain(chain, key, password="")
    except ssl.SSLError as error:
        raise IdentityError(
            f"{chain}: does not load with {folder.KEY} ({error.reason or 'damaged'}); enrol again: fedagg enroll"
        ) from None
    except OSError as error:
        raise IdentityError(f"{key}: {error.strerror}") from None


def _unverified_chain(secured: ssl.SSLSocket) -> list[bytes]:
    """What the server sent, as DER. Public from Python 3.13; before that, the same method of the object below."""
    public = getattr(secured, "get_unverified_chain", None)
    if public is not None:
        return [bytes(der) for der in public()]
    found = secured._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in found or ()]


def _flat(name: Iterable[Iterable[tuple[str, str]]]) -> list[tuple[str, str]]:
    pairs = []
    for relative in name:
        found = list(relative)
        if len(found) != 1:
            raise PermissionDenied("certificate: a name with several values in one place")
        pairs.append(found[0])
    return pairs


def _causes(error: BaseException | None) -> list[BaseException]:
    """An exception, those it wraps (in its arguments or in `reason`, as URLError) and those that led to it."""
    found: list[BaseException] = []
    pending = [error]
    while pending and len(found) < 32:
        one = pending.pop()
        if one is None or any(one is known for known in found):
            continue
        found.append(one)
        inner = [getattr(one, "reason", None), *one.args]
        pending += [one.__cause__, one.__context__, *(e for e in inner if isinstance(e, BaseException))]
    return found
