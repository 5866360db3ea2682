from fedagg_edge.fleet.gateway_metrics import GatewayMetrics, endpoint
from fedagg_edge.fleet.metrics import Registry
from fedagg_edge.wire.http import Response


def test_labels_come_from_a_fixed_set() -> None:
    assert endpoint("/v1/exchange") == "exchange"
    assert endpoint("/v1/chunks/00ff") == "chunks"
    assert {endpoint(p) for p in ("/", "/v1/", "/v1/evil\n", "/v2/exchange", "exchange")} == {"other"}


def test_answers_and_commits_are_counted() -> None:
    metrics = GatewayMetrics(Registry())
    metrics.answered("exchange", Response(200, b"abc"), 0.1, 7)
    metrics.answered("exchange", Response(429), 0.1, 1)
    metrics.committed(3, 0.01, None)
    metrics.committed(1, 0.01, OSError())
    assert metrics.received.value("exchange") == 8
    assert metrics.sent.value("exchange") == 3
    assert metrics.refused.value("429") == 1
    assert (metrics.commits.value(), metrics.commit_failures.value()) == (1, 1)
