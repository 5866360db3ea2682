"""Questions to a server of the federation by somebody who is not its child: a person at a terminal, a script.

With a node's identity folder the server is checked as a child checks its parent, and knows who asks. Without one only
health is answered, and nothing about the server is checked.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from fedagg_edge.errors import IdentityError, PermissionDenied, RemoteProtocolError
from fedagg_edge.fleet.connection import Cutter, NoAnswer, ParentConnection, StrangeAnswer
from fedagg_edge.fleet.endpoints import parse_endpoint
from fedagg_edge.identity import pem, tls
from fedagg_edge.identity.facts import Facts
from fedagg_edge.records import Tier
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.problems import of_response

__all__ = ["Visitor"]

_MOST = Limits().body + (17 << 20)  # the largest part that a server may cut an artefact into, and some
_TRIES = 8
_LONGEST_WAIT = 60.0


class Visitor:
    """A connection to the server at `url`, closed by leaving the context. `facts`: who it is, once it was asked with
    an `identity`. `until`: when the certificate that it showed ends. Raises ConfigError for a wrong URL, IdentityError
    for a folder that is no identity."""

    def __init__(self, url: str, identity: Path | None, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.facts: Facts | None = None
        self.until: float | None = None
        self._url, self._sleep = url, sleep
        context = _unchecked() if identity is None else tls.client_context(identity)
        self._verified = identity is not None
        self._connection = ParentConnection(parse_endpoint(url), context, self._look, Cutter(), most=_MOST)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def get(self, path: str) -> Response:
        """The answer of status 200, after waiting where the server asked for that.

        Raises PermissionDenied where it refuses or is no server of the federation, RemoteProtocolError for no answer.
        """
        response = self.answer(path)
        for _ in range(_TRIES):
            if response.status not in (429, 503) or response.retry_after is None:
                break
            self._sleep(min(_LONGEST_WAIT, max(0.05, response.retry_after)))
            response = self.answer(path)
        if response.status == 200:
            return response
        problem = of_response(response, Limits())
        text = f"{self._url}: {problem.message!r} ({problem.code!r}, status {response.status})"
        raise PermissionDenied(text) if response.status in (401, 403) else RemoteProtocolError(text)

    def answer(self, path: str) -> Response:
        """Whatever the server answers; one more try after a connection that broke."""
        try:
            return self._send(path)
        except NoAnswer as first:
            self._refuse_for_good(first)
        try:
            return self._send(path)
        except NoAnswer as error:
            self._refuse_for_good(error)
            raise RemoteProtocolError(
                f"{self._url}: no answer ({_reason(error)}); is it running, and is this its address?"
            ) from error

    def _send(self, path: str) -> Response:
        return self._connection.send(Request("GET", path))

    def _refuse_for_good(self, error: NoAnswer) -> None:
        if isinstance(error, StrangeAnswer):
            raise RemoteProtocolError(f"{self._url}: {error}") from error
        if tls.speaks_no_tls(error):
            raise RemoteProtocolError(f"{self._url}: {tls.NO_TLS}") from error
        if tls.refused_as_expired(error):
            raise IdentityError(f"{self._url}: it refuses this identity, whose certificate has expired") from error
        if _unverified(error):
            raise PermissionDenied(
                f"{self._url}: not a server of this identity's federation, or not by this name; "
                "take the name or address that its certificate has"
            ) from error

    def _look(self, connection: ssl.SSLSocket) -> None:
        der = connection.getpeercert(binary_form=True)
        self.until = None if der is None else pem.validity(der).not_after
        if self._verified:
            self.facts = tls.peer_of(connection)
            if self.facts.role is Tier.DEVICE:
                raise ssl.SSLError("the server's certificate is a device's")


def _reason(error: BaseException) -> str:
    """What was first, below the libraries' wrappers."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _unverified(error: BaseException | None) -> bool:
    """Whether the server's certificate did not pass."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
