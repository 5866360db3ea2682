import socket
import threading
from pathlib import Path

import pytest
from pki import Authority, require_parent
from running import Running, running

from fedagg_edge.fleet.connection import Cutter, NoAnswer, ParentConnection, StrangeAnswer
from fedagg_edge.wire.http import Request, Response


def connection(gateway: Running, **options: object) -> ParentConnection:
    context = gateway.authority.client("device-1")
    return ParentConnection(("127.0.0.1", gateway.port), context, require_parent, Cutter(), **options)  # type: ignore[arg-type]


def test_answers_come_over_one_connection(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        parent = connection(gateway)
        for key in range(3):
            answer = parent.send(Request("POST", "/v1/append", b'{"key": %d, "text": "x"}' % key))
            assert (answer.status, answer.body) == (200, b'{"rows": %d}' % (key + 1))
        assert len(gateway.service.connections) == 1
        assert parent.send(Request("GET", "/v1/nothing")).status == 404
        parent.close()


def test_an_answer_over_the_bound_is_not_read(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        parent = connection(gateway, most=10)
        with pytest.raises(NoAnswer, match="size"):
            parent.send(Request("POST", "/v1/append", b'{"key": 0, "text": "x"}'))
        assert parent.send(Request("GET", "/v1/nothing")).status == 404  # and it is of use still
        parent.close()


def test_an_answer_that_is_refused_or_empty_leaves_the_connection_usable(tmp_path: Path) -> None:
    """A connection that is not given up, or of which something is unread, would spoil the next answer."""

    class Handler:
        def handle(self, ledger: object, peer: object, request: Request, now: float) -> Response:
            return Response(204) if request.path == "/v1/empty" else Response(200, b"x" * 20)

    with running(tmp_path, handler=Handler()) as gateway:
        parent, answers = connection(gateway, most=10), []

        def ask() -> None:
            for _ in range(3):
                answers.append(parent.send(Request("GET", "/v1/empty")))
                with pytest.raises(NoAnswer, match="size"):
                    parent.send(Request("GET", "/v1/large"))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(20)
        assert [(a.status, a.body) for a in answers] == [(204, b"")] * 3
        assert not thread.is_alive()
        parent.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", HEAD, HEAD + b"half", b"HTTP/1.1 200 OK\r\n\r\nno length"])
def test_a_parent_that_dies_in_the_middle_of_its_answer_is_asked_again(tmp_path: Path, said: bytes) -> None:
    """A connection that broke is made anew: the next request must neither wait for it nor read what is left of it."""
    context = Authority(tmp_path).server()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in (said, said, HEAD + b"x" * 20):
            with context.wrap_socket(listener.accept()[0], server_side=True) as line:
                line.recv(4096)
                line.sendall(answer)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    client = Authority.of(tmp_path).client("device-1")
    parent = ParentConnection(("127.0.0.1", listener.getsockname()[1]), client, require_parent, Cutter())
    answers: list[object] = []

    def ask() -> None:
        for _ in range(2):
            with pytest.raises(NoAnswer):
                parent.send(Request("GET", "/v1/x"))
        answers.append(parent.send(Request("GET", "/v1/x")).body)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(30)
    assert answers == [b"x" * 20]
    server.join(30)
    parent.close()
    listener.close()


@pytest.mark.parametrize("size", [b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_a_page_of_a_proxy_is_not_taken_for_the_parents_answer(tmp_path: Path, size: bytes) -> None:
    context = Authority(tmp_path).server()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        heads = (b"HTTP/1.1 407 No\r\nContent-Type: Text/HTML; charset=utf-8\r\n" + size + b"\r\n", HEAD)
        for head, body in zip(heads, (b"<html>", b"x" * 20), strict=True):
            with context.wrap_socket(listener.accept()[0], server_side=True) as line:
                line.recv(4096)
                line.sendall(head + body)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    client = Authority.of(tmp_path).client("device-1")
    parent = ParentConnection(("127.0.0.1", listener.getsockname()[1]), client, require_parent, Cutter())
    with pytest.raises(StrangeAnswer, match="got status 407 with 'text/html', expected application/x-fedagg") as caught:
        parent.send(Request("GET", "/v1/x"))
    assert (caught.value.status, caught.value.kind) == (407, "text/html")
    assert parent.send(Request("GET", "/v1/x")).body == b"x" * 20  # and the connection is of use still
    server.join(30)
    parent.close()
    listener.close()


def test_a_device_cannot_pose_as_a_parent(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        impostor = gateway.authority.server("device-9", "device")
        gateway.service._listener._context = lambda: impostor
        parent = connection(gateway)
        with pytest.raises(NoAnswer):
            parent.send(Request("GET", "/healthz"))
        parent.close()


def test_an_interruption_ends_one_wait_only(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        cutter = Cutter()
        cutter.interrupt()
        context = gateway.authority.client("device-1")
        parent = ParentConnection(("127.0.0.1", gateway.port), context, require_parent, cutter)
        threading.Timer(0.3, cutter.interrupt).start()
        with pytest.raises(NoAnswer):
            parent.send(Request("POST", "/v1/exchange", b'{"have": 0, "wait": 60}'))
        assert parent.send(Request("POST", "/v1/exchange", b'{"have": 0, "wait": 0}')).status == 200
        parent.close()


def test_a_cut_ends_a_wait_and_all_that_follow(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        cutter = Cutter()
        context = gateway.authority.client("device-1")
        parent = ParentConnection(("127.0.0.1", gateway.port), context, require_parent, cutter)
        threading.Timer(0.3, cutter.cut).start()
        for _ in range(2):
            with pytest.raises(NoAnswer):
                parent.send(Request("POST", "/v1/exchange", b'{"have": 0, "wait": 60}'))
        parent.close()
