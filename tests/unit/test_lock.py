import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedagg_edge.errors import StateInUse
from fedagg_edge.lock import StateLock


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(StateInUse, match=f"process {os.getpid()} owns it"):
        StateLock(tmp_path).acquire()
    StateLock(tmp_path).acquire()


def test_a_child_that_inherited_the_lock_holds_it(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    child = subprocess.Popen(program, stdin=subprocess.PIPE, pass_fds=(lock.fileno(),))
    lock.release()
    with pytest.raises(StateInUse):
        StateLock(tmp_path).acquire()
    child.communicate()
    with StateLock(tmp_path):
        pass


def test_a_lock_that_is_not_held_has_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not held"):
        StateLock(tmp_path).fileno()


def test_a_process_that_an_application_forked_does_not_hold_the_lock_when_it_is_released_everywhere(
    tmp_path: Path,
) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    child = subprocess.Popen(program, stdin=subprocess.PIPE, pass_fds=(lock.fileno(),))
    lock.release(everywhere=True)
    with StateLock(tmp_path):
        pass
    child.communicate()
