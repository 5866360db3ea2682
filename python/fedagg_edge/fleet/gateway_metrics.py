"""What a gateway counts."""

from __future__ import annotations

from http import HTTPStatus

from fedagg_edge.fleet.metrics import Registry
from fedagg_edge.wire.http import Response

__all__ = ["GatewayMetrics", "endpoint"]

ENDPOINTS = frozenset(
    {"hello", "append", "exchange", "missing", "enrol", "renew", "adopt", "leave"}
    | {"chunks", "entries", "knowledge", "artefacts", "status", "revocations"}
)
_WHOLE = {f"/v1/{name}": name for name in ENDPOINTS}
_STATUS = {int(status): str(int(status)) for status in HTTPStatus}
GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class GatewayMetrics:
    """Requests, bytes, seconds, refusals, commits; labels from fixed sets only."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.requests = registry.counter("fedagg_requests_total", "Requests answered.", ("endpoint", "status"))
        self.received = registry.counter("fedagg_received_bytes_total", "Bytes of request bodies.", ("endpoint",))
        self.sent = registry.counter("fedagg_sent_bytes_total", "Bytes of response bodies.", ("endpoint",))
        self.seconds = registry.histogram(
            "fedagg_request_seconds", "Seconds from headers to answer, waiting for news included.", labels=("endpoint",)
        )
        self.refused = registry.counter(
            "fedagg_refused_total", "Connections and requests refused, by reason.", ("reason",)
        )
        self.commits = registry.counter("fedagg_commits_total", "Transactions committed.")
        self.commit_failures = registry.counter("fedagg_commit_failures_total", "Transactions that failed.")
        self.commit_seconds = registry.histogram("fedagg_commit_seconds", "Seconds per transaction.")
        self.group = registry.histogram("fedagg_commit_operations", "Operations per transaction.", GROUPS)

    def answered(self, name: str, response: Response, seconds: float, received: int) -> None:
        """Count one answer."""
        status = _STATUS.get(response.status) or str(int(response.status))
        self.requests.add(1, name, status)
        self.received.add(received, name)
        self.sent.add(len(response.body), name)
        self.seconds.observe(seconds, name)
        if response.status >= 400:
            self.refused.add(1, status)

    def committed(self, size: int, seconds: float, error: BaseException | None) -> None:
        """Count one transaction (called in the writer's thread)."""
        if error is not None:
            self.commit_failures.add()
            return
        self.commits.add()
        self.commit_seconds.observe(seconds)
        self.group.observe(size)


def endpoint(path: str) -> str:
    """The label of a path: its endpoint below /v1, or ``other``."""
    if (known := _WHOLE.get(path)) is not None:  # of nearly all requests
        return known
    name = path.removeprefix("/v1/").partition("/")[0] if path.startswith("/v1/") else ""
    return name if name in ENDPOINTS else "other"
