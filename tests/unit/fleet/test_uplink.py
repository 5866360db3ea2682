import io
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pki import require_parent
from running import Running, running
from toy_ends import ToyTalker

from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.uplink import Uplink
from fedagg_edge.wire.http import Request, Response


@contextmanager
def uplink(gateway: Running, talker: ToyTalker, urls: Sequence[str] = (), **options: object) -> Iterator[Uplink]:
    contexts: list[ssl.SSLContext] = []

    def context() -> ssl.SSLContext:
        contexts.append(gateway.authority.client("device-1"))
        return contexts[-1]

    @contextmanager
    def opened() -> Iterator[ToyTalker]:
        yield talker

    options.setdefault("on_events", lambda events: None)
    urls = urls or [f"https://127.0.0.1:{gateway.port}"]
    link = Uplink(opened, urls, context, require_parent, log=Log(io.StringIO()), **options)  # type: ignore[arg-type]
    link.contexts = contexts  # type: ignore[attr-defined]
    link.start()
    try:
        yield link
    finally:
        assert link.stop(5)


def test_what_the_talker_says_is_sent_and_what_comes_back_is_told(tmp_path: Path) -> None:
    done = threading.Event()
    with running(tmp_path) as gateway:
        talker = ToyTalker(5)
        with uplink(gateway, talker, on_events=lambda e: done.set() if e == (5,) else None) as link:
            assert done.wait(10)
            assert (link.counts.exchanges, link.counts.failures) == (5, 0)
            talker.total = 6
            link.renewed()
            done.clear()
            link._on_events = lambda e: done.set() if e == (6,) else None
            link.poke()
            assert done.wait(10)
            assert len(link.contexts) == 2  # type: ignore[attr-defined]


def test_it_stops_inside_a_long_poll(tmp_path: Path) -> None:
    with running(tmp_path) as gateway, uplink(gateway, ToyTalker(0, wait=50.0)) as link:
        while not gateway.call(lambda: len(gateway.service.gateway.waiters)):
            pass
        assert link.stop(5)
        assert link.error is None


def test_a_long_poll_can_be_ended_and_the_next_request_goes_out(tmp_path: Path) -> None:
    with running(tmp_path) as gateway, uplink(gateway, ToyTalker(0, wait=50.0)) as link:
        link.interrupt()  # nothing to interrupt yet, or a poll: both are fine
        for failures in range(2):
            while not gateway.call(lambda: len(gateway.service.gateway.waiters)):
                pass
            link.interrupt()
            deadline = threading.Event()
            while link.counts.failures <= failures and not deadline.wait(0.01):
                pass
        assert link.is_alive
        assert link.endpoint == f"https://127.0.0.1:{gateway.port}"


def test_a_parent_that_is_gone_is_replaced_by_the_next(tmp_path: Path) -> None:
    done, moved = threading.Event(), []
    with running(tmp_path) as gateway:
        good = f"https://127.0.0.1:{gateway.port}"
        options = {"on_events": lambda e: done.set(), "on_move": moved.append, "patience": 0.05}
        with uplink(gateway, ToyTalker(1), ["https://127.0.0.1:1", good], **options) as link:
            assert done.wait(10)
            assert moved[0] == good
            assert link.counts.failures > 0


def test_a_refusal_is_no_contact_that_keeps_a_node_from_training_by_itself() -> None:
    """It is one for the address: who answers is not looked for elsewhere."""
    now, answers = [100.0], [Response(200, b""), *(Response(status, b"") for status in (403, 503, 503))]

    class Connection:
        def send(self, request: Request) -> Response:
            return answers.pop(0)

    talker = ToyTalker(9)
    link = Uplink(
        lambda: nullcontext(talker), ["https://a", "https://b"], ssl.create_default_context, require_parent,
        on_events=lambda events: None, log=Log(io.StringIO()), patience=600.0, clock=lambda: now[0],
    )  # fmt: skip
    link._connected = Connection  # type: ignore[method-assign, assignment]
    for expected in (0.0, 500.0, 1000.0, 1500.0):
        link._exchange(talker, Request("POST", "/v1/hello", b""))
        assert link.silence == expected
        now[0] += 500.0
    assert (link.counts.exchanges, link.counts.failures, link.endpoint) == (4, 0, "https://a")
    link._connected = lambda: (_ for _ in ()).throw(OSError)  # type: ignore[method-assign]
    now[0] -= 400.0  # the last refusal was 100 s ago: not yet lost
    link._exchange(talker, Request("POST", "/v1/hello", b""))
    assert link.endpoint == "https://a"


