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


def test_strangers_that_ask_for_health_hold_nothing(tmp_path: Path) -> None:
    """Each had its connection for as long as it went on asking, and four of them were enough here."""
    with running(tmp_path, settings=settings(connections=4, connections_per_address=4)) as gateway:
        strangers = [gateway.connect(None) for _ in range(4)]
        for stranger in strangers:
            assert post(stranger, "/healthz", method="GET")[0] == 200
        assert post(gateway.connect(), "/v1/hello")[0] == 404


def shaken(gateway: Running, source: str = "127.0.0.1") -> ssl.SSLSocket:
    """A connection without a certificate that asks for nothing."""
    plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=10, source_address=(source, 0))
    return gateway.authority.client(None).wrap_socket(plain)


def test_silent_strangers_take_no_room_of_a_nodes_at_the_same_address(tmp_path: Path) -> None:
    """Behind one NAT they have one address."""
    bounds = settings(connections=1, connections_per_address=1, strangers=4)
    with running(tmp_path, settings=bounds) as gateway:
        strangers = [shaken(gateway) for _ in range(6)]
        until(lambda: gateway.service.metrics.refused.value("strangers") == 2)
        assert len(gateway.service.connections) == 4
        assert post(gateway.connect(), "/v1/hello")[0] == 404
        for stranger in strangers:
            stranger.close()


def test_handshakes_that_nobody_ends_make_room_for_a_node(tmp_path: Path) -> None:
    with running(tmp_path, settings=settings(handshakes=2, handshake_patience_same=0.0)) as gateway:
        silent = [socket.create_connection(("127.0.0.1", gateway.port), timeout=10) for _ in range(4)]
        assert post(gateway.connect(), "/v1/hello")[0] == 404
        assert [one.recv(1) for one in silent[:2]] == [b"", b""]  # the oldest went
        for one in silent:
            one.close()


def test_a_site_whose_nodes_all_come_at_once_does_not_end_its_own_handshakes(tmp_path: Path) -> None:
    with running(tmp_path, settings=settings(handshakes=2)) as gateway:
        first = [socket.create_connection(("127.0.0.1", gateway.port), timeout=10) for _ in range(2)]
        until(lambda: gateway.call(lambda: len(gateway.service._listener)) == 2)
        assert is_closed(gateway)
        other = shaken(gateway, "127.0.0.2")  # another address gets in: the newest of the crowd makes room
        assert first[1].recv(1) == b""
        until(lambda: gateway.call(lambda: len(gateway.service._listener)) == 1)  # the oldest goes on
        for one in (*first, other):
            one.close()


def test_slow_handshakes_of_a_site_are_not_ended_by_others_of_it(tmp_path: Path) -> None:
    """A thousand devices behind one NAT whose handshakes take three seconds each: hardly one was let end."""
    with running(tmp_path, settings=settings(handshakes=2, handshake_patience=0.0)) as gateway:
        first = [socket.create_connection(("127.0.0.1", gateway.port), timeout=10) for _ in range(2)]
        until(lambda: gateway.call(lambda: len(gateway.service._listener)) == 2)
        assert is_closed(gateway)
        assert gateway.call(lambda: len(gateway.service._listener)) == 2
        other = shaken(gateway, "127.0.0.2")  # of another address one gets in, for the oldest
        assert first[0].recv(1) == b""
        for one in (*first, other):
            one.close()


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
