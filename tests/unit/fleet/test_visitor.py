"""What a visitor makes of a server's answers; with a real server it runs in test_commons.py."""

import ssl
from pathlib import Path

import msgspec
import pytest

from fedagg_edge.errors import ConfigError, IdentityError, PermissionDenied, RemoteProtocolError
from fedagg_edge.fleet import visitor as module
from fedagg_edge.fleet.connection import NoAnswer, StrangeAnswer
from fedagg_edge.fleet.visitor import Visitor
from fedagg_edge.wire.http import Response


@pytest.fixture
def server(monkeypatch):
    """`server(*answers)` gives a visitor that gets these, and the seconds that it slept."""

    class Connection:
        def __init__(self, *words, **more):
            self.answers = []

        def send(self, request):
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        def close(self):
            pass

    monkeypatch.setattr(module, "ParentConnection", Connection)

    def make(*answers):
        slept = []
        made = Visitor("https://localhost:1", None, sleep=slept.append)
        made._connection.answers = list(answers)
        return made, slept

    return make


def problem(status, code, retry=None):
    return Response(status, msgspec.msgpack.encode((code, "because", retry)), retry)


def test_it_waits_as_told_and_asks_again(server):
    visitor, slept = server(problem(429, "rate", 1.5), problem(503, "draining", 500.0), Response(200, b"x"))
    assert visitor.get("/").body == b"x"
    assert slept == [1.5, 60.0]


def test_it_does_not_wait_for_ever(server):
    visitor, slept = server(*[problem(429, "rate", 1.0)] * 9)
    with pytest.raises(RemoteProtocolError, match="'because' \\('rate', status 429\\)"):
        visitor.get("/")
    assert len(slept) == 8


@pytest.mark.parametrize(
    ("status", "kind"), [(401, PermissionDenied), (403, PermissionDenied), (404, RemoteProtocolError)]
)
def test_refusals(server, status, kind):
    with pytest.raises(kind, match="because"):
        server(problem(status, "role"))[0].get("/")


def test_a_connection_that_broke_is_made_again_once(server):
    assert server(NoAnswer("reset"), Response(200, b"y"))[0].get("/").body == b"y"
    with pytest.raises(RemoteProtocolError, match="https://localhost:1: no answer"):
        server(NoAnswer("reset"), NoAnswer("reset"))[0].get("/")


def test_a_proxys_page_is_told_at_once(server):
    page = StrangeAnswer("got status 502 with 'text/html'", 502, "text/html")
    with pytest.raises(RemoteProtocolError, match="https://localhost:1: got status 502 with 'text/html'"):
        server(page)[0].get("/")


def test_what_does_not_speak_tls_is_told(server):
    broken = NoAnswer("SSLError")
    broken.__cause__ = ssl.SSLError(1, "wrong version number")
    broken.__cause__.reason = "WRONG_VERSION_NUMBER"
    with pytest.raises(RemoteProtocolError, match="does not speak TLS"):
        server(broken)[0].get("/")


def test_a_wrong_address_and_a_folder_that_is_no_identity(tmp_path):
    with pytest.raises(ConfigError, match="expected https"):
        Visitor("http://x", None)
    with pytest.raises(IdentityError, match=r"authority\.pem: not there"):
        Visitor("https://x", Path(tmp_path))
