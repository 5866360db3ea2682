import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from fedagg_edge.fleet.exits import Exit
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.supervisor import ChildSpec, Supervisor

READY = "from fedagg_edge.fleet.notify import notify; notify('READY=1'); "
STAYS = READY + "import time; time.sleep(60)"


def child(name: str, program: str, **options: object) -> ChildSpec:
    return ChildSpec(name, [sys.executable, "-c", program], **options)  # type: ignore[arg-type]


def run(folder: Path, *specs: ChildSpec, told: list[str] | None = None) -> tuple[int, str]:
    log = io.StringIO()
    heard: list[str] = [] if told is None else told
    terminator = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))

    def tell(*lines: str) -> bool:
        heard.extend(lines)
        if "READY=1" in lines:
            terminator.start()
        return True

    try:
        code = Supervisor(folder, specs, Log(log), rng=Random(0), base=0.01, cap=0.05, tell=tell).run()
    finally:
        terminator.cancel()  # it may have ended by itself: the signal must not reach the next test
    return code, log.getvalue()


def test_ready_when_all_are_and_a_signal_is_passed_on(tmp_path: Path) -> None:
    told: list[str] = []
    # the handler is in place before it says that it is ready
    polite = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); " + READY + "time.sleep(60)"
    code, _ = run(tmp_path, child("gateway", polite), child("node_loop", polite), told=told)
    assert code == Exit.DONE
    assert told == ["READY=1", "STOPPING=1"]


def test_one_that_dies_is_started_again(tmp_path: Path) -> None:
    once = f"import os, sys; p = {str(tmp_path / 'seen')!r}; new = not os.path.exists(p); open(p, 'w').close(); "
    _, log = run(tmp_path, child("gateway", once + "os.abort() if new else None; " + STAYS))
    assert log.count("child_started") == 2
    assert "child_restarts" in log


def test_one_that_cannot_ever_work_ends_the_whole(tmp_path: Path) -> None:
    code, log = run(tmp_path, child("gateway", STAYS), child("node_loop", f"raise SystemExit({int(Exit.CONFIG)})"))
    assert code == Exit.CONFIG
    assert "child_restarts" not in log


def test_what_a_person_must_mend_is_not_hidden_by_how_the_others_stop(tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    slow = f"import signal, sys; signal.signal(15, lambda *_: sys.exit({int(Exit.TEMPORARY)})); "
    slow += f"open({str(flag)!r}, 'w').close(); import time; time.sleep(60)"
    wrong = f"import os, time\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.01)\n"
    code, log = run(
        tmp_path, child("gateway", slow), child("node_loop", f"{wrong}raise SystemExit({int(Exit.CONFIG)})")
    )
    assert f"child_ended child=gateway exit={int(Exit.TEMPORARY)}" in log
    assert code == Exit.CONFIG


def test_the_last_one_to_finish_ends_the_whole(tmp_path: Path) -> None:
    code, _ = run(tmp_path, child("gateway", STAYS), child("node_loop", READY, ends=True))
    assert code == Exit.DONE


def test_a_silent_one_is_killed_and_started_again(tmp_path: Path) -> None:
    once = f"import os, time; p = {str(tmp_path / 'seen')!r}; new = not os.path.exists(p); open(p, 'w').close(); "
    silent = once + "time.sleep(60) if new else None; "
    # the second start takes a fraction of a second, the first never says that it is ready
    _, log = run(tmp_path, child("gateway", silent + STAYS, silence=30.0, start_seconds=3.0))
    assert log.count("child_silent") == 1
    assert "child_ended child=gateway exit=-9" in log


def test_what_a_child_says_of_needing_more_time_is_handed_on_until_all_are_ready(tmp_path: Path) -> None:
    told: list[str] = []
    late = "from fedagg_edge.fleet.notify import notify; notify('WATCHDOG=1', 'EXTEND_TIMEOUT_USEC=7'); "
    run(tmp_path, child("gateway", late + STAYS + "; notify('EXTEND_TIMEOUT_USEC=9')"), told=told)
    assert told == ["EXTEND_TIMEOUT_USEC=7", "READY=1", "STOPPING=1"]


class Watched:
    """What a service manager hears of a supervisor whose second child is in a bad way."""

    def __init__(self, folder: Path, *specs: ChildSpec) -> None:
        self.folder, self.specs = folder, specs
        self.lines: list[str] = []

    def run(self, monkeypatch: pytest.MonkeyPatch, enough: Callable[[list[str], str], bool]) -> list[str]:
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        log = io.StringIO()

        def tell(*lines: str) -> bool:
            self.lines.extend(lines)
            return True

        def look() -> None:
            while not enough(self.lines, log.getvalue()) and not over.wait(0.05):
                pass
            if not over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

        over = threading.Event()
        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            Supervisor(self.folder, self.specs, Log(log), rng=Random(0), base=0.01, cap=0.05, tell=tell).run()
        finally:
            over.set()
            watcher.join()
        return self.lines


def test_alive_is_told_while_one_of_them_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk, or while a large ledger is checked: it is no reason to end those that serve."""
    once = f"import os, time; p = {str(tmp_path / 'seen')!r}; new = not os.path.exists(p); open(p, 'w').close(); "
    again = once + "time.sleep(60) if not new else None; " + READY + "time.sleep(0.5); raise SystemExit(74)"
    watched = Watched(tmp_path, child("gateway", STAYS), child("node_loop", again))

    def enough(lines: list[str], log: str) -> bool:
        if log.count("child_started child=node_loop") < 2:
            told[0] = lines.count("WATCHDOG=1")
        return lines.count("WATCHDOG=1") > told[0] + 4

    told = [0]
    lines = watched.run(monkeypatch, enough)
    assert lines[0] == "READY=1"
    assert lines[-1] == "STOPPING=1"


def test_alive_is_not_told_of_one_that_takes_too_long_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = f"import os, time; p = {str(tmp_path / 'seen')!r}; new = not os.path.exists(p); open(p, 'w').close(); "
    again = once + "time.sleep(60) if not new else None; " + READY + "time.sleep(0.5); raise SystemExit(74)"
    watched = Watched(tmp_path, child("gateway", STAYS), child("node_loop", again, start_seconds=1.5))
    counts: list[int] = []

    def enough(lines: list[str], log: str) -> bool:
        counts.append(lines.count("WATCHDOG=1"))
        return log.count("child_started child=node_loop") == 2 and len(counts) > 60 and len(set(counts[-20:])) == 1

    watched.run(monkeypatch, enough)
    assert counts[-1] > 0
