"""The client's HTTP against a server that says exactly what a test gives it; its TLS is in test_connection.py, too."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pki import Authority

from fedagg_edge.fleet.https import BadAnswer, Head, HttpsLine

Serve = Callable[..., HttpsLine]


class Script:
    """One connection after the other, each a list of what is said to one request after the other; then it hangs up."""

    def __init__(self, context: ssl.SSLContext, connections: Sequence[Sequence[bytes]]) -> None:
        self.context, self.connections = context, connections
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.heard: list[bytes] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        with contextlib.suppress(
            OSError
        ):  # a client that leaves, as some tests have it do; what was heard is looked at
            for answers in self.connections:
                with self.context.wrap_socket(self.listener.accept()[0], server_side=True) as line:
                    for answer in answers:
                        self.heard.append(whole_request(line))
                        line.sendall(answer)
                self.ended.set()


def whole_request(line: ssl.SSLSocket) -> bytes:
    """A request as it came."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        if not (piece := line.recv(65_536)):
            raise ConnectionResetError("the client left")
        heard += piece
    head, _, body = heard.partition(b"\r\n\r\n")
    size = next((int(x[16:]) for x in head.split(b"\r\n") if x.startswith(b"Content-Length: ")), 0)
    while len(body) < size:
        body += line.recv(65_536)
    return head + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def serve(authority: Authority) -> Iterator[Serve]:
    """`serve([answer, ...], ...)`: a line to a server of this script; `.script` is the server."""
    made: list[tuple[HttpsLine, Script]] = []

    def make(*connections: Sequence[bytes], **options: float) -> HttpsLine:
        script = Script(authority.server(), connections)
        seconds = {"connect_seconds": 10.0, "read_seconds": 10.0} | options
        line = HttpsLine(("127.0.0.1", script.listener.getsockname()[1]), authority.client("device-1"), **seconds)
        made.append((line, script))
        return line

    make.scripts = made  # type: ignore[attr-defined]
    yield make
    for line, script in made:
        line.close()
        script.listener.close()
        script.thread.join(10)


def body_of(line: HttpsLine) -> bytes:
    body = b""
    while piece := line.read(7):
        body += piece
    return body


def answer(body: bytes, *headers: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, b"Content-Length: %d" % len(body), *headers, b"", body])


def test_requests_follow_one_another_over_one_connection(serve: Serve) -> None:
    line = serve([answer(b"first answer"), answer(b""), answer(b"last")])
    assert line.ask("POST", "/v1/x", b"body", {"Content-Type": "a/b"}).status == 200
    assert body_of(line) == b"first answer"
    line.ask("POST", "/v1/y")
    assert body_of(line) == b""
    line.ask("GET", "/v1/z")
    assert body_of(line) == b"last"
    ((_, script),) = serve.scripts  # type: ignore[attr-defined]
    host = b"Host: 127.0.0.1:%d\r\n" % script.listener.getsockname()[1]
    assert script.heard == [
        b"POST /v1/x HTTP/1.1\r\n" + host + b"Content-Type: a/b\r\nContent-Length: 4\r\n\r\nbody",
        b"POST /v1/y HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n\r\n",
        b"GET /v1/z HTTP/1.1\r\n" + host + b"\r\n",
    ]


def test_a_large_body_arrives_whole_both_ways(serve: Serve) -> None:
    large = bytes(range(256)) * 1000
    line = serve([answer(large)])
    line.ask("POST", "/v1/x", large)
    assert body_of(line) == large
    ((_, script),) = serve.scripts  # type: ignore[attr-defined]
    assert script.heard[0].endswith(b"\r\n\r\n" + large)


@pytest.mark.parametrize(
    "ends",
    [
        answer(b"one", b"Connection: close"),
        answer(b"one", first=b"HTTP/1.0 200 OK"),
        answer(b"one"),  # and hangs up without saying so, while nobody asks
        answer(b"one") + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",  # an answer that nobody asked for
        answer(b"one and more than is read"),
        b"HTTP/1.1 200 OK\r\n\r\none",  # its length unknown
    ],
)
def test_what_ends_a_connection_is_followed_by_a_new_one(serve: Serve, ends: bytes) -> None:
    line = serve([ends], [answer(b"two")])
    line.ask("GET", "/")
    line.read(3)
    ((_, script),) = serve.scripts  # type: ignore[attr-defined]
    assert script.ended.wait(10)
    line.ask("GET", "/")
    assert body_of(line) == b"two"


