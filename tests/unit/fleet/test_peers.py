import http.client
from pathlib import Path

import pytest
from running import post, running

from fedagg_edge.fleet.serve import ServiceSettings


def test_a_nodes_oldest_connection_makes_room(tmp_path: Path) -> None:
    with running(tmp_path, settings=ServiceSettings("127.0.0.1", 0, connections_per_node=2)) as gateway:
        connections = [gateway.connect() for _ in range(3)]
        for connection in connections:
            assert post(connection, "/healthz", method="GET")[0] == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            post(connections[0], "/healthz", method="GET")
        assert post(connections[1], "/healthz", method="GET")[0] == 200


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
