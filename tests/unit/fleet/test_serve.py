import http.client
import io
import json
import os
import signal
import threading
from pathlib import Path

from pki import Authority, identify
from running import post, running
from toy_ends import ToyHandler, ToyLedger

from fedagg_edge.fleet.exits import Exit
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.serve import Service, ServiceSettings, serve


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
