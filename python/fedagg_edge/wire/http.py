"""A request and a response as data; what moves them (TLS, connections, headers) is fleet/'s affair."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JSON_TYPE", "MEDIA_TYPE", "RAW_TYPE", "Request", "Response"]

MEDIA_TYPE = "application/x-fedagg"
"""A msgpack message of wire/messages.py."""
RAW_TYPE = "application/octet-stream"
"""A chunk."""
JSON_TYPE = "application/json"
"""GET /v1/status alone."""


@dataclass(frozen=True, slots=True)
class Request:
    """`path` begins at the root and has neither host nor query."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """`retry_after` in seconds becomes the header Retry-After, rounded up, and stands in the Problem as it is."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    media: str = MEDIA_TYPE
