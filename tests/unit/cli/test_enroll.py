"""`fedagg enroll` against a real HTTPS server of the standard library, which enrols with the short-lived process."""

import http.server
import logging
import socket
import threading
import time

import msgspec
import pytest
from identity.worlds import make_world, mode

from fedagg_edge.cli import enroll
from fedagg_edge.errors import ConfigError, FedaggError
from fedagg_edge.fleet.exits import Exit
from fedagg_edge.identity import folder, offload, operator, requests, tls, tokens
from fedagg_edge.records import Tier


class Parent(http.server.BaseHTTPRequestHandler):
    """POST /v1/enrol of one edge; tokens are spent in a set."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        token, node, role, public_key, proof, at = msgspec.msgpack.decode(
            self.rfile.read(int(self.headers["Content-Length"]))
        )
        self.server.seen.append(token)
        if self.server.canned is not None:
            return self.reply(*self.server.canned)
        try:
            grant = tokens.find_grant(self.server.place, token, time.time())
            if (grant.node, grant.role) != (node, role) or grant.digest in self.server.spent:
                return self.reply(403, msgspec.msgpack.encode(("denied", "token is spent or another's", None)))
            done = offload.ask(
                requests.Enrol(
                    folder=str(self.server.place), node=grant.node, role=grant.role,
                    token_digest=bytes.fromhex(grant.digest), public_key=public_key, proof=proof, time=at,
                    now=time.time(),
                ),
                requests.Issued,
            )  # fmt: skip
        except FedaggError as error:
            return self.reply(403, msgspec.msgpack.encode(("denied", str(error), None)))
        self.server.spent.add(grant.digest)
        return self.reply(200, msgspec.msgpack.encode((done.certificate, done.authority, {})))

    def reply(self, status, body):
        self.send_response(status)
        if self.server.media:
            self.send_header("Content-Type", self.server.media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.server.cut else body)
        self.close_connection = self.server.cut

    def log_message(self, *words):
        pass


class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that left during the handshake is no news."""


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@pytest.fixture
def parent(world):
    server = Quiet(("127.0.0.1", 0), Parent)
    server.place, server.spent, server.seen, server.canned = world.edge, set(), [], None
    server.media, server.cut = "", False
    server.socket = tls.server_context(world.edge).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"https://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def grant(world, node="n"):
    return operator.grant(world.edge, node=node, role=Tier.DEVICE, expires=time.time() + 600).text


def test_a_token_buys_an_identity_once(fedagg, world, parent, tmp_path):
    token, state = grant(world), tmp_path / "state"
    words = ("enroll", parent.url, "--token", token, "--node", "n")
    code, out, err = fedagg(*words, "--state", state)
    assert (code, err) == (0, "")
    assert out.startswith("enrolled device n")
    assert mode(state / "identity" / folder.KEY) == 0o600
    tls.client_context(state / "identity")
    code, _, err = fedagg(*words, "--state", tmp_path / "again")
    assert code == 1
    assert "spent" in err


def test_the_token_of_another_federation_is_not_sent(fedagg, world, parent, tmp_path):
    other = make_world(tmp_path / "other")
    code, _, err = fedagg("enroll", parent.url, "--token", grant(other), "--node", "n", "--state", tmp_path / "state")
    assert code == 1
    assert "authority that the token names" in err
    assert parent.seen == []
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "canned",
    [
        (200, b"x"),
        (200, msgspec.msgpack.encode([b"no pem"])),
        (500, b"<html>"),
        (403, b"\x92\xa1\xff\xa1x"),  # text that is not UTF-8
        (200, b"\0" * 70_000),
        (302, b""),
    ],
)
def test_odd_answers_leave_nothing_installed(fedagg, world, parent, tmp_path, canned):
    parent.canned = canned
    code, _, err = fedagg("enroll", parent.url, "--token", grant(world), "--node", "n", "--state", tmp_path / "state")
    assert code == 1
    assert err.startswith("fedagg: ")
    assert not (tmp_path / "state" / "identity" / folder.CERTIFICATE).exists()


