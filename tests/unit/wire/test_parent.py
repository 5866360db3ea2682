import pytest
from ends import CHILD, Ends
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.wire import messages as m
from fedagg_edge.wire.chunks import digest_of
from fedagg_edge.wire.events import ArtefactArrived
from fedagg_edge.wire.http import Request
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.state import EMPTY_DIGEST, Peer

HELLO = m.Hello(1, 1, "x", "d1", "device", "f", ("f32",), 0, 0, bytes.fromhex(EMPTY_DIGEST), "all")


@pytest.fixture
def ends(tmp_path):
    made = Ends(tmp_path, shelf=DiskShelf(tmp_path / "shelf"))
    yield made
    made.close()


def post(ends, name, message):
    return ends.ask(Request("POST", f"/v1/{name}", m.encode(message)))


def code(response):
    return response.status, m.decode(m.Problem, response.body, Limits()).code


def hello(**changes):
    return m.Hello(**{**{f: getattr(HELLO, f) for f in HELLO.__struct_fields__}, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"oldest": 2, "newest": 3}, (426, "versions")),
        ({"oldest": 0, "newest": 0}, (426, "versions")),
        ({"node": "d2"}, (403, "role")),
        ({"role": "edge"}, (403, "role")),
        ({"federation": "g"}, (422, "unfit")),
        ({"formats": ("f64",)}, (422, "unfit")),
        ({"labels": "some"}, (422, "unfit")),
        ({"fence": 1}, (503, "adopting")),
        ({"head": 1}, (409, "conflict")),
    ],
)
def test_hello_is_refused(ends, changes, expected):
    assert code(post(ends, "hello", hello(**changes))) == expected


def test_a_session_that_tells_nothing_new_writes_nothing(ends):
    assert post(ends, "hello", hello()).status == 200
    before = ends.parent.db._connection.total_changes
    ends.now += 60
    assert post(ends, "hello", hello()).status == 200
    assert ends.parent.db._connection.total_changes == before
    assert post(ends, "hello", hello(labels="first-edge")).status == 200
    assert ends.parent.get("child/d1")["labels"] == "first-edge"
    ends.now += 7200
    assert post(ends, "hello", hello(labels="first-edge")).status == 200
    assert ends.parent.get("child/d1")["at"] == ends.now


def test_a_log_that_parted_is_refused(ends):
    ends.write("d7", 2)
    assert code(post(ends, "hello", hello(head=1, digest=bytes(32)))) == (409, "conflict")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (404, "not_found")),
        ("GET", "/v2/status", (426, "versions")),
        ("GET", "/v1/hello", (404, "not_found")),
        ("POST", "/v1/hello", (400, "malformed")),
        ("PUT", "/v1/chunks/" + "0" * 64, (400, "malformed")),
        ("GET", "/v1/entries/0/0", (404, "not_found")),
        ("GET", "/v1/entries/1/0", (404, "not_found")),
        ("GET", "/v1/entries/999999999999999999999/0", (404, "not_found")),
        ("GET", "/v1/knowledge/1/0", (404, "not_found")),
        ("GET", "/v1/artefacts/" + "0" * 64 + "/0", (404, "not_found")),
        ("GET", "/v1/artefacts/abc/0", (404, "not_found")),
        ("GET", "/v1/../status", (404, "not_found")),
    ],
)
def test_paths_that_lead_nowhere(ends, method, path, expected):
    assert code(ends.ask(Request(method, path))) == expected


def test_a_stranger_is_told_nothing(ends):
    ends.peer = Peer(NodeId("other"), Tier.DEVICE, "02")
    for request in (Request("GET", "/v1/entries/1/0"), Request("POST", "/v1/hello", m.encode(HELLO))):
        assert code(ends.ask(request)) == (403, "unknown")


def test_leave(ends):
    ends.send(2)
    ends.settle()
    assert m.decode(m.Left, post(ends, "leave", m.Leave(0)).body, Limits()) == m.Left(1)
    assert ends.parent.get(f"child/{CHILD}")["left"] == ends.now


def test_who_exchanges_after_it_said_that_it_leaves_is_back(ends):
    """Without another hello its session goes on: nobody would wait for it any more."""
    ends.send(2)
    ends.settle()
    post(ends, "leave", m.Leave(0))
    before = ends.parent.get(f"child/{CHILD}")
    assert post(ends, "exchange", m.Exchange(-1, 1, 0, 0.0, 0)).status == 200
    assert ends.parent.get(f"child/{CHILD}") == {**before, "left": None}


def test_a_refused_request_leaves_nothing_behind(ends):
    before = ends.parent.get("present/d1")
    payload = m.Payload(1, digest_of(b"x"), b"x")
    given = m.WireKnowledge(0, -1, bytes(32), 0, "f32", 1, 3, payload)
    assert code(post(ends, "exchange", m.Exchange(-1, 0, 0, 0.0, 0, given))) == (422, "unknown_digest")
    assert ends.parent.get("present/d1") == before


def test_an_artefact_goes_out_in_parts(ends):
    content = bytes(range(256)) * 3
    artefact = ends.above.terms.shelf.put("model", content, b"s", "x")
    ends.trip()
    ends.below.fetch(artefact)
    for _ in range(3):
        ends.trip()
    assert ends.events[-1] == ArtefactArrived(artefact, content)


def test_a_shelf_with_an_artefact_of_no_bytes_is_not_believed(ends):
    artefact = m.Artefact("a", bytes(32), 0, b"", "")
    request = ends.below.next(ends.now)
    answer = ends.ask(request)
    welcome = m.decode(m.Welcome, answer.body, Limits())
    fields = {f: getattr(welcome, f) for f in welcome.__struct_fields__} | {"artefacts": (artefact,)}
    (refused,) = ends.below.receive(request, replace(answer, body=m.encode(m.Welcome(**fields))), ends.now)
    assert "got 0 bytes" in refused.problem.message


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(("hello", "append", "exchange", "missing", "leave", "chunks/" + "0" * 64, "entries/1/1")),
    st.sampled_from(("GET", "POST", "PUT")),
    st.binary(max_size=100),
)
def test_any_request_is_answered(ends, name, method, body):
    response = ends.ask(Request(method, f"/v1/{name}", body))
    assert response.status in (200, 400, 404, 409)
