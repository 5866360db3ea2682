"""`fedagg enroll`: make this node's key and buy its certificate with a one-time token.

The token pins the federation's authority: it is only sent to a server whose certificate that authority signed. Run
again, with the same token or another, after an attempt that failed; exit code 69 says that nobody answered.
"""

from __future__ import annotations

import argparse
import contextlib
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fedagg_edge.cli.pki import needing_extra
from fedagg_edge.errors import ConfigError, IdentityError, PermissionDenied, RemoteProtocolError, Unreachable
from fedagg_edge.fleet.endpoints import parse_endpoint
from fedagg_edge.identity import tls, tokens
from fedagg_edge.records import Tier, node_id

if TYPE_CHECKING:
    from fedagg_edge.identity.enrolment import EnrolmentRequest

__all__ = ["Address", "address", "enrol", "post", "register", "run"]

_MEDIA = "application/x-fedagg"
UNREACHABLE = 69  # the exit code that says: the same again later (fleet/exits.py has the list)
_ANSWER = 65_536  # bytes
_TIMEOUT = 60.0  # seconds

Post = Callable[["Address", ssl.SSLContext, tokens.Token, "EnrolmentRequest"], bytes]
"""Sends a request with its token; gives the certificate chain, PEM."""


class Address(NamedTuple):
    """Where a server is."""

    host: str
    port: int


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser("enroll", help="make this node's identity, with a one-time token", description=__doc__)
    parser.add_argument("url", metavar="URL", help="https://host:port of the parent")
    parser.add_argument("--token", required=True, metavar="T", help="from `fedagg pki token`; - reads it from stdin")
    parser.add_argument("--state", required=True, type=Path, metavar="DIR", help="this node's state; gets identity/")
    parser.add_argument("--node", required=True, metavar="ID", help="this node's id, as the token has it")
    parser.add_argument("--role", default=Tier.DEVICE.value, choices=[Tier.DEVICE.value, Tier.EDGE.value])
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb; 69 if the parent gave no answer now. Raises FedaggError for what the user can mend."""
    text = sys.stdin.readline(1024).strip() if args.token == "-" else args.token
    where = address(args.url)
    try:
        enrol(
            where, tokens.parse(text), args.state / "identity", node=node_id(args.node), role=Tier(args.role), send=post
        )
    except ModuleNotFoundError as error:
        raise needing_extra(error) from error
    except Unreachable as error:
        print(f"fedagg: {error}", file=sys.stderr)  # noqa: T201
        return UNREACHABLE
    sys.stdout.write(
        f"enrolled {args.role} {args.node} at {where.host}:{where.port}; identity in {args.state}/identity\n"
    )
    return 0


def address(url: str) -> Address:
    """Host and port of an https URL without a path. Raises ConfigError."""
    try:
        return Address(*parse_endpoint(url))
    except ConfigError:
        raise ConfigError("URL: expected https://host:port, nothing behind it") from None


def enrol(where: Address, token: tokens.Token, place: Path, *, node: str, role: Tier, send: Post) -> None:
    """Pin the authority, make the key, send the request, put the certificate in place. Raises FedaggError, OSError."""
    from fedagg_edge.identity import enrolment  # noqa: PLC0415  cryptography: only when it is used

    ended = enrolment.finish(place)
    if ended is not None and (ended.node, ended.role) == (node, role):
        return
    try:
        contact = tls.first_contact(where.host, where.port, token.authority)
    except ssl.SSLCertVerificationError as error:
        raise IdentityError(
            f"{where.host}:{where.port}: not of the token's federation ({error.verify_message})"
        ) from None
    except OSError as error:
        if tls.speaks_no_tls(error):
            raise Unreachable(f"{where.host}:{where.port}: {tls.NO_TLS}") from None
        raise Unreachable(f"{where.host}:{where.port}: no connection ({error.strerror or error})") from None
    request = enrolment.request_enrolment(place, contact.authority, token, node=node, role=role, time=time.time())
    certificate = send(where, contact.context, token, request)
    enrolment.install_first(place, certificate, contact.authority, request)


class _Problem(msgspec.Struct, array_like=True, frozen=True):
    code: str
    message: str


class _Enrolled(msgspec.Struct, array_like=True, frozen=True):
    certificate: bytes


def post(where: Address, context: ssl.SSLContext, token: tokens.Token, request: EnrolmentRequest) -> bytes:
    """POST /v1/enrol, once: a token is spent by an answer that got lost, and then the same request gets it again.

    Raises PermissionDenied if the server refuses, Unreachable for no answer, one that says later or one that somebody
    in between gave in the server's place, RemoteProtocolError for one that cannot be read.
    """
    from fedagg_edge.fleet.https import BadAnswer, HttpsLine  # noqa: PLC0415
    from fedagg_edge.wire.http import strange  # noqa: PLC0415

    fields = (token.text, request.node, request.role.value, request.public_key, request.proof, request.time)
    line = HttpsLine(where, context, connect_seconds=_TIMEOUT, read_seconds=_TIMEOUT)
    body = b""
    with contextlib.closing(line):
        try:
            answer = line.ask("POST", "/v1/enrol", msgspec.msgpack.encode(fields), {"Content-Type": _MEDIA})
            if (text := strange(answer.status, answer.headers.get("content-type", ""))) is not None:
                raise Unreachable(f"{where.host}:{where.port}: {text}")
            if answer.length is None:
                raise RemoteProtocolError(f"enrolment: got status {answer.status} without a length, expected an answer")
            while len(body) < min(answer.length, _ANSWER + 1):
                piece = line.read(_ANSWER)
                if not piece:
                    raise Unreachable(f"{where.host}:{where.port}: the answer broke off; ask again")
                body += piece
        except (BadAnswer, OSError) as error:
            raise Unreachable(f"{where.host}:{where.port}: no answer ({type(error).__name__}: {error})") from None
    return _certificate(answer.status, body)


def _certificate(status: int, body: bytes) -> bytes:
    if len(body) > _ANSWER:
        raise RemoteProtocolError(f"enrolment: got more than {_ANSWER} bytes, expected a certificate")
    try:
        if status >= 400:
            problem = msgspec.msgpack.decode(body, type=_Problem)
            passing = status in (408, 429) or status >= 500
            raise (Unreachable if passing else PermissionDenied)(
                f"enrolment refused: {problem.message[:500]!r} ({problem.code[:50]!r}, status {status})"
            )
        if status != 200:
            raise RemoteProtocolError(f"enrolment: got status {status}, expected 200")
        return msgspec.msgpack.decode(body, type=_Enrolled).certificate
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RemoteProtocolError(f"enrolment: got status {status} with a body that is not the protocol's") from None
