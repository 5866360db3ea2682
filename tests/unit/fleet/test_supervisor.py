import io
import os
import signal
import sys
import threading
from pathlib import Path
from random import Random

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
