"""Which status and code an error is answered with, and how a refusal is read."""

from __future__ import annotations

from fedagg_edge.errors import Conflict, DataError, FedaggError, RemoteProtocolError, StorageFull
from fedagg_edge.wire.http import Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Problem, decode, encode
from fedagg_edge.wire.refusal import Refusal

__all__ = ["CODES", "answer", "of_response", "refusal_of"]

CODES = {
    "malformed": 400,  # not a message, or a field out of its range
    "no_certificate": 401,
    "role": 403,  # a device acts as an edge, or as another
    "revoked": 403,
    "unknown": 403,  # a valid certificate, but no child of this parent
    "not_found": 404,
    "slow": 408,  # this and the next two, and `internal`: of the gateway
    "moved": 409,  # the node went to another parent
    "leaving": 409,  # the parent sends its children elsewhere
    "conflict": 409,  # other content than what is committed under the same name
    "missing": 409,  # chunks that were named are not here: send them and ask again
    "too_large": 413,  # a request's head: 431
    "length": 411,
    "compressed": 415,
    "unfit": 422,  # classes, rows, formats, values
    "unknown_digest": 422,  # knowledge on a set that this link never had
    "versions": 426,
    "rate": 429,
    "internal": 500,
    "draining": 503,
    "starting": 503,  # the parent does not know its own terms yet
    "busy": 503,
    "no_signing_key": 503,  # this server certifies nobody, until a person gives it a key
    "nothing": 503,  # no news for a poll
    "disk_full": 503,
    "adopting": 503,  # the node says it moved here, the parent has not heard of it yet
}
"""Every code of a Problem that a parent answers with, and its status. 409 with a body of Behind is no Problem."""

_TEXT = 1024
_FULL_WAIT = 30.0  # seconds until a full disk may have room


def refusal_of(error: FedaggError) -> Refusal:
    """`error` as a refusal: a broken message 400, a conflict 409, data that do not fit 422, a full disk 503.

    Raises every other error again: it is this node's own.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Conflict):
        return Refusal(409, "conflict", str(error))
    if isinstance(error, RemoteProtocolError):
        return Refusal(400, "malformed", str(error))
    if isinstance(error, DataError):
        return Refusal(422, "unfit", str(error))
    if isinstance(error, StorageFull):
        return Refusal(503, "disk_full", str(error), _FULL_WAIT)
    raise error


def answer(error: FedaggError) -> Response:
    """The response that tells the child about `error`."""
    refusal = refusal_of(error)
    problem = Problem(refusal.code, str(refusal)[:_TEXT], refusal.retry_after)
    return Response(refusal.status, encode(problem), refusal.retry_after)


def of_response(response: Response, limits: Limits) -> Problem:
    """The problem that a response of status >= 400 tells; one of its own if the body is none (a proxy's page)."""
    try:
        problem = decode(Problem, response.body, limits)
    except RemoteProtocolError:
        problem = Problem("http", f"status {response.status} without a problem", None)
    if response.retry_after is not None and problem.retry_after is None:
        return Problem(problem.code, problem.message, response.retry_after)
    return problem