def test_what_tls_has_taken_in_already_ends_a_connection_too(authority: Authority) -> None:
    """An answer that nobody asked for, in one record with the answer before it: no socket shows that it is there."""

    def run(listener: socket.socket) -> None:
        context = authority.server()
        with contextlib.suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as first:
            whole_request(first)
            first.sendall(answer(bytes(5000)) + answer(b"bad"))
            with context.wrap_socket(listener.accept()[0], server_side=True) as second:
                whole_request(second)
                second.sendall(answer(b"two"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, args=(listener,), daemon=True)
        thread.start()
        where = ("127.0.0.1", listener.getsockname()[1])
        line = HttpsLine(where, authority.client("device-1"), connect_seconds=10.0, read_seconds=10.0)
        line.ask("GET", "/")
        assert len(body_of(line)) == 5000
        assert (line._buffer, line._socket.pending() > 0) == (b"", True)  # type: ignore[union-attr]
        line.ask("GET", "/")
        assert body_of(line) == b"two"
        line.close()
        thread.join(10)


def test_an_answer_of_http_1_0_may_keep_its_connection(serve: Serve) -> None:
    kept = answer(b"one", b"connection: Keep-Alive", first=b"HTTP/1.0 200 OK")
    line = serve([kept, answer(b"two")])
    for expected in (b"one", b"two"):
        line.ask("GET", "/")
        assert body_of(line) == expected


def test_what_only_announces_an_answer_is_passed_over(serve: Serve) -> None:
    line = serve([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + answer(b"it")])
    assert line.ask("GET", "/").status == 200
    assert body_of(line) == b"it"


def test_headers_are_found_in_any_writing(serve: Serve) -> None:
    line = serve([answer(b"", b"X-Long: one\r\n  two", b"x-LONG:three", b"Empty:", first=b"HTTP/1.1 404")])
    head = line.ask("GET", "/")
    assert (head.status, head.length) == (404, 0)
    assert head.headers == {"content-length": "0", "x-long": "one two, three", "empty": ""}


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 xyz OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 8,
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n first line goes on\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 2",
    ],
)
def test_what_is_no_answer_is_refused_and_the_next_request_has_a_new_connection(serve: Serve, said: bytes) -> None:
    line = serve([said], [answer(b"fine")])
    with pytest.raises(BadAnswer):
        line.ask("GET", "/")
    line.ask("GET", "/")
    assert body_of(line) == b"fine"


def test_a_server_that_hangs_up_instead_of_answering(serve: Serve) -> None:
    with pytest.raises(ConnectionResetError):
        serve([b""]).ask("GET", "/")


def test_the_answer_of_a_server_that_hangs_up_on_a_body_is_read(authority: Authority) -> None:
    def refuse() -> None:
        with authority.server().wrap_socket(listener.accept()[0], server_side=True) as line:
            line.recv(100)
            line.sendall(answer(b"no", first=b"HTTP/1.1 413 Too Large"))
            time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        where = ("127.0.0.1", listener.getsockname()[1])
        line = HttpsLine(where, authority.client("device-1"), connect_seconds=5, read_seconds=5)
        assert line.ask("PUT", "/", bytes(16 << 20)).status == 413
        assert body_of(line) == b"no"
        line.close()
        thread.join(10)


