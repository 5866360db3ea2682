import errno
import io
import os
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from toys import SHAPE, IdentityBridge

from fedagg_edge.errors import LearnerError, StateInUse, StorageFull
from fedagg_edge.fleet import agent as agents
from fedagg_edge.fleet import parts
from fedagg_edge.fleet.agent import Agent, Intake, open_predictor
from fedagg_edge.fleet.clocks import Clocks
from fedagg_edge.fleet.config import parse_fleet_config
from fedagg_edge.fleet.keys import PARCELS
from fedagg_edge.fleet.logs import Log
from fedagg_edge.ledger import private
from fedagg_edge.ledger.log import Kind
from fedagg_edge.lock import StateLock
from fedagg_edge.records import Tier

DEVICE = {
    "federation": "toy",
    "node": {"id": "device-000", "state": "state", "model": "mlp"},
    "parent": {"url": "https://127.0.0.1:1"},
    "data": {"source": "folder", "options": {"path": "private"}},
    "poll": 0.001,
}


@pytest.fixture
def made(tmp_path):
    """(folder of private data, function that makes an intake with changes to the configuration, its log)."""
    folder, out, open_ = tmp_path / "private", io.StringIO(), []
    folder.mkdir()

    def make(clocks=None, **changes):
        config = parse_fleet_config({**DEVICE, **changes}, Tier.DEVICE, base_dir=tmp_path)
        ledger = parts.open_ledger(config, Tier.DEVICE)
        ledger.put("terms", {"classes": 3, "parent": "edge-0"})
        open_.append(ledger)
        return Intake(config, ledger, Log(out), clocks or Clocks()), ledger

    yield folder, make, out
    for ledger in open_:
        ledger.close()


def put(folder, name, labels, value=0.5):
    np.savez(folder / f"{name}.npz", x=np.full((len(labels), *SHAPE), value, np.float32), y=np.array(labels))


def look(intake):
    time.sleep(0.002)
    intake.look(IdentityBridge())


def test_new_samples_are_encoded_and_put_into_the_outbox_each_once(made):
    folder, make, _ = made
    intake, ledger = make()
    put(folder, "a", [0, 1, 2])
    look(intake)
    look(intake)
    put(folder, "b", [1])
    look(intake)
    assert [b.rows for b in ledger.pending()] == [3, 1]
    samples = intake.samples(IdentityBridge())
    assert samples.y_N.tolist() == [0, 1, 2, 1]
    assert samples.samples.counters[0].tolist() == [0, 1, 2, 3]


def test_an_agent_that_was_killed_takes_nothing_twice(made):
    folder, make, _ = made
    put(folder, "a", [0, 1])
    intake, _ = make()
    look(intake)
    again, ledger = make()
    look(again)
    assert [b.rows for b in ledger.pending()] == [2]
    assert len(again.samples(IdentityBridge())) == 2


def test_labels_that_the_federation_does_not_have_are_refused_and_logged_without_content(made):
    folder, make, out = made
    intake, ledger = make()
    put(folder, "a", [0, 7], value=0.125)
    put(folder, "b", [1])
    look(intake)
    assert [b.rows for b in ledger.pending()] == [1]
    assert "parcel_refused" in out.getvalue()
    assert "0.125" not in out.getvalue()
    assert not private.is_taken(ledger.db, "a.npz")


def test_refused_parcels_are_told_once_and_counted(made):
    folder, make, out = made
    intake, ledger = make()
    put(folder, "a", [0, 7])  # no class of the federation
    (folder / "b.npz").write_bytes(b"damaged")
    for _ in range(3):
        look(intake)
    assert ledger.get(PARCELS) == {"now": 2, "total": 2}
    assert out.getvalue().count("parcel_refused") == 2
    put(folder, "a", [0, 2])
    look(intake)
    assert ledger.get(PARCELS) == {"now": 1, "total": 2}
    put(folder, "c", [9])
    look(intake)
    assert ledger.get(PARCELS) == {"now": 2, "total": 3}
    assert out.getvalue().count("parcel_refused") == 3


def test_a_look_that_a_full_outbox_ends_forgets_no_refusal(made):
    folder, make, out = made
    intake, ledger = make(outbox={"megabytes": 0.0004})
    put(folder, "a", [0])
    put(folder, "c", [7])
    look(intake)
    put(folder, "b", [0] * 40)
    for _ in range(3):
        look(intake)
    assert "outbox_full" in out.getvalue()
    assert ledger.get(PARCELS) == {"now": 1, "total": 1}


