"""A regular question to the parent between the protocol's own requests, over the same connection.

An edge asks so for the revocation list. It does not hang on how far the link has got: also an edge that was refused,
waits for its children or has finished hears of a node that was revoked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fedagg_edge.errors import FedaggError
from fedagg_edge.fleet.ends import Idle, Talker
from fedagg_edge.fleet.logs import Log
from fedagg_edge.identity import revocation
from fedagg_edge.wire.http import Request, Response

__all__ = ["REVOKED_EVERY", "Errands", "RevocationList"]

REVOKED_EVERY = 5.0
"""Seconds between questions. A poll may be held for another 25, but not once the parent's list has changed."""


@dataclass(frozen=True, slots=True)
class _Until:
    until: float


@dataclass(slots=True)
class RevocationList:
    """The parent's revocation list into the folder `identity`, merged with what is there."""

    identity: Path
    log: Log
    _known: str = "none"

    def request(self) -> Request:
        """What to ask."""
        return Request("GET", f"/v1/revocations/{self._known}")

    def take(self, response: Response) -> None:
        """Take an answer. One that is no list, or a file that cannot be written, is told and changes nothing."""
        if response.status != 200:
            return  # 204: as it was
        try:
            theirs = revocation.decode(response.body)
            before = revocation.load(self.identity)
            after = revocation.update(self.identity, lambda ours: revocation.merge(ours, theirs))
        except (FedaggError, OSError) as error:
            self.log.failure("revocations_failed", error)
            return
        self._known = hashlib.sha256(response.body).hexdigest()
        if after != before:
            self.log.info("revocations_taken", version=after.version, count=len(after.nodes) + len(after.serials))


@dataclass(slots=True)
class Errands:
    """A talker that asks `errand` every `every` seconds and otherwise says what `talker` says."""

    talker: Talker
    errand: RevocationList
    every: float = field(default_factory=lambda: REVOKED_EVERY)
    _due: float = 0.0
    _out: Request | None = field(default=None)

    def next(self, now: float) -> Request | Idle:
        """See `Talker`."""
        if now >= self._due or now < self._due - self.every:  # the second: the clock was set back
            self._due = now + self.every
            self._out = self.errand.request()
            return self._out
        step = self.talker.next(now)
        return step if isinstance(step, Request) else _Until(min(step.until, self._due))

    def receive(self, request: Request, response: Response, now: float) -> Iterable[object]:
        """See `Talker`."""
        if request is not self._out:
            return self.talker.receive(request, response, now)
        self._out = None
        self.errand.take(response)
        return ()

    def failed(self, request: Request, now: float) -> None:
        """See `Talker`."""
        if request is not self._out:
            self.talker.failed(request, now)
        self._out = None
