"""What any node of the federation may ask, over real TLS with real certificates."""

import json

import pytest
from identity.worlds import make_device, make_states, make_world
from serving import server_config, serving
from toys import embeddings

from fedagg_edge.errors import IdentityError, PermissionDenied, RemoteProtocolError
from fedagg_edge.fleet.keys import PROGRESS, TERMS
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.fleet.views import ParentView
from fedagg_edge.fleet.visitor import Visitor
from fedagg_edge.identity import revocation
from fedagg_edge.ledger.fold import EMPTY
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Offered, decode
from fedagg_edge.wire.problems import of_response
from fedagg_edge.wire.tensors import dump_embeddings
from fedagg_edge.wire.terms import PRESENT

EDGE = NodeId("edge.1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Identities below <state>/identity, as nodes have them, and a second device of the edge."""
    place = tmp_path_factory.mktemp("world")
    made = make_world(place / "made")
    make_device(made.edge, place / "made" / "other", node="dev.2")
    return make_states(place, made, other=place / "made" / "other")


@pytest.fixture(scope="module")
def cloud(world):
    with serving(server_config(world / "cloud", Tier.CLOUD, "cloud.1"), Tier.CLOUD) as made:
        rows = embeddings("dev.1", 5)

        def fill(view):
            view.put(TERMS, {"parent": None, "classes": 3, "mode": "sync", "target": 9})
            view.put(PROGRESS, {"version": 4, "rows": 5, "loss": 0.5, "accuracy": 0.75, "at": 1e9})
            view.ledger.enrol(EDGE, Tier.EDGE, "1")
            view.ledger.enrol(NodeId("gone.1"), Tier.EDGE, "2")
            view.put(PRESENT + EDGE, True)
            view.ledger.append(EDGE, Kind.APPEND, dump_embeddings(rows), key=1, by="child")

        made.ask(fill)
        yield made


def ask(cloud, world, who, path="/v1/status"):
    with Visitor(cloud.url, world / who / "identity") as visitor:
        return visitor.get(path)


def test_a_servers_identity_is_told_of_all_children(cloud, world):
    told = json.loads(ask(cloud, world, "edge").body)
    assert (told["node"], told["role"], told["federation"]) == ("cloud.1", "cloud", "fed")
    assert (told["round"], told["accuracy"], told["target"], told["finished"]) == (4, 0.75, 9, False)
    assert told["certificate_until"] > told["round_at"]
    rows = {c["node"]: c for c in told["children"]}
    assert (rows["edge.1"]["present"], rows["edge.1"]["samples"], rows["edge.1"]["round"]) == (True, 5, -1)
    assert (rows["edge.1"]["connected"], rows["gone.1"]["connected"]) == (True, False)
    assert rows["gone.1"]["present"] is False


def test_a_device_is_told_of_no_other_node(cloud, world):
    told = json.loads(ask(cloud, world, "device").body)
    assert (told["node"], told["round"], told["children"]) == ("cloud.1", 4, [])
    assert "receipts" not in told
    assert "edge.1" not in json.dumps(told)


def test_a_devices_question_reads_no_other_nodes_log(cloud, world, monkeypatch):
    read = []
    monkeypatch.setattr(ParentView, "samples", lambda view, child, digest: read.append(child) or EMPTY)
    ask(cloud, world, "device")
    assert read == []
    ask(cloud, world, "edge")
    assert read == ["edge.1", "gone.1"]


def test_who_shows_no_certificate_is_told_nothing_but_health(cloud):
    with Visitor(cloud.url, None) as stranger:
        assert set(json.loads(stranger.get("/healthz").body)) == {"ready", "waiting", "queue"}
        assert stranger.until > 1e9
        for path in ("/v1/status", "/v1/artefacts", "/v1/artefacts/" + "0" * 64 + "/0", "/v1/revocations/none"):
            with pytest.raises(PermissionDenied, match="no_certificate"):
                stranger.get(path)


def test_another_federations_identity_is_refused_and_refuses(cloud, tmp_path):
    other = make_world(tmp_path, federation="other")
    with Visitor(cloud.url, other.device) as visitor, pytest.raises(PermissionDenied, match="not a server of this"):
        visitor.get("/v1/status")


def test_artefacts_are_listed_and_read_in_parts_by_any_node(cloud, world):
    content = bytes(range(256)) * 5000
    kept = DiskShelf(world / "cloud" / "artefacts").put("model", content, b"s", "m")
    offered = decode(Offered, ask(cloud, world, "device", "/v1/artefacts").body, Limits())
    assert [a.name for a in offered.artefacts] == ["model"]
    base = f"/v1/artefacts/{kept.digest.hex()}"
    parts = [ask(cloud, world, "device", f"{base}/{i}").body for i in range(2)]
    assert [len(p) for p in parts] == [offered.chunk, len(content) - offered.chunk]
    assert b"".join(parts) == content
    with pytest.raises(RemoteProtocolError, match="no part 2 here"):
        ask(cloud, world, "device", f"{base}/2")


def test_the_revocation_list_is_for_servers(cloud, world):
    with pytest.raises(PermissionDenied, match="for edges and the cloud"):
        ask(cloud, world, "device", "/v1/revocations/none")
    listed = revocation.decode(ask(cloud, world, "edge", "/v1/revocations/none").body)
    assert listed == revocation.load(world / "cloud" / "identity")


def test_a_revoked_node_is_told_nothing_from_the_next_request_on(cloud, world):
    with Visitor(cloud.url, world / "other" / "identity") as visitor:
        assert visitor.get("/v1/status").status == 200
        place = world / "cloud" / "identity"
        revocation.update(place, lambda known: revocation.revoke(known, 1e10, node="dev.2"))
        with pytest.raises((PermissionDenied, RemoteProtocolError), match=r"revoked|no answer"):
            visitor.get("/v1/status")


def test_an_identity_that_is_none(cloud, tmp_path):
    with pytest.raises(IdentityError, match="not there"):
        Visitor(cloud.url, tmp_path)


def test_a_node_over_its_rate_is_told_when_to_come_back(world, tmp_path):
    config = server_config(world / "edge", Tier.EDGE, "edge.1", limits={"requests_per_minute": 4})
    with serving(config, Tier.EDGE) as edge, Visitor(edge.url, world / "device" / "identity") as device:
        answers = [device.answer("/v1/status") for _ in range(5)]
        assert [a.status for a in answers] == [200, 200, 200, 200, 429]
        assert 0 < answers[4].retry_after <= 15
        problem = of_response(answers[4], Limits())
        assert (problem.code, "over the rate" in problem.message) == ("rate", True)
        with Visitor(edge.url, world / "cloud" / "identity") as other:
            assert other.answer("/v1/status").status == 200