def test_a_full_outbox_refuses_new_samples_and_takes_them_later(made):
    folder, make, out = made
    intake, ledger = make(outbox={"megabytes": 0.0001})
    put(folder, "a", [0])
    put(folder, "b", [1] * 60)
    look(intake)
    assert "outbox_full" in out.getvalue()
    assert [b.rows for b in ledger.pending()] == [1]
    assert len(intake.samples(IdentityBridge())) == 1


def test_retention_lets_the_oldest_go_and_tells_the_ancestors(made):
    folder, make, _ = made
    intake, _ = make(retention={"samples": 2})
    put(folder, "a", [0, 1, 2])
    look(intake)
    assert intake.samples(IdentityBridge()).samples.counters[0].tolist() == [1, 2]
    put(folder, "b", [1])
    look(intake)
    assert intake.samples(IdentityBridge()).y_N.tolist() == [2, 1]


class Hands:
    """A device's clocks; `own` is what a battery, the network or a person sets, `ran` is what no setting moves."""

    def __init__(self, own=1.8e9):
        self.own, self.ran = own, 100.0

    def restart(self):
        """What a new process of the device looks at."""
        return Clocks(lambda: self.own, lambda: self.ran)

    def days_pass(self, days):
        self.own += days * 86_400.0
        self.ran += days * 86_400.0


def ages(ledger, now):
    """How old each sample is, in days, by what is kept of it."""
    return [round((now - at) / 86_400.0, 3) for (at,) in ledger.db.all("SELECT at FROM samples ORDER BY counter")]


def counters(intake):
    intake._cached = None
    found = intake.samples(IdentityBridge())
    return [] if found is None else found.samples.counters[0].tolist()


def test_a_clock_that_jumps_ahead_lets_nothing_go(made):
    """Five samples were erased at every ancestor, for a clock that was 40 days ahead for a moment."""
    folder, make, out = made
    hands = Hands()
    clocks = hands.restart()
    intake, ledger = make(clocks, retention={"days": 30})
    put(folder, "a", [0, 1, 2])
    look(intake)
    clocks.heard(1.8e9)
    put(folder, "b", [1, 1])
    look(intake)
    for jump in (40.0, 4000.0, -4040.0, -30_000.0):
        hands.own += jump * 86_400.0
        for _ in range(3):
            look(intake)
        assert counters(intake) == [0, 1, 2, 3, 4]
    assert {b.kind for b in ledger.pending()} == {Kind.APPEND}
    assert "samples_retired" not in out.getvalue()


def test_a_device_that_starts_with_a_wrong_clock_lets_nothing_go_before_it_hears_the_time_or_after(made):
    folder, make, _ = made
    hands = Hands()
    clocks = hands.restart()
    clocks.heard(hands.own)
    intake, _ = make(clocks, retention={"days": 30})
    put(folder, "a", [0, 1, 2])
    look(intake)
    hands.own += 40 * 86_400.0  # the battery is empty
    clocks = hands.restart()
    intake, _ = make(clocks, retention={"days": 30})
    put(folder, "b", [1])
    look(intake)
    assert counters(intake) == [0, 1, 2, 3]
    clocks.heard(1.8e9 + 86_400.0)
    look(intake)
    assert counters(intake) == [0, 1, 2, 3]
    hands.own = 1.8e9 + 86_400.0  # by the network
    look(intake)
    hands.days_pass(29.5)
    look(intake)
    assert counters(intake) == [3]
    hands.days_pass(1.0)
    look(intake)
    assert counters(intake) == []


def test_a_parent_whose_clock_is_ahead_or_that_lies_has_nothing_let_go(made):
    folder, make, out = made
    hands = Hands()
    clocks = hands.restart()
    intake, ledger = make(clocks, retention={"days": 30})
    clocks.heard(hands.own)
    put(folder, "a", [0, 1])
    look(intake)
    clocks.heard(hands.own + 40 * 86_400.0)
    put(folder, "b", [2])
    for _ in range(3):
        look(intake)
    assert counters(intake) == [0, 1, 2]
    assert out.getvalue().count("clocks_differ") == 1
    assert "seconds=3456000" in out.getvalue()
    clocks.heard(hands.own)
    look(intake)
    assert ages(ledger, hands.own) == [0.0, 0.0, 0.0]  # what came from the future came by now
    hands.days_pass(31)
    look(intake)
    assert counters(intake) == []
    clocks.heard(hands.own - 40 * 86_400.0)
    look(intake)
    assert out.getvalue().count("clocks_differ") == 2


