import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from fedagg_edge.cli import node
from fedagg_edge.cli.main import main, make_parser
from fedagg_edge.fleet.exits import PERMANENT, Exit
from fedagg_edge.lock import StateLock


@pytest.mark.parametrize("verb", ["device", "edge", "cloud"])
def test_a_node_needs_a_configuration(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb])
    assert caught.value.code == Exit.USAGE
    assert Exit.USAGE in PERMANENT  # a unit with a typing error is not started again for ever
    assert "--config" in capsys.readouterr().err
    assert make_parser().parse_args([verb, "--config", "x.toml"]).tier.value == verb


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert main(["device", "--config", str(tmp_path / "no.toml")]) == Exit.CONFIG
    assert "no.toml: cannot read the configuration" in capsys.readouterr().err


DEVICE = """
federation = "f"
[node]
id = "d"
state = "state"
model = "mlp"
[parent]
url = "https://127.0.0.1:1"
[data]
source = "folder"
options = { path = "private" }
"""


def test_a_device_without_identity_ends_with_its_own_code(capsys, tmp_path):
    path = tmp_path / "device.toml"
    path.write_text(DEVICE)
    assert main(["device", "--config", str(path)]) == Exit.IDENTITY
    assert "run `fedagg enroll`" in capsys.readouterr().err


def opened_once_it_reads(path, node):
    for _ in range(3000):
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.02)
    raise AssertionError("it does not read its configuration")


@pytest.mark.parametrize("verb", ["device", "edge"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_before_its_processes_are_there_is_a_clean_one(tmp_path, verb, number):
    """systemd counts any other code as a failure of the unit."""
    path = tmp_path / "config.toml"
    os.mkfifo(path)  # reading it waits for whoever writes
    node = subprocess.Popen([sys.executable, "-m", "fedagg_edge", verb, "--config", str(path)], stderr=subprocess.PIPE)
    try:
        writer = opened_once_it_reads(path, node)
        node.send_signal(number)
        os.close(writer)  # so that a read that began just after the signal came ends, too
        _, said = node.communicate(timeout=60)
    finally:
        node.kill()
        node.communicate()
    assert (node.returncode, said) == (Exit.DONE, b"")


def test_two_processes_cannot_own_one_state_folder(capsys, tmp_path):
    path = tmp_path / "device.toml"
    path.write_text(DEVICE)
    (tmp_path / "state").mkdir()
    with StateLock(tmp_path / "state"):
        assert main(["device", "--config", str(path)]) == Exit.IN_USE
    assert "state" in capsys.readouterr().err


def test_a_disk_that_fails_before_the_processes_start_may_pass(capsys, tmp_path, monkeypatch):
    path = tmp_path / "device.toml"
    path.write_text(DEVICE)

    def full(*words, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "state")

    monkeypatch.setattr("pathlib.Path.mkdir", full)
    assert main(["device", "--config", str(path)]) == Exit.STORAGE
    assert "No space left" in capsys.readouterr().err


def test_both_processes_of_an_edge_are_watched(tmp_path, monkeypatch):
    path = tmp_path / "edge.toml"
    path.write_text(DEVICE.partition("[data]")[0])
    seen = []
    monkeypatch.setattr("fedagg_edge.fleet.supervisor.supervise", lambda folder, specs, log: seen.extend(specs) or 0)
    assert main(["edge", "--config", str(path)]) == 0
    assert {spec.name: spec.silence for spec in seen} == {"gateway": node.SILENCE, "node_loop": node.LOOP_SILENCE}
