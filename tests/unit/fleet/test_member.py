import fcntl
import io
import subprocess
import threading

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
        subprocess,
        "run",
        lambda words, **_: asked.append(words) or subprocess.CompletedProcess(words, 0, "", ""),
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


def test_enrolment_is_tried_until_the_parent_answers(config, tmp_path, monkeypatch, capsys):
    (tmp_path / "token").write_text("fedagg1.any")
    codes, waits = [69, None, -9, 69, 0], []

    def run(command, **options):
        assert options["pass_fds"]
        if codes[0] is None:
            codes.pop(0)
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return subprocess.CompletedProcess(command, codes.pop(0), "", "fedagg: no answer\n")

    told = []
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(member.time, "sleep", waits.append)
    monkeypatch.setattr(member, "notify", lambda *lines: told.append(lines))
    member.enrol_if_needed(config, Tier.DEVICE)
    assert (codes, len(waits)) == ([], 4)
    assert capsys.readouterr().err == "fedagg: no answer\n"  # why it waits, once
    # whoever watches this process hears at each try that it lives, and is asked for more time than the next one takes
    assert told == [("WATCHDOG=1", "EXTEND_TIMEOUT_USEC=240000000")] * 5


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
        def __init__(self, *words):
            self.start = lambda: None

        def stop(self, seconds):
            stops.append(seconds)

    def stopped(loop):
        raise member.Stopped

    monkeypatch.setattr(member, "ParentLink", Link)
    monkeypatch.setattr(member, "enrol_if_needed", lambda config, tier: None)
    monkeypatch.setattr(member.NodeLoop, "run", stopped)
    member.run_member(config, Tier.DEVICE, Log(io.StringIO()), threading.Event(), patience=patience)
    assert stops == [patience]