def test_a_device_without_its_parent_keeps_what_it_has_until_it_hears_the_time(made):
    folder, make, _ = made
    hands = Hands()
    clocks = hands.restart()
    clocks.heard(hands.own)
    intake, _ = make(clocks, retention={"days": 30})
    put(folder, "a", [0, 1])
    look(intake)
    hands.days_pass(20)
    clocks = hands.restart()
    intake, ledger = make(clocks, retention={"days": 30})
    put(folder, "b", [2])
    look(intake)
    hands.days_pass(20)
    look(intake)
    assert counters(intake) == [0, 1, 2]
    clocks.heard(hands.own)
    look(intake)
    assert counters(intake) == [2]
    assert ages(ledger, hands.own) == [0.0]  # its own clock alone says when it came: it counts from now
    hands.days_pass(31)  # within one process the time goes on, whether or not the parent is there
    look(intake)
    assert counters(intake) == []


def test_a_board_whose_clock_is_never_set_lets_go_by_its_parents_time(made):
    folder, make, _ = made
    hands = Hands(own=5.0)
    clocks = hands.restart()
    intake, ledger = make(clocks, retention={"days": 30})
    put(folder, "a", [0, 1])
    look(intake)
    clocks.heard(1.8e9)
    look(intake)
    assert ages(ledger, 1.8e9) == [0.0, 0.0]
    hands.days_pass(20)
    put(folder, "b", [2])
    look(intake)
    hands.days_pass(11)
    look(intake)
    assert counters(intake) == [2]


def test_what_retention_lets_go_and_what_the_ancestors_forget_is_one_commit(made, monkeypatch):
    folder, make, _ = made
    intake, ledger = make(retention={"samples": 2})
    put(folder, "a", [0, 1, 2])

    def no_room(samples):
        raise StorageFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "retire_rows", no_room)
        with pytest.raises(StorageFull):
            look(intake)
    assert len(private.load(ledger.db, SHAPE).y_N) == 3  # not let go here alone
    look(intake)
    assert private.load(ledger.db, SHAPE).counter_N.tolist() == [1, 2]
    assert [(b.kind, b.rows) for b in ledger.pending()] == [(Kind.APPEND, 2), (Kind.FORGET, 1)]


def test_predicting_before_the_parent_was_met(tmp_path):
    config = parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path)
    parts.open_ledger(config, Tier.DEVICE).close()
    with pytest.raises(LearnerError, match="not connected to its parent yet"):
        open_predictor(config)
    with pytest.raises(LearnerError, match="start the agent"):
        Agent(config).predict(np.zeros((1, *SHAPE), np.float32))


def test_predicting_before_there_is_a_ledger(tmp_path):
    """An application asks while its agent starts; it made the state folder, and got StorageError."""
    config = parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path)
    with pytest.raises(LearnerError, match="not connected to its parent yet"):
        Agent(config).predict(np.zeros((1, *SHAPE), np.float32))
    assert not config.state.exists()
    config.state.mkdir()
    (config.state / "ledger.sqlite").touch()  # its owner has begun to make it
    with pytest.raises(LearnerError, match="start the agent and wait for a round"):
        Agent(config).predict(np.zeros((1, *SHAPE), np.float32))


def test_an_agent_owns_its_state_folder_while_its_thread_runs(tmp_path, monkeypatch):
    """Beside `fedagg device`, or a second agent, two loops would write one ledger and one set of weights."""
    config = parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path)
    begun, end = threading.Event(), threading.Event()

    def member(config, tier, log, stop, *, patience):
        assert patience is None  # nor does the link's thread write any more once it is free
        begun.set()
        stop.wait(60)
        assert end.wait(60)  # the batch under way

    monkeypatch.setattr(agents, "run_member", member)
    with StateLock(config.state), pytest.raises(StateInUse, match=f"process {os.getpid()} owns it"):
        Agent(config).start()
    first = Agent(config)
    first.start()
    assert begun.wait(60)
    first.stop(0.0)
    with pytest.raises(StateInUse, match=f"process {os.getpid()} owns it"):  # it still writes
        Agent(config).start()
    end.set()
    first.stop()
    second = Agent(config)
    second.start()
    second.stop()
    with pytest.raises(RuntimeError, match="threads can only be started once"):
        second.start()
    with StateLock(config.state):
        pass
    assert (first.error, second.error) == (None, None)


