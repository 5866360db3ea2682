import socket
from collections.abc import Callable
from pathlib import Path

from running import Running, post, running

from fedagg_edge.fleet.listener import ListenerLimits
from fedagg_edge.fleet.serve import ServiceSettings


def settings(**limits: float) -> ServiceSettings:
    return ServiceSettings("127.0.0.1", 0, listener=ListenerLimits(**limits))  # type: ignore[arg-type]


def is_closed(gateway: Running) -> bool:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        try:
            return client.recv(1) == b""
        except ConnectionError:
            return True


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        pass


def test_one_connection_too_many_is_closed_before_it_costs_anything(tmp_path: Path) -> None:
    with running(tmp_path, settings=settings(connections=1)) as gateway:
        first = gateway.connect()
        assert post(first, "/healthz", method="GET")[0] == 200
        assert is_closed(gateway)
        assert gateway.service.metrics.refused.value("connections") == 1
        first.close()
        until(lambda: len(gateway.service.connections) == 0)
        assert post(gateway.connect(), "/healthz", method="GET")[0] == 200


def test_an_address_has_a_share(tmp_path: Path) -> None:
    with running(tmp_path, settings=settings(connections_per_address=1)) as gateway:
        assert post(gateway.connect(), "/healthz", method="GET")[0] == 200
        assert is_closed(gateway)
        assert gateway.service.metrics.refused.value("connections per address") == 1


def test_one_that_does_not_shake_hands_is_cut(tmp_path: Path) -> None:
    with running(tmp_path, settings=settings(handshake_seconds=0.2)) as gateway:
        assert is_closed(gateway)
        until(lambda: gateway.service.metrics.refused.value("handshake") == 1)
        assert len(gateway.service._listener) == 0
