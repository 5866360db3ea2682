import asyncio
import http.client
import io
import json
import os
import signal
import socket
import sys
import threading
import time
from asyncio import sslproto
from pathlib import Path
from typing import Any

import pytest
from pki import Authority, identify
from running import Running, post, running
from toy_ends import ToyHandler, ToyLedger

from fedagg_edge.errors import ArtefactError, StorageFull
from fedagg_edge.fleet.exits import Exit
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.serve import Service, ServiceSettings, serve
from fedagg_edge.wire.http import Response


def test_metrics_are_on_the_plain_address_only_and_hold_what_others_saved(tmp_path: Path) -> None:
    (tmp_path / "node.prom").write_text("fedagg_rounds_total 7\n")
    settings = ServiceSettings(
        "127.0.0.1", 0, admin_port=0, metrics_files=(tmp_path / "node.prom", tmp_path / "missing")
    )
    with running(tmp_path, settings=settings) as gateway:
        assert post(gateway.connect(), "/metrics", method="GET")[0] == 404
        plain = http.client.HTTPConnection("127.0.0.1", gateway.service.admin_port, timeout=10)
        status, _, body = post(plain, "/metrics", method="GET")
        assert status == 200
        assert b"fedagg_rounds_total 7\n" in body
        assert b'fedagg_requests_total{endpoint="other",status="404"} 1\n' in body
        assert json.loads(post(plain, "/readyz", method="GET")[2])["ready"]
        plain.close()


