"""The revocation list goes down the tree: the errand by itself, and from a real cloud through a real edge."""

import io
import time

import pytest
from identity.worlds import make_device, make_world
from serving import server_config, serving

from fedagg_edge.errors import FedaggError
from fedagg_edge.fleet import errands
from fedagg_edge.fleet.errands import Errands, RevocationList
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.parent_link import ParentLink
from fedagg_edge.fleet.visitor import Visitor
from fedagg_edge.identity import revocation
from fedagg_edge.identity.revocation import Revocations, revoke
from fedagg_edge.records import Tier
from fedagg_edge.wire.child import Idle
from fedagg_edge.wire.http import Request, Response

ASKED = Request("POST", "/v1/exchange", b"x")


class Talker:
    def __init__(self):
        self.told, self.lost, self.step = [], [], ASKED

    def next(self, now):
        return self.step

    def receive(self, request, response, now):
        self.told.append(response)
        return ("event",)

    def failed(self, request, now):
        self.lost.append(request)


@pytest.fixture
def made(tmp_path):
    talker = Talker()
    return talker, Errands(talker, RevocationList(tmp_path, Log(io.StringIO())), every=15.0)


def test_it_asks_at_once_and_then_every_so_often_between_the_talkers_requests(made):
    talker, both = made
    first = both.next(100.0)
    assert first.path == "/v1/revocations/none"
    assert tuple(both.receive(first, Response(204), 100.0)) == ()
    assert both.next(100.0) is ASKED
    assert both.receive(ASKED, Response(200), 101.0) == ("event",)
    talker.step = Idle(500.0)
    assert both.next(101.0).until == 115.0
    assert both.next(115.0).path == "/v1/revocations/none"
    assert both.next(60.0) is talker.step or both.next(60.0).until <= 130.0
    assert both.next(1.0).path == "/v1/revocations/none"  # the clock was set back
    assert talker.lost == []


def test_an_errand_that_failed_is_none_of_the_talkers_business(made):
    talker, both = made
    both.failed(both.next(0.0), 0.0)
    assert talker.lost == []
    both.failed(both.next(0.0), 0.0)
    assert talker.lost == [ASKED]


def test_lists_are_merged_and_named_the_next_time(tmp_path):
    log = io.StringIO()
    listed = RevocationList(tmp_path, Log(log))
    revocation.save(tmp_path, revoke(Revocations(), 5.0, node="mine"))
    body = revocation.encode(revoke(Revocations(), 7.0, node="theirs", serial="ab"))
    listed.take(Response(200, body))
    known = revocation.load(tmp_path)
    assert (dict(known.nodes), dict(known.serials)) == ({"mine": 5.0, "theirs": 7.0}, {"ab": 7.0})
    assert listed.request().path != "/v1/revocations/none"
    listed.take(Response(200, body))
    listed.take(Response(204))
    assert log.getvalue().count("revocations_taken") == 1
    assert revocation.load(tmp_path) == known


def test_what_is_no_list_changes_nothing(tmp_path):
    log = io.StringIO()
    listed = RevocationList(tmp_path, Log(log))
    for response in (Response(200, b"junk"), Response(404), Response(403), Response(503)):
        listed.take(response)
    assert revocation.load(tmp_path) == Revocations()
    assert log.getvalue().count("revocations_failed") == 1
    assert listed.request().path == "/v1/revocations/none"


def test_also_below_a_parent_that_recalls_nobody_it_is_there_within_a_minute():
    """A gateway of an older version, or one whose recall went amiss."""
    from fedagg_edge.wire.child import ChildEnd

    poll = next(f for f in ChildEnd.__dataclass_fields__.values() if f.name == "wait").default
    assert 2 * (errands.REVOKED_EVERY + poll) <= 60  # two levels of edges within a minute


def until(what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_node_that_the_cloud_revokes_is_refused_by_its_edge(tmp_path, monkeypatch):
    """Real gateways and TLS: nothing is done at the edge; its own entries stay, and other devices are let in."""
    monkeypatch.setattr(errands, "REVOKED_EVERY", 0.2)
    made = make_world(tmp_path / "made")
    make_device(made.edge, tmp_path / "made" / "other", node="dev.2")
    for name in ("cloud", "edge", "device", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / "made" / name).rename(tmp_path / name / "identity")
    at_edge, mine = tmp_path / "edge" / "identity", time.time()
    revocation.save(at_edge, revoke(Revocations(), mine, node="mine"))
    with serving(server_config(tmp_path / "cloud", Tier.CLOUD, "cloud.1"), Tier.CLOUD) as cloud:
        config = server_config(tmp_path / "edge", Tier.EDGE, "edge.1", parent={"url": cloud.url})
        link = ParentLink(config, config.parent, Tier.EDGE, Log(io.StringIO()), lambda: None)
        with serving(config, Tier.EDGE) as edge, Visitor(edge.url, tmp_path / "device" / "identity") as device:
            assert device.get("/v1/status").status == 200
            link.start()
            try:
                revocation.update(tmp_path / "cloud" / "identity", lambda k: revoke(k, time.time(), node="dev.1"))
                until(lambda: "dev.1" in revocation.load(at_edge).nodes)
                asked = link.uplink.counts.exchanges
                until(lambda: link.uplink.counts.exchanges > asked + 5)  # "as it was" does not hold the link up
            finally:
                link.stop()
            assert revocation.load(at_edge).nodes["mine"] == mine
            with pytest.raises(FedaggError, match=r"revoked|no answer"):
                device.get("/v1/status")
            with Visitor(edge.url, tmp_path / "other" / "identity") as other:
                assert other.get("/v1/status").status == 200
