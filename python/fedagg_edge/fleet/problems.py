"""What a gateway answers by itself, before the protocol's code is asked: refusals with a reason."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from fedagg_edge.wire.http import Response

__all__ = ["problem"]


def problem(status: HTTPStatus, code: str, message: str, retry_after: float | None = None) -> Response:
    """A `Problem` (code, message, retry_after in seconds or None) as a response; `retry_after` also as a header."""
    return Response(status, msgspec.msgpack.encode((code, message, retry_after)), retry_after)