def test_a_gateways_connections_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", 256 * 1024)  # asyncio's own, whatever ran before this
    monkeypatch.setattr(sslproto.constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ", 256)
    with running(tmp_path) as gateway:
        assert post(gateway.connect(), "/healthz", method="GET")[0] == 200

        def sizes() -> list[tuple[int, int]]:
            every = [c.transport._ssl_protocol for c in gateway.service.connections._known.values()]
            return [(len(tls._ssl_buffer), tls._incoming_high_water) for tls in every]

        assert gateway.call(sizes) == [(16_384, 65_536)]


def test_metrics_of_another_process_that_are_damaged_do_not_hide_the_rest(tmp_path: Path) -> None:
    (tmp_path / "node.prom").write_bytes(b"\xff\xfe")
    settings = ServiceSettings("127.0.0.1", 0, admin_port=0, metrics_files=(tmp_path / "node.prom",))
    with running(tmp_path, settings=settings) as gateway:
        plain = http.client.HTTPConnection("127.0.0.1", gateway.service.admin_port, timeout=10)
        status, _, body = post(plain, "/metrics", method="GET")
        assert (status, b"fedagg_requests_total" in body) == (200, True)
        plain.close()


def test_housekeeping_that_goes_on_failing_is_told_once_until_it_is_over(tmp_path: Path) -> None:
    log, context = io.StringIO(), Authority(tmp_path).server()
    settings = ServiceSettings("127.0.0.1", 0)
    ends = [ArtefactError("damaged"), ArtefactError("damaged"), None, ArtefactError("damaged"), OSError(5, "I/O")]

    async def work() -> None:
        if not ends:
            raise asyncio.CancelledError
        if (error := ends.pop(0)) is not None:
            raise error

    async def run() -> None:
        service = Service(
            settings, ToyHandler(), lambda: ToyLedger(tmp_path / "l"), lambda: context, identify, log=Log(log)
        )
        await service._every(0.0, work)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert log.getvalue().count("housekeeping_failed") == 3


def test_a_lost_wake_up_costs_a_second(tmp_path: Path) -> None:
    def poll(ledger: ToyLedger, topics: frozenset[str]) -> list[str]:
        return [t for t in topics if ledger.news(t)]

    with running(tmp_path, poll=poll) as gateway:
        connection = gateway.connect()
        connection.request("POST", "/v1/exchange", json.dumps({"have": 0, "wait": 60}))
        while not gateway.call(lambda: len(gateway.service.gateway.waiters)):
            pass
        gateway.ask(lambda ledger: ledger.tell("device-1"))  # and nobody rings
        assert connection.getresponse().read() == b'{"news": 1}'


def test_sigterm_drains_and_the_exit_code_says_so(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.server()
    log = io.StringIO()

    def make() -> Service[ToyLedger]:
        settings = ServiceSettings("127.0.0.1", 0)
        return Service(
            settings, ToyHandler(), lambda: ToyLedger(tmp_path / "l"), lambda: context, identify, log=Log(log)
        )

    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert serve(make, Log(log)) == Exit.DONE
    assert "gateway_stopped finished=true" in log.getvalue()


LONG = 16 << 20
"""Bytes of an answer: more than the kernel takes of a connection whose client has not read yet."""


class Lengthy(ToyHandler):
    """Whose news are long."""

    def _news(self, ledger: ToyLedger, peer: Any) -> Response:
        return Response(200, bytes(LONG))


def read_slowly(connection: http.client.HTTPSConnection) -> int:
    """Steadily, for some seconds: bytes of the answer that came."""
    answer, got = connection.getresponse(), 0
    try:
        while piece := answer.read(LONG // 40):
            got += len(piece)
            time.sleep(0.12)
    except (OSError, http.client.IncompleteRead):
        pass
    return got


def narrow(gateway: Running) -> http.client.HTTPSConnection:
    """A connection of which the kernel keeps little on the client's side."""
    connection = gateway.connect()
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    return connection


def test_who_reads_the_last_answer_slowly_gets_it_whole(tmp_path: Path) -> None:
    with running(tmp_path, handler=Lengthy()) as gateway:
        connection = narrow(gateway)
        asked = json.dumps({"have": 1, "wait": 0})
        connection.request("POST", "/v1/exchange", asked, {"Connection": "close"})
        assert read_slowly(connection) == LONG


def test_who_reads_slowly_while_the_gateway_stops_gets_its_answer_whole(tmp_path: Path) -> None:
    with running(tmp_path, handler=Lengthy()) as gateway:
        connection = narrow(gateway)
        connection.request("POST", "/v1/exchange", json.dumps({"have": 0, "wait": 60}))
        while not gateway.call(lambda: len(gateway.service.gateway.waiters)):
            pass
        gateway.ask(lambda ledger: ledger.tell("device-1"))  # and nobody rings: it is answered by the drain

        async def stop() -> tuple[bool, int]:
            return (
                await gateway.service.stop(),
                gateway.service.connections.unread,
            )  # which the process's end would lose

        stopped = asyncio.run_coroutine_threadsafe(stop(), gateway.loop)
        assert read_slowly(connection) == LONG
        assert stopped.result(20) == (True, 0)


def test_a_port_that_is_taken_is_temporary(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        settings = ServiceSettings("127.0.0.1", gateway.port)
        context = gateway.authority.server()
        log = Log(io.StringIO())

        def make() -> Service[ToyLedger]:
            return Service(
                settings, ToyHandler(), lambda: ToyLedger(tmp_path / "l2"), lambda: context, identify, log=log
            )

        assert serve(make, log, ()) == Exit.TEMPORARY


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A service manager that wants a sign of life every fifth of a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield manager


def hear_nothing_new(manager: socket.socket) -> None:
    """What was on its way is read; then a second, ten times the interval, brings nothing."""
    manager.settimeout(1.0)
    for _ in range(3):
        try:
            manager.recv(100)
        except TimeoutError:
            break
    else:
        pytest.fail("it goes on giving signs of life")
    manager.settimeout(20)


def test_a_sign_of_life_is_the_writers_too(tmp_path: Path, manager: socket.socket) -> None:
    with running(tmp_path) as gateway:
        assert manager.recv(100) == b"WATCHDOG=1"
        held, seen = threading.Event(), threading.Event()
        gateway.loop.call_soon_threadsafe(
            lambda: gateway.loop.create_task(gateway.service.writer.run(lambda ledger: seen.set() or held.wait(60)))
        )
        assert seen.wait(20)
        hear_nothing_new(manager)  # the event loop turns, and answers nobody
        held.set()
        assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_died_gives_no_sign_of_life(tmp_path: Path, manager: socket.socket) -> None:
    with running(tmp_path) as gateway:
        assert manager.recv(100) == b"WATCHDOG=1"
        gateway.service.writer._on_group = lambda size, seconds, error: sys.exit()
        hear_nothing_new(manager)


def test_a_full_disk_is_no_silence(tmp_path: Path, manager: socket.socket) -> None:
    def full() -> None:
        raise StorageFull("no room")

    with running(tmp_path) as gateway:
        gateway.call(lambda: setattr(gateway.service.writer, "run", lambda operation: asyncio.to_thread(full)))
        for _ in range(3):
            assert manager.recv(100) == b"WATCHDOG=1"
        del gateway.service.writer.run


def test_a_writer_with_too_much_to_do_lives_while_it_gets_on(
    tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedagg_edge.fleet.serve._PAT", 0.1)
    with running(tmp_path) as gateway:
        writer = gateway.service.writer
        writer._most = 0  # its queue counts as full
        hear_nothing_new(manager)
        stop = threading.Event()

        def get_on() -> None:
            while not stop.wait(0.02):
                writer.groups += 1

        worker = threading.Thread(target=get_on)
        worker.start()
        assert manager.recv(100) == b"WATCHDOG=1"
        stop.set()
        worker.join()
