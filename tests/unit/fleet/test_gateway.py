import http.client
import json
import threading
import time
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest
from running import post, running
from toy_ends import ToyHandler, ToyLater, ToyLedger

from fedagg_edge.errors import StorageFull
from fedagg_edge.fleet.ends import HangUp
from fedagg_edge.fleet.gateway import GatewayLimits
from fedagg_edge.fleet.problems import problem
from fedagg_edge.fleet.serve import ServiceSettings
from fedagg_edge.wire.http import MEDIA_TYPE, Request, Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.problems import of_response


def append(key: int) -> bytes:
    return json.dumps({"key": key, "text": "hello"}).encode()


def settings(**limits: float) -> ServiceSettings:
    return ServiceSettings("127.0.0.1", 0, gateway=GatewayLimits(**limits))  # type: ignore[arg-type]


def code(body: bytes) -> str:
    return str(msgspec.msgpack.decode(body)[0])


def test_a_request_is_answered_after_its_commit(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        connection = gateway.connect()
        for key in (0, 1, 1):
            status, headers, body = post(connection, "/v1/append", append(key))
        assert (status, json.loads(body)) == (200, {"rows": 2})
        assert headers["Content-Type"] == MEDIA_TYPE
        assert {name.lower() for name in headers} == {"content-type", "content-length", "date", "server"}
        other = ToyLedger(tmp_path / "ledger")
        assert [key for key, _ in other.rows("device-1")] == [0, 1]
        other.close()


def test_a_peer_is_its_certificate(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        post(gateway.connect("device-2"), "/v1/append", append(0))
        assert json.loads(post(gateway.connect("device-3"), "/v1/append", append(5))[2]) == {"rows": 1}


def test_no_certificate_gets_nothing_but_hooks_and_health(tmp_path: Path) -> None:
    async def enrol(request: Request, peer: object) -> Response:
        assert peer is None
        return Response(200, request.body[::-1])

    with running(tmp_path, hooks={"/v1/enrol": enrol}) as gateway:
        stranger = gateway.connect(None)
        status, _, body = post(stranger, "/v1/append", append(0))
        assert (status, code(body)) == (401, "no_certificate")
        assert post(stranger, "/v1/enrol", b"abc")[2] == b"cba"
        assert post(stranger, "/healthz", method="GET")[0] == 200


def test_who_has_no_certificate_has_a_connection_for_one_answer(tmp_path: Path) -> None:
    async def enrol(request: Request, peer: object) -> Response:
        return Response(200)

    asked = (("/v1/enrol", "POST"), ("/v1/append", "POST"), ("/healthz", "GET"), ("/readyz", "GET"))
    with running(tmp_path, hooks={"/v1/enrol": enrol}) as gateway:
        for path, method in asked:
            assert post(gateway.connect(None), path, method=method)[1]["Connection"] == "close"
            assert post(gateway.connect(), path, method=method)[1]["Connection"] is None


def test_strangers_are_few_and_small(tmp_path: Path) -> None:
    async def enrol(request: Request, peer: object) -> Response:
        return Response(200)

    limits = settings(hooks_per_minute=2, hook_body=100)
    with running(tmp_path, hooks={"/v1/enrol": enrol}, settings=limits) as gateway:
        stranger = gateway.connect(None)
        assert post(stranger, "/v1/enrol", b"x" * 101)[0] == 413
        assert [post(gateway.connect(None), "/v1/enrol", b"x")[0] for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("method", "size", "headers", "expected"),
    [
        ("POST", 1001, {}, (413, "too_large")),
        ("PUT", 2001, {}, (413, "too_large")),
        ("POST", 10, {"Content_Encoding": "gzip"}, (415, "compressed")),
    ],
)
def test_bodies_are_bounded_before_they_are_read(
    tmp_path: Path, method: str, size: int, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    with running(tmp_path, settings=settings(body=1000, chunk=2000)) as gateway:
        status, _, body = post(gateway.connect(), "/v1/append", b"x" * size, method, **headers)
        assert (status, code(body)) == expected


def test_a_body_of_unknown_length_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        connection = gateway.connect()
        connection.request("POST", "/v1/append", iter([b"x"]), encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, code(answer.read())) == (411, "length")


def test_a_declared_size_is_not_believed_for_ever(tmp_path: Path) -> None:
    with running(tmp_path, settings=settings(body_seconds=0.2)) as gateway:
        connection = gateway.connect()
        connection.putrequest("POST", "/v1/append")
        connection.putheader("Content-Length", "50")
        connection.endheaders(b"only this")
        answer = connection.getresponse()
        assert (answer.status, code(answer.read())) == (408, "slow")


def test_the_rate_of_a_node_is_bounded_and_says_when_to_come_back(tmp_path: Path) -> None:
    with running(tmp_path, settings=settings(requests_per_minute=3)) as gateway:
        answers = [post(gateway.connect(), "/v1/append", append(k)) for k in range(4)]
        assert [status for status, _, _ in answers] == [200, 200, 200, 429]
        assert 0 < float(answers[3][1]["Retry-After"]) <= 20
        assert post(gateway.connect("device-2"), "/v1/append", append(0))[0] == 200


class HangingUp(ToyHandler):
    """On polls."""

    def handle(self, ledger: ToyLedger, peer: object, request: Request, now: float) -> Response | ToyLater:
        if request.path != "/v1/exchange":
            return Response(200)
        if not json.loads(request.body)["wait"]:
            raise HangUp
        return super().handle(ledger, peer, request, now)

    def resume(self, ledger: ToyLedger, peer: object, later: ToyLater, now: float) -> Response | ToyLater:
        raise HangUp


@pytest.mark.parametrize("body", [b'{"have": 0, "wait": 0}', b'{"have": 0, "wait": 0}' + b" " * 100_000, None])
def test_a_handler_may_hang_up_instead_of_answering(tmp_path: Path, body: bytes | None) -> None:
    """On a request that comes in one piece, on one that does not, and on a poll that has waited."""
    with running(tmp_path, handler=HangingUp()) as gateway:
        connection = gateway.connect()
        assert post(connection, "/v1/hello")[0] == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            post(connection, "/v1/exchange", body or b'{"have": 0, "wait": 0.1}')
        connection.close()
        assert post(connection, "/v1/hello")[0] == 200
        assert "request_failed" not in gateway.log.getvalue()


def test_one_that_is_no_longer_allowed_is_refused(tmp_path: Path) -> None:
    refused: set[str] = set()
    with running(tmp_path, is_allowed=lambda peer: peer.node not in refused) as gateway:
        connection = gateway.connect()
        assert post(connection, "/v1/append", append(0))[0] == 200
        refused.add("device-1")
        status, _, body = post(connection, "/v1/append", append(1))
        assert (status, code(body)) == (403, "revoked")
        assert post(gateway.connect("device-2"), "/v1/append", append(0))[0] == 200


def test_a_failure_is_answered_and_logged_without_its_text(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        connection = gateway.connect()
        status, _, body = post(connection, "/v1/chunks/00", b"x", "PUT")
        assert (status, code(body)) == (500, "internal")
        assert post(connection, "/v1/append", append(0))[0] == 200
        assert "secret" not in gateway.log.getvalue()
        assert "error=RuntimeError where=fleet/toy_ends.py:" in gateway.log.getvalue()


def test_a_full_disk_refuses_and_the_gateway_goes_on(tmp_path: Path) -> None:
    full = threading.Event()

    class Ledger(ToyLedger):
        def tell(self, node: str) -> None:
            if full.is_set():
                raise StorageFull("disk full")
            super().tell(node)

    class Handler:
        def handle(self, ledger: Ledger, peer: object, request: Request, now: float) -> Response:
            ledger.tell("x")
            return Response(200)

    with running(tmp_path, open_ledger=lambda: Ledger(tmp_path / "ledger"), handler=Handler()) as gateway:
        connection = gateway.connect()
        full.set()
        status, headers, body = post(connection, "/v1/append", b"x")
        assert (status, code(body), headers["Retry-After"]) == (503, "disk_full", "30")
        assert post(connection, "/v1/append", b"x")[0] == 503
        assert gateway.log.getvalue().count("disk_full") == 1  # not once a request
        full.clear()
        assert post(connection, "/v1/append", b"x")[0] == 200


def waiting_poll(
    gateway: object, have: int, wait: float, node: str = "device-1", role: str = "device"
) -> tuple[threading.Thread, list[bytes]]:
    answers: list[bytes] = []
    body = json.dumps({"have": have, "wait": wait}).encode()
    connection = gateway.connect(node, role)  # type: ignore[attr-defined]
    before = gateway.call(lambda: len(gateway.service.gateway.waiters))  # type: ignore[attr-defined]

    def poll() -> None:
        answers.append(post(connection, "/v1/exchange", body)[2])

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    while gateway.call(lambda: len(gateway.service.gateway.waiters)) == before:  # type: ignore[attr-defined]
        pass
    return thread, answers


def test_a_long_poll_ends_when_its_topic_is_woken(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        thread, answers = waiting_poll(gateway, 0, 60)
        gateway.call(lambda: gateway.service.gateway.waiters.wake(["device-1"]))  # nothing new: it waits on
        while not gateway.call(lambda: len(gateway.service.gateway.waiters)):
            pass
        assert answers == []
        gateway.ask(lambda ledger: ledger.tell("device-1"))
        gateway.call(lambda: gateway.service.gateway.waiters.wake(["device-2", "device-1"]))
        thread.join(10)
        assert answers == [b'{"news": 1}']


def test_a_long_poll_ends_at_its_time(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        thread, answers = waiting_poll(gateway, 0, 0.3)
        thread.join(10)
        assert answers == [b'{"news": 0}']


def test_edges_can_be_recalled_from_their_long_polls_and_devices_wait_on(tmp_path: Path) -> None:
    """An edge has the revocation list to ask for; a device has not, and a thousand of them would come at once."""
    with running(tmp_path) as gateway:
        device, heard_by_device = waiting_poll(gateway, 0, 60)
        for _ in range(2):  # each poll anew
            edge, heard = waiting_poll(gateway, 0, 60, "edge-1", "edge")
            gateway.call(gateway.service.gateway.recall_servers)
            edge.join(10)
            assert heard == [b'{"news": 0}']
        edge, heard = waiting_poll(gateway, 0, 60, "edge-1", "edge")  # the recalls of before are over
        gateway.call(lambda: gateway.service.gateway.waiters.wake(["edge-1", "device-1"]))
        while gateway.call(lambda: len(gateway.service.gateway.waiters)) < 2:  # it has looked, and waits on
            pass
        edge.join(0.3)
        assert (heard, heard_by_device) == ([], [])
        gateway.call(gateway.service.gateway.drain)
        edge.join(10)
        device.join(10)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_long_poll_ends_at_its_time_whatever_the_wall_clock_does(tmp_path: Path, jump: float) -> None:
    with running(tmp_path) as gateway:
        thread, answers = waiting_poll(gateway, 0, 0.5)
        gateway.call(lambda: setattr(gateway.service.gateway, "_clock", lambda: time.time() + jump))
        gateway.call(lambda: gateway.service.gateway.waiters.wake(["device-1"]))  # a false alarm: it looks and waits on
        thread.join(10)
        assert answers == [b'{"news": 0}']


@pytest.mark.parametrize(("wait", "header"), [(0.0, "0"), (0.001, "1"), (1.0, "1"), (2.5, "3"), (None, None)])
def test_retry_after_is_in_whole_seconds_and_the_problem_has_the_wait_as_it_is(
    tmp_path: Path, wait: float | None, header: str | None
) -> None:
    with running(tmp_path) as gateway:
        rendered = gateway.service.gateway._render(problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "later", wait))
    assert rendered.headers.get("Retry-After") == header
    assert isinstance(rendered.body, bytes)
    heard = Response(503, rendered.body, None if header is None else float(header))
    assert of_response(heard, Limits()).retry_after == wait


def test_draining_answers_those_who_wait_and_refuses_the_rest(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        thread, answers = waiting_poll(gateway, 0, 60)
        connection = gateway.connect("device-2")
        assert post(connection, "/readyz", method="GET")[0] == 200
        gateway.call(gateway.service.gateway.drain)
        thread.join(10)
        assert code(answers[0]) == "nothing"
        assert post(connection, "/readyz", method="GET")[0] == 503
        status, _, body = post(gateway.connect("device-3"), "/v1/append", append(0))
        assert (status, code(body)) == (503, "draining")
