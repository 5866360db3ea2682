"""Keeping a node's certificate in date: when to renew, with whom, and what must follow. A thread of its own.

A device or an edge asks its parent, over a connection without a client certificate, as the old one may have expired:
the request itself is signed. The cloud certifies itself with its signing key, and signs its artefacts again. Keys stay,
so a new certificate is one file renamed into place; gateways and uplinks make their TLS contexts from it again.
"""

from __future__ import annotations

import hashlib
import math
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fedagg_edge.errors import FedaggError, IdentityError, PermissionDenied, RemoteProtocolError
from fedagg_edge.failpoints import reach
from fedagg_edge.fleet.connection import Cutter, NoAnswer, ParentConnection
from fedagg_edge.fleet.endpoints import parse_endpoint
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.parts import check_parent
from fedagg_edge.identity import folder, offload, pem, requests, tls
from fedagg_edge.identity.renewal import Standing, clock_is_unset, renewal_due, standing
from fedagg_edge.wire.http import Request
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Enrolled, Renew, decode, encode
from fedagg_edge.wire.problems import of_response
from fedagg_edge.wire.refusal import Refusal

__all__ = ["Renewer", "at_parent", "buy_at", "by_own_issuer"]

_FIRST, _LONGEST = 30.0, 3600.0  # seconds between tries that fail
_LEAST = 5.0  # seconds between two renewals, however short certificates last
_LOOK = 600.0  # seconds after which the clock is looked at again, as it may jump
_REST = 1 / 3  # of a lifetime, on a clock that never jumps: by one that is days ahead, a new certificate is due at once

Buy = Callable[[requests.Prepared], bytes]
"""A certificate chain (PEM) for a renewal request. Raises FedaggError."""


class Renewer:
    """Renews the certificate in the folder `identity` when it is due. `installed` is called, in the renewer's thread,
    each time that a new one is in place."""

    def __init__(
        self,
        identity: Path,
        buy: Buy,
        installed: Callable[[], None],
        log: Log,
        *,
        clock: Callable[[], float] = time.time,
        running: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`running`: seconds that never jump."""
        self._identity, self._buy, self._installed, self._log = identity, buy, installed, log
        self._clock, self._running, self._rng = clock, running, rng or random.Random()
        self._rest = -math.inf  # until when the last one is new enough, whatever the clock says
        self._failures = 0
        self._refused = False
        self._told = True  # `installed` was called for the certificate that is in place
        self._changed = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fedagg-renewal", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End the thread; a request under way is left to itself, what it buys can be asked for again."""
        self._stopping = True
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def refused(self) -> None:
        """A server has refused the certificate as expired, whatever this machine's clock says: it is due."""
        if not self._refused:
            self._refused = True
            if self._failures == 0:
                self._changed.set()

    def look(self) -> float:
        """Renew if that is due; the seconds until the next look."""
        now = self._clock()
        try:
            self._tell()
            validity = self._validity()
            due = renewal_due(validity, _jitter(validity.serial))
            early = max(due - now, self._rest - self._running())
            if not self._refused and (early > 0 or clock_is_unset(now, validity)):
                return min(max(_LEAST, early), _LOOK)
            if standing(validity, now) is Standing.LAPSED:
                self._log.warning("certificate_lapsed", until=validity.not_after)
            self._renew(now)
        except (FedaggError, NoAnswer, OSError) as error:
            why = {"reason": error.code.replace("_", " ")} if isinstance(error, Refusal) else {}
            self._log.failure("renewal_failed", error, count=self._failures, **why)
            wait = min(_LONGEST, _FIRST * 2.0 ** min(self._failures, 16)) * (0.5 + 0.5 * self._rng.random())
            self._failures += 1
            return wait
        self._failures, self._refused = 0, False
        validity = self._validity()
        self._rest = self._running() + _REST * (validity.not_after - validity.not_before)
        self._log.info("certificate_renewed", until=validity.not_after)
        return _LEAST

    def _renew(self, now: float) -> None:
        prepared = offload.ask(requests.Prepare(folder=str(self._identity), time=now), requests.Prepared)
        chain = self._buy(prepared)
        reach("renewal.renew.after-buy")
        offload.ask(requests.Install(folder=str(self._identity), certificate=chain), requests.Issued)
        reach("renewal.renew.after-install")
        self._told = False
        self._tell()

    def _tell(self) -> None:
        """Call `installed`, again if it failed the last time."""
        if not self._told:
            self._installed()
            self._told = True

    def _validity(self) -> pem.Validity:
        return pem.validity(pem.certificates(folder.read(self._identity / folder.CERTIFICATE))[0])

    def _run(self) -> None:
        while not self._stopping:
            try:
                wait = self.look()
            except Exception as error:  # a node must not go without renewal because of a bug in one try
                self._log.failure("renewal_failed", error)
                wait = _LONGEST
            self._changed.wait(wait)
            self._changed.clear()


def _jitter(serial: str) -> float:
    """In [0, 1), the same for a certificate whenever it is asked for, different between certificates."""
    return int.from_bytes(hashlib.sha256(serial.encode()).digest()[:6], "big") / 2.0**48


def at_parent(identity: Path, urls: Callable[[], Sequence[str]]) -> Buy:
    """Ask the first of `urls` that answers."""

    def buy(prepared: requests.Prepared) -> bytes:
        asked = Renew(prepared.certificate, prepared.public_key, prepared.proof, prepared.time)
        last: Exception = IdentityError("renewal: no parent is known")
        for url in dict.fromkeys(urls()):
            try:
                return buy_at(identity, url, asked)
            except (NoAnswer, RemoteProtocolError) as error:
                last = error
        raise last

    return buy


def buy_at(identity: Path, url: str, asked: Renew, cutter: Cutter | None = None) -> bytes:
    """The certificate chain (PEM) that the server at `url` gives for a renewal request: this node's, or that of one
    below. `identity`: of who asks, for the authority alone; `cutter` ends the waiting from another thread. Raises
    NoAnswer, PermissionDenied, RemoteProtocolError."""
    body, cutter = encode(asked), cutter or Cutter()
    try:
        return _post_with(tls.client_context(identity, with_certificate=False), url, body, cutter)
    except NoAnswer as error:
        if not tls.clock_is_behind(error):
            raise
    return _post_with(tls.client_context(identity, with_certificate=False, check_time=False), url, body, cutter)


def _post_with(context: ssl.SSLContext, url: str, body: bytes, cutter: Cutter) -> bytes:
    connection = ParentConnection(parse_endpoint(url), context, check_parent, cutter)
    try:
        response = connection.send(Request("POST", "/v1/renew", body))
    finally:
        connection.close()
    if response.status != 200:
        problem = of_response(response, Limits())
        text = f"renewal: {problem.message!r} ({problem.code!r}, status {response.status})"
        if response.status == 403:
            raise PermissionDenied(text)
        raise Refusal(response.status, problem.code, text, problem.retry_after)
    return decode(Enrolled, response.body, Limits()).certificate


def by_own_issuer(identity: Path, lifetime: float, clock: Callable[[], float] = time.time) -> Buy:
    """Certify this node with the signing key of its own folder: the cloud, which has nobody above it."""

    def buy(prepared: requests.Prepared) -> bytes:
        asked = requests.Renew(
            folder=str(identity),
            certificate=prepared.certificate,
            public_key=prepared.public_key,
            proof=prepared.proof,
            time=prepared.time,
            now=clock(),
            lifetime=lifetime,
        )
        return offload.ask(asked, requests.Issued).certificate

    return buy
