import asyncio
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable
from pathlib import Path

from pki import Authority
from running import Running, post, running

from fedagg_edge.fleet.listener import ListenerLimits, small_tls_buffers, unsent
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


def test_a_client_is_told_why_its_certificate_is_refused(tmp_path: Path) -> None:
    """Not each time, as the connection is closed at once; a client tries again anyhow."""
    with running(tmp_path) as gateway:
        (tmp_path / "other").mkdir()
        stranger = Authority(tmp_path / "other").client("device-1", "device")
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        reasons = set()
        for _ in range(40):
            try:
                with (
                    socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain,
                    stranger.wrap_socket(plain) as secured,
                ):
                    secured.recv(1)
            except OSError as error:
                reasons.add(str(getattr(error, "reason", None)))
        assert any("ALERT" in reason for reason in reasons), reasons


def test_a_connection_that_was_closed_twice_has_nothing_to_send() -> None:
    async def left() -> list[int]:
        loop, context = asyncio.get_running_loop(), ssl.create_default_context()
        tls = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, loop.create_future())
        transport: asyncio.Transport = tls._app_transport  # type: ignore[attr-defined]
        found = [unsent(transport)]
        for _ in range(2):
            transport.close()
            found.append(unsent(transport))
        return found

    assert asyncio.run(left()) == [0, 0, 0]


def test_what_tls_takes_ahead_of_its_reader_is_small() -> None:
    async def made() -> tuple[int, int]:
        loop, context = asyncio.get_running_loop(), ssl.create_default_context()
        tls = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, loop.create_future())
        tls._app_transport.abort()  # type: ignore[attr-defined]
        return len(tls._ssl_buffer), tls._incoming_high_water  # type: ignore[attr-defined]

    small_tls_buffers()
    assert asyncio.run(made()) == (16_384, 65_536)
