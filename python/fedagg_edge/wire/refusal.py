"""The one exception that carries the status it is to be answered with."""

from __future__ import annotations

from fedagg_edge.errors import RemoteProtocolError

__all__ = ["Refusal"]


class Refusal(RemoteProtocolError):
    """Raised where a request is understood and refused; `code` is for programs, the message for people.

    `retry_after` seconds: the same request may succeed then. None: it will not succeed by waiting.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after