@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "nobody answers"])
def test_an_agent_whose_parent_does_not_enrol_it_stops(tmp_path, answers):
    """Its thread went on asking for ever, and owned the state folder meanwhile."""
    (tmp_path / "token").write_text("fedagg1.AAECAwQFBgc." + "A" * 43 + "." + "B" * 42 + "A")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1] if answers else 1}"
        config = parse_fleet_config(
            {**DEVICE, "parent": {"url": url, "token_file": "token"}}, Tier.DEVICE, base_dir=tmp_path
        )
        agent = Agent(config)
        agent.start()
        if answers:
            server.settimeout(60)
            connection, _ = server.accept()  # by the process that enrols, which waits for more
        while not (config.state / "enrolment.lock").exists():
            time.sleep(0.01)
        agent.stop(120)
        assert not agent._thread.is_alive()
        assert agent.error is None
        if answers:
            connection.close()
    again = Agent(config)
    again.start()
    again.stop(120)
    assert (again._thread.is_alive(), again.error) == (False, None)


def test_an_agent_whose_disk_is_full_keeps_what_it_has_and_goes_on_once_there_is_room(tmp_path, monkeypatch):
    """Nobody else starts it again, as a unit does with `fedagg device`: its thread ended for good."""
    config = parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path)
    (tmp_path / "private").mkdir()
    put(tmp_path / "private", "a", [0, 1])
    room, kept, out = threading.Event(), [], io.StringIO()

    def member(config, tier, log, stop, *, patience):
        """What takes samples in on a disk that has room for some pages more, or for all."""
        ledger = parts.open_ledger(config, tier)
        try:
            ledger.put("terms", {"classes": 3, "parent": "edge-0"})
            if not room.is_set():
                ledger.db.execute(f"PRAGMA max_page_count={ledger.db.one('PRAGMA page_count')[0] + 8}")
            intake = Intake(config, ledger, log, Clocks())
            if not kept:
                look(intake)
                put(tmp_path / "private", "b", [0, 1, 2] * 400)
            kept.append(len(intake.samples(IdentityBridge())))
            look(intake)
            kept.append(len(intake.samples(IdentityBridge())))
            stop.wait(60)
        finally:
            ledger.close()

    monkeypatch.setattr(agents, "run_member", member)
    monkeypatch.setattr(agents, "_FIRST", 0.05)
    monkeypatch.setattr(parts, "make_log", lambda *_: Log(out))
    agent = Agent(config)
    agent.start()
    deadline = time.monotonic() + 60
    while out.getvalue().count("agent_waits") < 3:  # as often as it is tried
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while (waits_for := agent.waits_for) is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert isinstance(waits_for, StorageFull)
    assert (set(kept), agent.error) == ({2}, None)
    with pytest.raises(StateInUse):  # it waits, and owns the state folder
        Agent(config).start()
    room.set()
    while 1202 not in kept:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (agent.waits_for, agent.error) == (None, None)
    agent.stop()
    assert (agent._thread.is_alive(), agent.error) == (False, None)
    lines = [line for line in out.getvalue().splitlines() if "agent_waits" in line]
    assert len(lines) >= 3
    assert all("error=StorageFull" in line for line in lines)


@pytest.mark.parametrize("error", [StorageFull("no room"), OSError(errno.ENOSPC, "no room")])
def test_an_agent_that_waits_for_room_stops(tmp_path, monkeypatch, error):
    def member(*_, **__):
        raise error

    monkeypatch.setattr(agents, "run_member", member)
    monkeypatch.setattr(agents, "Backoff", lambda **_: SimpleNamespace(next=lambda: 600.0, lasted=lambda seconds: None))
    agent = Agent(parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path))
    agent.start()
    deadline = time.monotonic() + 60
    while agent.waits_for is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    agent.stop()
    assert (agent._thread.is_alive(), agent.error, agent.waits_for) == (False, None, None)


def test_what_ends_an_agents_thread_is_kept(tmp_path):
    agent = Agent(parse_fleet_config(DEVICE, Tier.DEVICE, base_dir=tmp_path))
    agent.start()
    agent._thread.join(20)
    agent.stop()
    assert "this node has no certificate" in str(agent.error)
