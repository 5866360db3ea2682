import asyncio
import http.client
import socket
import ssl
import threading
from pathlib import Path

import pytest
from running import Running, post, running

from fedagg_edge.fleet.listener import ListenerLimits
from fedagg_edge.fleet.serve import ServiceSettings
from fedagg_edge.wire.http import Request, Response


def test_a_nodes_oldest_connection_makes_room(tmp_path: Path) -> None:
    with running(tmp_path, settings=ServiceSettings("127.0.0.1", 0, connections_per_node=2)) as gateway:
        connections = [gateway.connect() for _ in range(3)]
        for connection in connections:
            assert post(connection, "/healthz", method="GET")[0] == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            post(connections[0], "/healthz", method="GET")
        assert post(connections[1], "/healthz", method="GET")[0] == 200


def stranger(gateway: Running, source: str) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=10, source_address=(source, 0))
    return gateway.authority.client(None).wrap_socket(plain)


def test_of_strangers_the_most_crowded_address_makes_room(tmp_path: Path) -> None:
    limits = ListenerLimits(strangers=4, strangers_per_address=3)
    with running(tmp_path, settings=ServiceSettings("127.0.0.1", 0, listener=limits)) as gateway:

        def left() -> list[str]:
            return sorted(c.address for c in gateway.service.connections._known.values())

        crowd = [stranger(gateway, "127.0.0.2") for _ in range(4)]
        assert crowd[0].recv(1) == b""  # over the address's share: the oldest
        others = [stranger(gateway, f"127.0.0.{n}") for n in (3, 4)]
        assert crowd[1].recv(1) == b""  # over the share of all
        while gateway.call(left) != ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.4"]:
            pass
        for one in (*crowd, *others):
            one.close()


def test_who_enrols_is_not_ended_for_those_who_ask_for_nothing(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    async def enrol(request: Request, peer: object) -> Response:
        asked.set()
        await asyncio.to_thread(go_on.wait, 20)
        return Response(200, b"a certificate")

    limits = ListenerLimits(strangers_per_address=1)
    settings = ServiceSettings("127.0.0.1", 0, listener=limits)
    with running(tmp_path, settings=settings, hooks={"/v1/enrol": enrol}) as gateway:
        enrolling = gateway.connect(None)
        enrolling.request("POST", "/v1/enrol", b"x")
        assert asked.wait(20)
        with stranger(gateway, "127.0.0.1") as idle:
            assert idle.recv(1) == b""
        go_on.set()
        assert enrolling.getresponse().read() == b"a certificate"


def test_one_node_too_many_is_ended_although_others_were_let_shake_hands(tmp_path: Path) -> None:
    """Whose connections they are shows at their handshakes' end only."""
    limits = ListenerLimits(connections=1)
    with running(tmp_path, settings=ServiceSettings("127.0.0.1", 0, listener=limits)) as gateway:
        gateway.service._listener._full = lambda address: None  # both were accepted before either's had ended
        first, second = gateway.connect("d1"), gateway.connect("d2")
        assert post(first, "/v1/nothing")[0] == 404
        with pytest.raises((http.client.HTTPException, OSError)):
            post(second, "/v1/nothing")
        assert post(first, "/v1/nothing")[0] == 404
        assert gateway.service.metrics.refused.value("connections") == 1
        first.close()
        while len(gateway.service.connections) > 0:
            pass
        second.close()
        assert post(second, "/v1/nothing")[0] == 404
        assert gateway.call(lambda: dict(gateway.service.connections._nodes_at)) == {"127.0.0.1": 1}


def test_revoked_and_silent_connections_are_cut(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        silent, revoked, good = gateway.connect("d1"), gateway.connect("d2"), gateway.connect("d3")
        silent.connect()
        for connection in (revoked, good):
            assert post(connection, "/v1/nothing")[0] == 404
        while len(gateway.service.connections) < 3:
            pass
        cut = gateway.call(lambda: gateway.service.connections.cut(lambda peer: peer.node != "d2", 0.0))
        assert cut == {"revoked": 1, "slow": 1}
        assert post(good, "/v1/nothing")[0] == 404
        while len(gateway.service.connections) > 1:
            pass
