import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from fedagg_edge.fleet.notify import extension, is_extension, more_time, notify, signs_of_life, watchdog_seconds


def test_lines_arrive(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        assert notify("READY=1", "STATUS=x", environment={"NOTIFY_SOCKET": str(tmp_path / "n")})
        assert manager.recv(100) == b"READY=1\nSTATUS=x"


def test_nobody_listens(tmp_path: Path) -> None:
    assert not notify("READY=1", environment={})
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": "@fedagg-nobody"})


def test_the_watchdog() -> None:
    assert watchdog_seconds({}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "3000000"}) == 1.5
    assert watchdog_seconds({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}) == 1.5
    assert watchdog_seconds({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "soon"}) is None


def test_more_time_is_asked_for_while_the_work_gets_on() -> None:
    told: list[str] = []
    heard = threading.Event()

    def tell(*lines: str) -> bool:
        told.extend(lines)
        heard.set()
        return True

    with more_time(every=0.05, seconds=7.0, tell=tell):
        while not heard.is_set():
            hashlib.sha256(bytes(1 << 16)).digest()
    assert told[:2] == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=7000000"]
    assert is_extension(told[1].encode())
    assert not is_extension(b"WATCHDOG=1")
    assert extension(0.5) == "EXTEND_TIMEOUT_USEC=500000"


def test_no_more_time_for_what_hangs_or_has_failed() -> None:
    told: list[str] = []

    def tell(*lines: str) -> bool:
        told.extend(lines)
        return True

    with more_time(every=0.05, tell=tell):
        time.sleep(2.0)
    assert len(told) <= 4  # for what it did before it slept, and for waking; not for 40 intervals of sleep
    with pytest.raises(ValueError, match="damaged"), more_time(every=0.05, tell=tell):
        raise ValueError("damaged")
    told.clear()
    time.sleep(0.3)
    assert told == []


def test_signs_of_life_are_given_through_long_work_and_not_by_what_hangs() -> None:
    watched, told, heard = {"WATCHDOG_USEC": "200000"}, [], threading.Event()

    def tell(*lines: str) -> bool:
        told.append(lines)
        if len(told) >= 5:
            heard.set()
        return True

    with signs_of_life(tell=tell, environment=watched):
        while not heard.is_set():  # one pass that is longer than what is allowed
            hashlib.sha256(bytes(1 << 16)).digest()
    assert set(told) == {("WATCHDOG=1",)}
    told.clear()
    with signs_of_life(tell=tell, environment=watched):
        time.sleep(2.0)
    assert len(told) <= 4  # as of `more_time`
    told.clear()
    with signs_of_life(tell=tell, environment={}):  # nobody watches: an application's own watchdog is its own affair
        for _ in range(2000):
            hashlib.sha256(bytes(1 << 16)).digest()
    assert told == []
