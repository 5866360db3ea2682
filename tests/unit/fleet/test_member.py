import fcntl
import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from toys import embeddings

from fedagg_edge.errors import ConfigError, IdentityError
from fedagg_edge.fleet import member
from fedagg_edge.fleet.config import parse_fleet_config
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.parts import open_ledger
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import Tier
from fedagg_edge.wire.tensors import dump_embeddings

DEVICE = {
    "federation": "toy",
    "node": {"id": "device-000", "state": "state", "model": "mlp"},
    "parent": {"url": "https://127.0.0.1:1", "token_file": "token"},
    "data": {"source": "folder", "options": {"path": "private"}},
}


@pytest.fixture
def config(tmp_path):
    return parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path)


def test_a_token_file_that_is_not_there(config):
    with pytest.raises(ConfigError, match=r"token: cannot be read; parent\.token_file names a file"):
        member.enrol_if_needed(config, Tier.DEVICE)


def test_a_token_that_is_none_is_refused_without_being_repeated(config, tmp_path):
    (tmp_path / "token").write_text("fedagg1.secret-secret-secret")
    with pytest.raises(IdentityError, match=r"enrolment at https://127\.0\.0\.1:1: enrolment token") as caught:
        member.enrol_if_needed(config, Tier.DEVICE)
    assert "secret-secret" not in str(caught.value)


def test_who_has_a_certificate_does_not_enrol_again(config, tmp_path):
    (tmp_path / "state" / "identity").mkdir(parents=True)
    (tmp_path / "state" / "identity" / "certificate.pem").write_text("mine")
    with pytest.raises(ConfigError, match="token: cannot be read"):  # its key is not in place yet: killed in between
        member.enrol_if_needed(config, Tier.DEVICE)
    (tmp_path / "state" / "identity" / "key.pem").write_text("mine")
    member.enrol_if_needed(config, Tier.DEVICE)


def test_a_certificate_whose_key_is_not_in_place_yet_is_finished_by_the_command(config, tmp_path, monkeypatch):
    """The node and the command were killed between the last two steps: it took itself for enrolled, and ended for want
    of a key at each start."""
    (tmp_path / "token").write_text("fedagg1.any")
    (tmp_path / "state" / "identity").mkdir(parents=True)
    (tmp_path / "state" / "identity" / "certificate.pem").write_text("mine")
    asked = []
    monkeypatch.setattr(
        member,
        "_ask",
        lambda words, *_: asked.append(words) or subprocess.CompletedProcess(words, 0, "", ""),
    )
    member.enrol_if_needed(config, Tier.DEVICE)
    assert [words[3] for words in asked] == ["enroll"]


def test_a_cloud_without_an_autoencoder(tmp_path):
    config = parse_fleet_config(
        {
            "federation": "toy",
            "node": {"id": "cloud", "state": "state", "model": "mlp"},
            "classes": 3,
            "autoencoder": {"path": "none.safetensors"},
        },
        Tier.CLOUD,
        base_dir=tmp_path,
    )
    from fedagg_edge.errors import ArtefactError
    from fedagg_edge.fleet.publish import Publisher

    ledger = open_ledger(config, Tier.CLOUD)
    with pytest.raises(ArtefactError, match=r"none\.safetensors"):
        member.publish_autoencoder(config, ledger, Publisher(config.state))
    ledger.close()