@pytest.mark.parametrize("status", [200, 302, 403, 502, 511])
def test_a_captive_portals_page_is_called_what_it_is_and_asked_again_later(fedagg, world, parent, tmp_path, status):
    """The token is not spent, so a device that finds itself in such a network goes on trying."""
    parent.canned, parent.media = (status, b"<html>Welcome to our hotel</html>"), "text/html; charset=utf-8"
    code, _, err = fedagg("enroll", parent.url, "--token", grant(world), "--node", "n", "--state", tmp_path / "state")
    assert code == Exit.UNREACHABLE
    assert f"got status {status} with 'text/html', expected application/x-fedagg" in err
    assert "captive portal" in err
    assert "hotel" not in err
    assert not (tmp_path / "state" / "identity" / folder.CERTIFICATE).exists()


def test_what_does_not_speak_tls_is_called_what_it_is(fedagg, world, tmp_path):
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            line, _ = listener.accept()
            with line:
                line.recv(4096)
                line.sendall(page)

        portal = threading.Thread(target=answer, daemon=True)
        portal.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        code, _, err = fedagg("enroll", url, "--token", grant(world), "--node", "n", "--state", tmp_path / "state")
        portal.join(20)
    assert code == Exit.UNREACHABLE
    assert "does not speak TLS" in err


def test_no_server(fedagg, world, tmp_path):
    code, _, err = fedagg(
        "enroll", "https://127.0.0.1:9", "--token", grant(world), "--node", "n", "--state", tmp_path / "state"
    )
    assert code == Exit.UNREACHABLE
    assert "no connection" in err


def test_a_parent_that_cannot_now_is_asked_again_later(fedagg, world, parent, tmp_path):
    parent.canned = (503, msgspec.msgpack.encode(["draining", "later", 1.0]))
    code, _, err = fedagg("enroll", parent.url, "--token", grant(world), "--node", "n", "--state", tmp_path / "state")
    assert (code, "later" in err) == (Exit.UNREACHABLE, True)


def test_an_answer_that_breaks_off_is_asked_for_again(fedagg, world, parent, tmp_path):
    """The token is spent by then: a device that took half an answer for a server's error would have ended for good."""
    parent.cut = True
    words = ("enroll", parent.url, "--token", grant(world), "--node", "n", "--state", tmp_path / "state")
    code, _, err = fedagg(*words)
    assert (code, "the answer broke off" in err) == (Exit.UNREACHABLE, True)
    parent.cut = False
    parent.spent.clear()  # this server knows no retries
    assert fedagg(*words)[0] == 0


def test_addresses():
    assert enroll.address("https://a.example:8443/") == ("a.example", 8443)
    assert enroll.address("https://[::1]") == ("::1", 443)
    for wrong in ("http://a", "a:1", "https://", "https://a/path", "https://u:p@a", "https://a:99999"):
        with pytest.raises(ConfigError):
            enroll.address(wrong)


def test_no_secret_is_printed_or_logged(fedagg, world, parent, tmp_path, caplog):
    """Plants a token and keys, goes through success and failures with every log on, and searches what came out."""
    caplog.set_level(logging.DEBUG)
    token, heard = grant(world), []
    for url, given in (
        (parent.url, token),
        (parent.url, token),
        (parent.url, token + "x"),
        ("https://127.0.0.1:9", token),
    ):
        heard += [
            str(part) for part in fedagg("enroll", url, "--token", given, "--node", "n", "--state", tmp_path / "s")
        ]
    assert "127.0.0.1" in "".join([*heard, caplog.text])  # something was heard
    heard.append(caplog.text)
    heard.append(repr(tokens.parse(token)))
    said = "".join(heard)
    assert token.split(".")[2] not in said
    for path in tmp_path.rglob("*key*.pem"):
        for line in path.read_text().splitlines():
            assert line.startswith("-----") or line not in said
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert token.split(".")[2].encode() not in path.read_bytes()
