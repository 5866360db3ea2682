"""Requests and responses as data, so that the protocol can be tested without a socket."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MEDIA_TYPE", "Request", "Response"]

MEDIA_TYPE = "application/x-fedagg"


@dataclass(frozen=True, slots=True)
class Request:
    """What a child asks: an HTTP method, a path without host (``/v1/exchange``) and a body."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What a parent answers; `retry_after` is in seconds, None where trying again is useless or needs no waiting."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    media: str = MEDIA_TYPE