def test_another_autoencoder_has_a_higher_version_and_the_same_one_is_not_signed_again(tmp_path, monkeypatch):
    table = {
        "federation": "toy",
        "node": {"id": "cloud", "state": "state", "model": "mlp"},
        "classes": 3,
        "autoencoder": {"path": "a.safetensors"},
    }
    config = parse_fleet_config(table, Tier.CLOUD, base_dir=tmp_path)
    content, signed = [b"first"], []

    class Publisher:
        shelf = DiskShelf(tmp_path / "shelf")

        def put(self, name, data, *, version):
            signed.append((data, version))
            return self.shelf.put(name, data, b"", "m")

        def next_version(self, name):
            return len(signed)

        def sign_again(self):
            return 0

    monkeypatch.setattr(member.autoencoders, "load", lambda path, digest: None)
    monkeypatch.setattr(member.autoencoders, "dumps", lambda made: content[0])
    ledger = open_ledger(config, Tier.CLOUD)
    for now in (b"first", b"first", b"other"):
        content[0] = now
        member.publish_autoencoder(config, ledger, Publisher())
    assert signed == [(b"first", 0), (b"other", 1)]
    ledger.append("edge-0", Kind.APPEND, dump_embeddings(embeddings("device-000", 2)), key=1, by="child")
    member.publish_autoencoder(config, ledger, Publisher())
    content[0] = b"a third"  # samples are encoded once: what is here would be decoded to something else
    with pytest.raises(ConfigError, match=r"were made by [0-9a-f]{12}: name that one, or begin a new federation"):
        member.publish_autoencoder(config, ledger, Publisher())
    ledger.forget("device-000")
    member.publish_autoencoder(config, ledger, Publisher())
    ledger.close()
    assert [data for data, _ in signed] == [b"first", b"other", b"a third"]


def test_rounds_that_follow_async_turns_are_counted_anew_above_them(tmp_path, monkeypatch):
    content = b"any"
    publisher = SimpleNamespace(
        shelf=SimpleNamespace(
            find=lambda name: SimpleNamespace(digest=hashlib.sha256(content).digest()), content=lambda found: content
        ),
        sign_again=lambda: 0,
    )
    monkeypatch.setattr(member.autoencoders, "load", lambda path, digest: None)
    monkeypatch.setattr(member.autoencoders, "dumps", lambda made: content)
    told = []
    for mode in ("sync", "sync", "async", "async", "sync", "sync", "async", "sync"):
        table = {
            "federation": "toy",
            "node": {"id": "cloud", "state": "state", "model": "mlp"},
            "classes": 3,
            "autoencoder": {"path": "a.safetensors"},
            "rounds": {"mode": mode, "target": 200 if len(told) < 7 else 0},
        }
        config = parse_fleet_config(table, Tier.CLOUD, base_dir=tmp_path)
        ledger = open_ledger(config, Tier.CLOUD)
        member.publish_autoencoder(config, ledger, publisher)
        told.append((ledger.get("terms")["base"], ledger.get("terms")["target"]))
        ledger.close()
    new = 10**9
    assert told == [(0, 200), (0, 200), (0, 0), (0, 0), (new, new + 200), (new, new + 200), (new, 0), (2 * new, 0)]


def test_enrolment_is_tried_until_the_parent_answers(config, tmp_path, monkeypatch, capsys):
    (tmp_path / "token").write_text("fedagg1.any")
    codes, waits = [69, None, -9, 69, 0], []

    class Patient(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return False

    def ask(command, token, lock, stop):
        assert (token, lock > 0) == ("fedagg1.any", True)
        code = codes.pop(0)
        return None if code is None else subprocess.CompletedProcess(command, code, "", "fedagg: no answer\n")

    told = []
    monkeypatch.setattr(member, "_ask", ask)
    monkeypatch.setattr(member, "notify", lambda *lines: told.append(lines))
    member.enrol_if_needed(config, Tier.DEVICE, Patient())
    assert (codes, len(waits)) == ([], 4)
    assert capsys.readouterr().err == "fedagg: no answer\n"  # why it waits, once
    # whoever watches this process hears at each try that it lives, and is asked for more time than the next one takes
    assert told == [("WATCHDOG=1", "EXTEND_TIMEOUT_USEC=240000000")] * 5


@pytest.fixture
def command(tmp_path, monkeypatch):
    """In place of `fedagg enroll` one that does what `does` says, in shell, and leaves its process's id."""

    def make(does):
        script = tmp_path / "command"
        script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/part\nmv {tmp_path}/part {tmp_path}/pid\n{does}\n")
        script.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(script))
        (tmp_path / "token").write_text("fedagg1.any")
        return tmp_path / "pid"

    return make


def stop_enrolling(config, ready):
    """Stop a node that enrols once `ready` says so; what ended it."""
    stop, ends = threading.Event(), []

    def enrol():
        with pytest.raises(member.Stopped) as caught:
            member.enrol_if_needed(config, Tier.DEVICE, stop)
        ends.append(caught.type)

    thread = threading.Thread(target=enrol)
    thread.start()
    while not ready():
        time.sleep(0.01)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    return ends