def test_a_body_that_breaks_off_ends_early(serve: Serve) -> None:
    line = serve([b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf"])
    assert line.ask("GET", "/").length == 20
    assert body_of(line) == b"half"


def test_silence_is_not_waited_for_without_end(serve: Serve) -> None:
    line = serve([b"HTTP/1.1 200 OK\r\n", b""], read_seconds=0.2)
    with pytest.raises(TimeoutError):
        line.ask("GET", "/")


@pytest.mark.parametrize(
    ("headers", "status", "length"),
    [
        ({"content-length": "12"}, 200, 12),
        ({}, 204, 0),
        ({}, 200, None),
        ({"content-length": "12, 12"}, 200, None),
        ({"content-length": "-1"}, 200, None),
        ({"content-length": "1" * 5000}, 200, None),
        ({"content-length": "²"}, 200, None),
        ({"content-length": "12", "transfer-encoding": "chunked"}, 200, None),
    ],
)
def test_the_length_of_a_body(headers: dict[str, str], status: int, length: int | None) -> None:
    assert Head(status, headers, "HTTP/1.1").length == length


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("edge.example", 443, b"Host: edge.example\r\n"),
        ("::1", 9443, b"Host: [::1]:9443\r\n"),
        ("bücher.example", 1, b"Host: xn--bcher-kva.example:1\r\n"),
    ],
)
def test_the_host_is_named_as_http_wants_it(authority: Authority, host: str, port: int, expected: bytes) -> None:
    line = HttpsLine((host, port), authority.client("device-1"), connect_seconds=1, read_seconds=1)
    assert expected in line._request("GET", "/", b"", {})


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ü"])
def test_a_request_is_one_request(serve: Serve, path: str) -> None:
    with pytest.raises(BadAnswer, match="printable ASCII"):
        serve().ask("GET", path)


def test_a_socket_that_is_refused_before_or_after_it_connects_sends_nothing(authority: Authority) -> None:
    def refuse(_: socket.socket) -> None:
        raise ConnectionAbortedError("no")

    script = Script(authority.server(), [[], []])
    where = ("127.0.0.1", script.listener.getsockname()[1])
    for hook in ({"opening": refuse}, {"check": refuse}):
        line = HttpsLine(where, authority.client("device-1"), connect_seconds=5, read_seconds=5, **hook)
        with pytest.raises(ConnectionAbortedError):
            line.ask("GET", "/")
        assert line._socket is None
    script.listener.close()
    assert script.heard == []


def test_another_authoritys_server_is_no_parent(authority: Authority, tmp_path: Path) -> None:
    script = Script(Authority(tmp_path).server(), [[b""]])
    where = ("127.0.0.1", script.listener.getsockname()[1])
    line = HttpsLine(where, authority.client("device-1"), connect_seconds=5, read_seconds=5)
    with pytest.raises(ssl.SSLCertVerificationError):
        line.ask("GET", "/")
    script.listener.close()


def test_a_head_that_drips_is_not_waited_for_without_end() -> None:
    line = HttpsLine(("x", 1), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), connect_seconds=1, read_seconds=0.1)
    line._socket = Dripping(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 90, 1)  # type: ignore[assignment]
    with pytest.raises(TimeoutError):
        line._read_head()


class Canned:
    """A connection that has said these bytes, in pieces of some size, and hung up."""

    def __init__(self, said: bytes, size: int) -> None:
        self.said, self.size = said, size

    def recv(self, most: int) -> bytes:
        piece, self.said = self.said[: min(most, self.size)], self.said[min(most, self.size) :]
        return piece

    def close(self) -> None:
        pass


class Dripping(Canned):
    """Says each piece after a while, so that no single wait is too long."""

    def recv(self, most: int) -> bytes:
        time.sleep(0.01)
        return super().recv(most)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"HTTP/1.1 200 OK", b"\r\n", b"\n", b"\r", b"Content-Length: 3", b":", b" ", b"a: b", b"100", b"x"]
        )
        | st.binary(max_size=9),
        max_size=40,
    ),
    st.integers(1, 50),
)
def test_whatever_comes_is_a_head_or_refused(parts: list[bytes], size: int) -> None:
    line = HttpsLine(("x", 1), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), connect_seconds=1, read_seconds=1)
    line._socket = Canned(b"".join(parts), size)  # type: ignore[assignment]
    try:
        head = line._read_head()
    except (BadAnswer, ConnectionResetError):
        return
    assert 200 <= head.status <= 999
    assert all(name == name.strip().lower() for name in head.headers)
