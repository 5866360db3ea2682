"""What the shells need of the protocol's two ends; wire/parent.py and wire/child.py fit these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from fedagg_edge.wire.http import Request, Response

__all__ = ["Handler", "HangUp", "Idle", "Later", "Peer", "Talker"]

L_contra = TypeVar("L_contra", contravariant=True)


class Peer(Protocol):
    """Who is at the other end, as its certificate says."""

    @property
    def node(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def serial(self) -> str: ...


class Later(Protocol):
    """Nothing new for `node` yet; ask again when something happened, at the latest at `until` (unix seconds)."""

    @property
    def node(self) -> str: ...
    @property
    def until(self) -> float: ...


class HangUp(Exception):
    """Raised by a handler in place of an answer: the connection ends, and after no answer a child says hello again."""


class Handler(Protocol[L_contra]):
    """The parent's end: called inside a transaction of the ledger. Both raise HangUp."""

    def handle(self, ledger: L_contra, peer: Peer, request: Request, now: float) -> Response | Later: ...
    def resume(self, ledger: L_contra, peer: Peer, later: Later, now: float) -> Response | Later: ...


class Idle(Protocol):
    """Nothing to ask before `until`, on the clock that `next` was given."""

    @property
    def until(self) -> float: ...


class Talker(Protocol):
    """The child's end: says what to send and is told what came back."""

    def next(self, now: float) -> Request | Idle: ...
    def receive(self, request: Request, response: Response, now: float) -> Iterable[object]: ...
    def failed(self, request: Request, now: float) -> None: ...
