"""A request and a response as data; what moves them (TLS, connections, headers) is fleet/'s affair."""

from __future__ import annotations

import msgspec

__all__ = ["JSON_TYPE", "MEDIA_TYPE", "RAW_TYPE", "Request", "Response", "strange"]

MEDIA_TYPE = "application/x-fedagg"
"""A msgpack message of wire/messages.py."""
RAW_TYPE = "application/octet-stream"
"""A chunk."""
JSON_TYPE = "application/json"
"""GET /v1/status alone."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """`path` begins at the root and has neither host nor query."""

    method: str
    path: str
    body: bytes = b""


class Response(msgspec.Struct, frozen=True, gc=False):
    """`retry_after` in seconds becomes the header Retry-After, rounded up, and stands in the Problem as it is."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    media: str = MEDIA_TYPE


def strange(status: int, media: str) -> str | None:
    """What to say of an answer that no parent gave, going by its Content-Type: what a proxy or a captive portal puts in
    its place. None for one that may be a parent's; one that names no type is."""
    kind = media.partition(";")[0].strip().lower()
    if kind in ("", MEDIA_TYPE, RAW_TYPE, JSON_TYPE):
        return None
    return (
        f"got status {status} with {kind[:60]!a}, expected {MEDIA_TYPE}: no parent's answer, but that of a proxy or a "
        "captive portal in between; log in to that network, or correct the address"
    )