def test_a_talker_that_breaks_ends_the_thread_and_is_kept(tmp_path: Path) -> None:
    class Broken(ToyTalker):
        def next(self, now: float) -> object:  # type: ignore[override]
            raise OSError("the ledger is gone")

    ended = threading.Event()
    with running(tmp_path) as gateway, uplink(gateway, Broken(1), on_end=ended.set) as link:
        assert ended.wait(10)
        assert isinstance(link.error, OSError)


def test_an_answer_that_a_full_disk_did_not_keep_is_asked_for_again(tmp_path: Path, monkeypatch: object) -> None:
    from fedagg_edge.errors import StorageFull
    from fedagg_edge.fleet import uplink as module

    class Full(ToyTalker):
        left = 2

        def receive(self, *arguments: object) -> tuple[object, ...]:  # type: ignore[override]
            if self.left:
                self.left -= 1
                raise StorageFull("no room")
            return super().receive(*arguments)  # type: ignore[arg-type]

    refused = [1, 1]
    done = threading.Event()

    def on_events(events: Sequence[object]) -> None:
        if refused:
            refused.pop()
            raise StorageFull("no room")
        if events == (3,):
            done.set()

    monkeypatch.setattr(module, "FULL_WAIT", 0.01)  # type: ignore[attr-defined]
    with running(tmp_path) as gateway:
        talker = Full(3)
        with uplink(gateway, talker, on_events=on_events) as link:
            assert done.wait(20)
            assert (link.error, refused, talker.failures) == (None, [], 2)


def test_a_wall_clock_that_jumps_delays_nothing(tmp_path: Path, monkeypatch: object) -> None:
    import time

    real, jumps = time.time, iter((0.0, 1e6, -1e6) * 10_000)
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))  # type: ignore[attr-defined]
    done = threading.Event()
    with running(tmp_path) as gateway:
        options = {"on_events": lambda e: done.set() if e == (2,) else None, "patience": 0.05}
        good = f"https://127.0.0.1:{gateway.port}"
        with uplink(gateway, ToyTalker(2), ["https://127.0.0.1:1", good], **options) as link:
            assert done.wait(20)
            assert 0 <= link.silence < 1e5


def test_somebody_elses_answers_are_told_once_and_count_as_none(tmp_path: Path) -> None:
    """A proxy's page: the log says what came, once, and the parent counts as silent."""
    text = io.StringIO()
    moved = threading.Event()

    class Portal:
        def handle(self, ledger: object, peer: object, request: Request, now: float) -> Response:
            return Response(403, b"<html>", media="text/html")

    with running(tmp_path, handler=Portal()) as gateway:
        urls = [f"https://127.0.0.1:{gateway.port}", f"https://localhost:{gateway.port}"]
        talker = ToyTalker(1)
        with uplink(gateway, talker, urls, patience=0.2, on_move=lambda url: moved.set()) as link:
            link._log = Log(text)
            assert moved.wait(20)
            assert link.counts.exchanges == 0
        assert (talker.statuses, talker.failures > 0) == ([], True)
    lines = [line for line in text.getvalue().splitlines() if "no_parents_answer" in line]
    assert len(lines) == 1
    assert 'status=403 kind="text html" reason="proxy or captive portal"' in lines[0]