def test_a_node_that_waits_for_its_parent_to_enrol_it_stops(config, command):
    pid = command("echo no answer >&2; exit 69")
    assert stop_enrolling(config, pid.exists) == [member.Stopped]


def test_an_enrolment_under_way_ends_with_the_node(config, command):
    """And nothing is left that would hold the lock, so that the next one enrols."""
    pid = command("exec sleep 600")
    assert stop_enrolling(config, pid.exists) == [member.Stopped]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    command("cat > /dev/null")
    member.enrol_if_needed(config, Tier.DEVICE)


def test_a_command_that_takes_too_long_is_killed_and_asked_again(config, command, monkeypatch, tmp_path):
    monkeypatch.setattr(member, "_TRY", 0.3)
    done = tmp_path / "done"
    command(f"test -e {done} && exit 0; touch {done}; exec sleep 600")
    member.enrol_if_needed(config, Tier.DEVICE)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_token_goes_in_whole_and_what_the_command_says_comes_out(command, tmp_path):
    command(f"sleep 0.5; cat > {tmp_path}/got; echo out; echo err >&2; exit 3")
    done = member._ask([sys.executable, "x"], "fedagg1.any", os.open(os.devnull, os.O_RDONLY), threading.Event())
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert Path(tmp_path / "got").read_text() == "fedagg1.any\n"


def test_who_waits_for_the_other_process_to_enrol_stops(config, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("fedagg1.any")
    (tmp_path / "state").mkdir()
    told = []
    monkeypatch.setattr(member, "notify", lambda *lines: told.append(lines))
    with (tmp_path / "state" / "enrolment.lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert stop_enrolling(config, lambda: told) == [member.Stopped]


def test_who_waits_for_the_other_process_to_enrol_says_that_it_lives(config, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("fedagg1.any")
    (tmp_path / "state").mkdir()
    told = []

    def enrolled(*lines):
        told.append(lines)
        (tmp_path / "state" / "identity").mkdir()
        for name in ("certificate.pem", "key.pem"):
            (tmp_path / "state" / "identity" / name).write_text("mine")
        other.close()

    monkeypatch.setattr(member, "notify", enrolled)
    with (tmp_path / "state" / "enrolment.lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        member.enrol_if_needed(config, Tier.DEVICE)
    assert [lines[0] for lines in told] == ["WATCHDOG=1"]


@pytest.mark.parametrize("patience", [5.0, None])
def test_the_links_thread_has_the_time_that_was_said_to_end(config, monkeypatch, patience):
    """It writes the ledger: an agent's state folder is free only after it."""
    stops = []

    class Link:
        def __init__(self, *words, clocks):
            self.start = lambda: None

        def stop(self, seconds):
            stops.append(seconds)

    def stopped(loop):
        raise member.Stopped

    monkeypatch.setattr(member, "ParentLink", Link)
    monkeypatch.setattr(member, "enrol_if_needed", lambda *words: None)
    monkeypatch.setattr(member.NodeLoop, "run", stopped)
    member.run_member(config, Tier.DEVICE, Log(io.StringIO()), threading.Event(), patience=patience)
    assert stops == [patience]


def test_a_device_lets_samples_go_by_the_time_that_its_parent_tells(config, monkeypatch):
    """By its own clock alone a battery that is empty would erase them all."""
    there = {}

    class Link:
        def __init__(self, *words, clocks):
            self.start = lambda: None
            self.stop = lambda seconds: None
            there["heard"] = clocks

    def stopped(loop):
        there["asked"] = loop.before_turn.__self__._clocks
        raise member.Stopped

    monkeypatch.setattr(member, "ParentLink", Link)
    monkeypatch.setattr(member, "enrol_if_needed", lambda *words: None)
    monkeypatch.setattr(member.NodeLoop, "run", stopped)
    member.run_member(config, Tier.DEVICE, Log(io.StringIO()), threading.Event())
    assert there["heard"] is there["asked"]
