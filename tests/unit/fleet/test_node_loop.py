"""The loop by itself, without a parent; with one it runs in test_up.py."""

import io
import json
import threading
import time
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from toys import embeddings

from fedagg_edge.autoencoder import artefact as autoencoders
from fedagg_edge.errors import LearnerError, StorageError
from fedagg_edge.fleet import parts, weights
from fedagg_edge.fleet.config import RoundsConfig, parse_fleet_config
from fedagg_edge.fleet.keys import CERTIFICATE
from fedagg_edge.fleet.logs import Log
from fedagg_edge.fleet.metrics import Registry
from fedagg_edge.fleet.node_loop import NodeLoop, ParentChanged, Stopped
from fedagg_edge.fleet.round_metrics import metrics_file
from fedagg_edge.fleet.rounds import RoundReport
from fedagg_edge.fleet.shelf import DiskShelf
from fedagg_edge.fleet.turns import next_turn
from fedagg_edge.identity import revocation
from fedagg_edge.identity.renewal import SKEW
from fedagg_edge.learners.base import Entry, LearnerState
from fedagg_edge.ledger.log import Kind
from fedagg_edge.records import Link, NodeId, Tier
from fedagg_edge.wire.tensors import dump_embeddings
from fedagg_edge.wire.terms import CHILD, PRESENT

EDGE = NodeId("edge-0")


@pytest.fixture(scope="module")
def autoencoder():
    from fedagg_edge.autoencoder.train import train

    x_N = np.random.default_rng(0).random((64, 1, 8, 8)).astype(np.float32)
    return train(x_N, input_low=0.0, input_high=1.0, epochs=1, seed=0, trained_on="noise", embedding_channels=1)


@pytest.fixture
def cloud(tmp_path, autoencoder):
    """A cloud's loop whose one child has sent samples; the child never answers."""
    config = parse_fleet_config(
        {
            "federation": "toy",
            "node": {"id": "cloud", "state": "state", "model": "mlp"},
            "classes": 3,
            "autoencoder": {"path": "autoencoder.safetensors"},
            "rounds": {"deadline": 0.2, "quorum": 0.01, "target": 2},
        },
        Tier.CLOUD,
        base_dir=tmp_path,
    )
    content = autoencoders.dumps(autoencoder)
    DiskShelf(config.state / "artefacts").put("autoencoder", content, b"", "m")
    ledger = parts.open_ledger(config, Tier.CLOUD)
    ledger.put("terms", {"parent": None, "classes": 3, "mode": "sync", "target": 2, "autoencoder": None})
    ledger.enrol(EDGE, Tier.EDGE, "1")
    rows = embeddings("device-000", 12)
    code = np.zeros((12, autoencoder.embedding_bytes), np.uint8)
    rows = type(rows)(rows.samples, code, rows.label_N)
    ledger.append(EDGE, Kind.APPEND, dump_embeddings(rows), key=1, by="child")
    loop = NodeLoop(config, Tier.CLOUD, ledger, Log(io.StringIO()))
    yield loop
    ledger.close()


def test_a_child_counts_once_it_has_begun_to_exchange(cloud):
    assert cloud._children() == ()
    cloud.ledger.put(PRESENT + EDGE, True)
    assert cloud._children() == (EDGE,)


def test_what_a_turn_left_is_given_back_once_it_waits_and_now_and_then(cloud, monkeypatch):
    now, settled = [100.0], []
    monkeypatch.setattr("fedagg_edge.fleet.node_loop.time.monotonic", lambda: now[0])
    cloud._settle()  # there is nothing to call
    cloud.settle = lambda: settled.append(now[0])
    for now[0] in (100.0, 101.0, 109.0, 110.0, 115.0):
        cloud._settle()
    cloud._settled = -float("inf")  # a turn ended
    cloud._settle()
    assert settled == [100.0, 110.0, 115.0]


def test_what_loading_the_engine_left_is_given_back_before_the_turn(cloud, monkeypatch):
    """However short ago that was done last; what the turn itself uses is not counted among it."""
    done = []

    def run(conductor, version):
        done.append(version)
        raise Stopped

    monkeypatch.setattr("fedagg_edge.fleet.node_loop.Conductor.run", run)
    cloud.ledger.put(PRESENT + EDGE, True)
    cloud.settle, cloud._settled = lambda: done.append("given back"), time.monotonic()
    with pytest.raises(Stopped):
        cloud.run()
    assert done == ["given back", 0]


def test_a_child_that_left_does_not_count_until_it_says_hello_again(cloud):
    cloud.ledger.put(PRESENT + EDGE, True)
    said = {"software": "s", "formats": ["f32"], "labels": "all"}
    for left, found in ((None, (EDGE,)), (5.0, ()), (None, (EDGE,))):
        cloud.ledger.put(CHILD + EDGE, {**said, "left": left})
        assert (cloud._children(), cloud._is_here(EDGE)) == (found, bool(found))


def test_a_child_that_is_revoked_does_not_count_until_it_is_enrolled_again(cloud):
    """Its gateway refuses it: nobody must wait for an answer that it cannot give."""
    place = cloud.config.state / "identity"
    place.mkdir(parents=True)
    cloud.ledger.put(PRESENT + EDGE, True)
    revocation.update(place, lambda known: revocation.revoke(known, 5.0, node=EDGE))
    assert cloud._children() == (EDGE,)  # it was enrolled after that
    mark = cloud._mark()
    revocation.update(place, lambda known: revocation.revoke(known, time.time(), node=EDGE))
    assert cloud._mark() != mark  # so a wait ends
    assert cloud._children() == ()
    cloud.ledger.enrol(EDGE, Tier.EDGE, "2")
    assert cloud._children() == (EDGE,)
    revocation.update(place, lambda known: revocation.revoke(known, time.time(), serial="2"))
    assert not cloud._is_here(EDGE)


def test_a_certificate_made_before_the_list_came_is_refused_as_the_gateway_does(cloud):
    """It renewed between its revocation and the list's arrival: what counts is when the certificate was made."""
    place = cloud.config.state / "identity"
    place.mkdir(parents=True)
    cloud.ledger.put(PRESENT + EDGE, True)
    said = {"node": EDGE, "role": "edge", "federation": "toy", "serial": "1", "not_before": 10.0, "not_after": 1e9}
    cloud.ledger.put(CERTIFICATE + EDGE, {**said, "issuer": {"kind": "root", "node": "toy", "serial": "f"}})
    assert cloud._children() == (EDGE,)
    revocation.update(place, lambda known: revocation.revoke(known, 10.0 + SKEW, node=EDGE))
    assert cloud._children() == ()  # although it was first seen here later


def test_a_revocation_list_that_is_damaged_from_the_start_refuses_nobody(cloud):
    place = cloud.config.state / "identity"
    place.mkdir(parents=True)
    (place / "revoked.json").write_bytes(b"{")
    cloud._revoked._value = None  # as at a start with the damaged file
    cloud.ledger.put(PRESENT + EDGE, True)
    assert cloud._children() == (EDGE,)
    assert cloud._mark() == cloud._mark()


def test_a_revocation_list_that_is_damaged_from_the_start_is_not_read_at_each_look(cloud, monkeypatch):
    place = cloud.config.state / "identity"
    place.mkdir(parents=True)
    (place / "revoked.json").write_bytes(b"{")
    now, reads, load = [time.monotonic()], [], revocation.load
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(revocation, "load", lambda place: reads.append(place) or load(place))
    cloud._revoked._value = None  # as at a start with the damaged file
    for _ in range(50):
        cloud._revocations()
    assert len(reads) == 1
    revocation.save(place, revocation.revoke(revocation.Revocations(), 5.0, node=EDGE))
    now[0] += 16.0
    assert set(cloud._revocations().nodes) == {EDGE}  # mended


def test_a_round_goes_on_without_a_child_that_goes_meanwhile(cloud, monkeypatch):
    """The loop's own conductor asks at each look whether a child is still to be waited for."""
    cloud.ledger.put(PRESENT + EDGE, True)
    looks = []

    def wait(seconds):  # the child goes while it is waited for; a second look means that it still is
        if looks:
            raise Stopped
        looks.append(seconds)
        cloud.ledger.put(CHILD + EDGE, {"left": 5.0})

    made = []

    def turn(loop, node, conductor, done):
        node.place = loop._place(loop._children())
        conductor.wait = wait
        made.append(conductor.run(0))
        raise Stopped

    cloud.config = msgspec.structs.replace(
        cloud.config, rounds=msgspec.structs.replace(cloud.config.rounds, quorum=1.0, deadline=600.0)
    )
    monkeypatch.setattr(NodeLoop, "_turn", turn)
    with pytest.raises(Stopped):
        cloud.run()
    assert ([report.silent for report in made], len(looks)) == ([[]], 1)


def test_it_publishes_and_stops_in_the_middle_of_a_wait(cloud):
    cloud.ledger.put(PRESENT + EDGE, True)
    link = Link(EDGE, NodeId("cloud"))
    threading.Timer(20.0, cloud.stop.set).start()

    def stop_when_published():
        other = parts.open_ledger(cloud.config, Tier.CLOUD)
        while other.newest(link, NodeId("cloud")) is None and not cloud.stop.is_set():
            time.sleep(0.02)
        other.close()
        cloud.stop.set()

    threading.Thread(target=stop_when_published).start()
    with pytest.raises(Stopped):
        cloud.run()
    assert cloud.ledger.newest(link, NodeId("cloud")).knowledge.version == 0
    assert weights.newest_version(cloud.checkpoints) is None  # the round was not finished


def test_waiting_ends_when_somebody_commits(cloud):
    other = parts.open_ledger(cloud.config, Tier.CLOUD)
    threading.Timer(0.2, lambda: None).start()
    began = time.monotonic()

    def commit():
        mine = parts.open_ledger(cloud.config, Tier.CLOUD)
        mine.put("news", 1)
        mine.close()

    threading.Timer(0.1, commit).start()
    cloud.wait(30.0)
    assert time.monotonic() - began < 25
    other.close()
    cloud.wake()
    cloud.wait(30.0)
    cloud.stop.set()
    with pytest.raises(Stopped):
        cloud.wait(30.0)


def test_what_was_committed_between_the_looks_and_the_wait_ends_the_wait(cloud):
    """The conductor has looked before it; a wait without end, or until the deadline, would follow."""
    place = cloud.config.state / "identity"
    place.mkdir(parents=True)
    cloud.wait(0.0)
    for change in (commit_elsewhere, revoke_elsewhere):
        change(cloud.config, place)
        began = time.monotonic()
        cloud.wait(30.0)
        assert time.monotonic() - began < 10.0
    began = time.monotonic()
    cloud.wait(0.2)
    assert time.monotonic() - began >= 0.2  # nothing new since


def commit_elsewhere(config, place):
    other = parts.open_ledger(config, Tier.CLOUD)
    other.put("news", 2)
    other.close()


def revoke_elsewhere(config, place):
    revocation.update(place, lambda known: revocation.revoke(known, 5.0, node=EDGE))


def test_the_target_ends_the_training_and_its_children_will_hear(cloud):
    assert [cloud._is_over(version, passes=0.0) for version in range(3)] == [False, True, True]
    cloud._follow_up(None, {"version": 0, "finished": False})
    assert cloud.ledger.get("finished") is None
    cloud._follow_up(None, {"version": 1, "finished": True})
    assert cloud.ledger.get("finished") is True


@pytest.fixture
def edge(tmp_path, autoencoder):
    """An edge's loop below a parent that is only what its ledger says."""
    config = parse_fleet_config(
        {
            "federation": "toy",
            "node": {"id": "edge-0", "state": "state", "model": "mlp"},
            "parent": {"url": "https://127.0.0.1:1"},
        },
        Tier.EDGE,
        base_dir=tmp_path,
    )
    DiskShelf(config.state / "artefacts").put("autoencoder", autoencoders.dumps(autoencoder), b"", "m")
    ledger = parts.open_ledger(config, Tier.EDGE)
    ledger.put("terms", TERMS)
    yield NodeLoop(config, Tier.EDGE, ledger, Log(io.StringIO()))
    ledger.close()


TERMS = {"parent": "a", "classes": 3, "mode": "sync", "target": 0, "autoencoder": None}


def test_a_devices_parent_decides_how_its_rounds_go(tmp_path):
    config = parse_fleet_config(
        {
            "federation": "toy",
            "node": {"id": "d", "state": "state", "model": "mlp"},
            "parent": {"url": "https://127.0.0.1:1"},
            "data": {"source": "folder", "options": {"path": "private"}},
            "rounds": {"mode": "async", "idle": 7.0},
        },
        Tier.DEVICE,
        base_dir=tmp_path,
    )
    ledger = parts.open_ledger(config, Tier.DEVICE)
    device = NodeLoop(config, Tier.DEVICE, ledger, Log(io.StringIO()))
    for terms, mode in ((None, "async"), (TERMS, "sync"), ({**TERMS, "mode": "async"}, "async")):
        ledger.put("terms", terms)
        assert (device._rounds().mode, device._rounds().idle) == (mode, 7.0)
    ledger.close()


def test_an_edge_goes_by_its_parents_mode_as_its_gateway_tells_its_devices(edge):
    """The mode of its own file counted: it waited for devices that its gateway had told not to wait, or did not for
    those that wait for it, unless somebody had written the cloud's mode into every edge's file."""
    for mode in ("async", "sync"):
        edge.ledger.put("terms", {**TERMS, "mode": mode})
        assert edge._rounds() == msgspec.structs.replace(edge.config.rounds, mode=mode)


def test_the_cloud_decides_for_itself(cloud):
    cloud.ledger.put("terms", {**TERMS, "mode": "async"})  # of before its last start
    assert cloud._rounds() == cloud.config.rounds


def test_a_turn_that_waits_ends_when_rounds_go_another_way(edge):
    edge._parent, edge._mode = NodeId("a"), "sync"  # in the middle of a turn
    edge.wait(0.0)
    edge.ledger.put("terms", {**TERMS, "mode": "async"})
    with pytest.raises(ParentChanged):  # else it waits for a version that an async child may never reach
        edge.wait(30.0)


@pytest.mark.parametrize("said", [5, 300, 1 << 62])
def test_a_child_moves_no_parent(cloud, monkeypatch, said):
    """The highest version of any child counted at each start in sync: one device put its edge out of the federation, as
    at 2^62 no version follows."""
    seen = turns_of(cloud, monkeypatch)
    cloud.ledger.put("terms", {**TERMS, "parent": None})
    monkeypatch.setattr(type(cloud.ledger), "version", lambda self, link, node: said if node == EDGE else 4)
    for cloud._mode in (None, "async", "sync"):  # after a start, after a change, in between
        cloud._turn(SimpleNamespace(place=cloud._place(())), SimpleNamespace(), 4)
    assert [next_turn(now, RoundsConfig()) for now in seen] == [5, 5, 5]


def test_a_cloud_that_begins_to_wait_goes_on_above_all_turns(cloud, monkeypatch):
    """Also where no turn of its own has ended, and it has done as many as `target` says."""
    seen = turns_of(cloud, monkeypatch)
    cloud.ledger.put("terms", {**TERMS, "parent": None, "base": 10**9, "target": 10**9 + 2})
    for done in (-1, 4, 10**9, 10**9 + 1):
        cloud._turn(SimpleNamespace(place=cloud._place(())), SimpleNamespace(), done)
    assert [next_turn(now, RoundsConfig()) for now in seen] == [10**9, 10**9, 10**9 + 1, None]
    assert [cloud._is_over(version, passes=0.0) for version in (4, 10**9, 10**9 + 1)] == [False, False, True]


def test_a_round_that_was_cut_off_is_gone_on_with_in_async(cloud, monkeypatch):
    """What it gave its children stands: turns that count from before it would give them nothing for ever."""
    seen = turns_of(cloud, monkeypatch)
    cloud.config = msgspec.structs.replace(cloud.config, rounds=RoundsConfig(mode="async"))
    monkeypatch.setattr(type(cloud.ledger), "version", lambda self, link, node: 7 if node == EDGE else 10**9)
    cloud._turn(SimpleNamespace(place=cloud._place(())), SimpleNamespace(is_news=lambda link: True), 4)
    assert [next_turn(now, cloud.config.rounds) for now in seen] == [10**9]


def turns_of(loop, monkeypatch):
    """What its turns go by; none is taken."""
    seen = []
    monkeypatch.setattr("fedagg_edge.fleet.node_loop.next_turn", lambda now, rounds: seen.append(now))
    monkeypatch.setattr(NodeLoop, "wait", lambda self, seconds: None)
    loop.ledger.put(PRESENT + EDGE, True)
    return seen


def test_a_turn_for_a_parent_that_changed_ends_and_its_weights_are_dropped(edge):
    edge.wait(0.0)
    edge._parent, edge._mode = NodeId("a"), "sync"  # in the middle of a turn
    edge.wait(0.0)
    edge.ledger.put("terms", {**TERMS, "parent": "b"})
    with pytest.raises(ParentChanged):
        edge.wait(30.0)


def test_after_the_end_receipts_from_below_do_not_wait_for_the_next_question(edge):
    pokes = []
    uplink = SimpleNamespace(poke=lambda: pokes.append(1), interrupt=lambda: None)
    edge.link = SimpleNamespace(error=None, offline=False, uplink=uplink)
    edge.ledger.put("receipts/d1", [b"one"])
    edge.wait(0.0)
    assert not pokes  # before the end there is an exchange soon
    edge.ledger.put("finished", True)
    edge.wait(0.0)
    assert pokes


def test_before_the_first_checkpoint_the_weights_are_those_of_the_start(edge):
    bridge, classes = edge._parts_of_federation()
    node = SimpleNamespace(
        learner=parts.make_learner(edge.config, bridge.sample_shape, classes), bridge=bridge, classes=classes
    )
    start = node.learner.state().weights.copy()
    conductor = SimpleNamespace(trained={"x": 3})
    state = node.learner.state()
    state.weights[:] += 1
    node.learner.load_state(state)
    edge._restore(node, conductor)
    np.testing.assert_array_equal(node.learner.state().weights, start)
    assert conductor.trained == {}
    weights.save(edge.checkpoints, weights.Saved(4, state, {"x": 2}))
    edge._restore(node, conductor)
    np.testing.assert_array_equal(node.learner.state().weights, start + 1)
    assert conductor.trained == {"x": 2}


def test_a_cloud_that_was_killed_behind_its_last_checkpoint_still_ends_the_training(cloud):
    path = cloud.config.state / "metrics.jsonl"
    learner = parts.make_learner(cloud.config, (1, 8, 8), 3)
    row = {"schema": 1, "version": 1, "finished": True, "passes": 2.0}
    weights.save(cloud.checkpoints, weights.Saved(1, learner.state(), {}, row=row))
    cloud.stop.set()
    for _ in range(2):  # and once only, however often it starts
        with pytest.raises(Stopped):
            cloud.run()
    assert cloud.ledger.get("finished") is True
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row]


def shown(loop):
    text = metrics_file(loop.config.state).read_text()
    return dict(line.split() for line in text.splitlines() if not line.startswith("#"))


def test_the_gateways_metrics_have_the_rounds(cloud, monkeypatch):
    cloud._follow_up(None, {"version": 0, "loss": 0.5, "accuracy": None, "finished": False})
    assert (shown(cloud)["fedagg_round"], shown(cloud)["fedagg_round_loss"]) == ("0", "0.5")
    assert shown(cloud)["fedagg_children"] == "0"
    cloud.ledger.put(PRESENT + EDGE, True)
    cloud.wait(0.0)
    assert shown(cloud)["fedagg_children"] == "0"  # not at each look
    later = time.monotonic() + 16.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    cloud.wait(0.0)
    assert shown(cloud)["fedagg_children"] == "1"
    monkeypatch.setattr(Registry, "save", lambda *args: (_ for _ in ()).throw(OSError(28, "no room")))
    cloud._follow_up(None, {"version": 1, "loss": 0.25, "finished": False})  # no reason to end
    assert shown(cloud)["fedagg_round"] == "0"


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_shown_as_it_is(cloud, loss):
    """It follows the checkpoint: an error here would come again with each start."""
    cloud._follow_up(None, {"version": 0, "loss": loss, "finished": False})
    assert shown(cloud)["fedagg_round_loss"] in ("NaN", "+Inf")


def test_what_goes_wrong_with_metrics_is_logged_once_and_ends_nothing(cloud, monkeypatch):
    monkeypatch.setattr(Registry, "save", lambda *args: (_ for _ in ()).throw(ValueError("odd")))
    for version in range(3):
        cloud._follow_up(None, {"version": version, "loss": 0.5, "finished": False})
    assert cloud.log._stream.getvalue().count("metrics_failed") == 1
    monkeypatch.undo()
    cloud._follow_up(None, {"version": 3, "loss": 0.5, "finished": False})
    assert shown(cloud)["fedagg_round"] == "3"


def test_a_link_that_broke_ends_the_node_instead_of_training_on_alone(cloud):
    class Broken:
        error = StorageError("damaged")

    cloud.link = Broken()
    with pytest.raises(StorageError, match="damaged"):
        cloud.wait(30.0)


def test_a_turn_whose_samples_are_forgotten_in_the_middle_is_given_up_with_its_weights(cloud):
    """The only child's rows are forgotten while the cloud waits for it: nothing is left to teach on, and no crash."""
    cloud.ledger.put(PRESENT + EDGE, True)
    cloud.config = cloud.config.__class__(**{
        **{f: getattr(cloud.config, f) for f in cloud.config.__struct_fields__}, "rounds": RoundsConfig(deadline=60.0)
    })  # fmt: skip

    def forget_when_published():
        other = parts.open_ledger(cloud.config, Tier.CLOUD)
        while other.newest(Link(EDGE, NodeId("cloud")), NodeId("cloud")) is None:
            time.sleep(0.02)
        other.forget(NodeId("device-000"))
        other.close()
        time.sleep(1.0)
        cloud.stop.set()

    thread = threading.Thread(target=forget_when_published)
    thread.start()
    with pytest.raises(Stopped):
        cloud.run()
    thread.join()
    assert not len(cloud.ledger.samples(EDGE))


def test_weights_of_another_model_say_where_they_are_and_what_to_do(cloud):
    learner = parts.make_learner(cloud.config, (1, 8, 8), 5)
    weights.save(cloud.checkpoints, weights.Saved(3, learner.state()))
    with pytest.raises(LearnerError, match=r"weights: state: got '3\.weight' .* put them back, or remove this folder"):
        cloud.run()


class Learner:
    def __init__(self):
        self.loaded = []

    def load_state(self, state):
        self.loaded.append(state.weights[0])


def test_weights_are_taken_back(cloud, monkeypatch):
    fresh = Learner()
    monkeypatch.setattr(parts, "make_learner", lambda *words: fresh)
    node = SimpleNamespace(learner=Learner(), bridge=SimpleNamespace(sample_shape=(1,)), classes=3)
    conductor = SimpleNamespace(trained={"x": 1})
    cloud._restore(node, conductor)
    assert (node.learner, conductor.trained) == (fresh, {})
    kept = LearnerState((Entry("w", (1,), True),), np.full(1, 7, np.float32))
    weights.save(cloud.checkpoints, weights.Saved(3, kept, {"a": 2}))
    cloud._restore(node, conductor)
    assert (node.learner.loaded, conductor.trained) == ([7.0], {"a": 2})


def test_passes_without_a_parent_never_leave_a_damaged_checkpoint(edge, monkeypatch):
    """Each is kept under a number of its own: over the one before, a stop between a checkpoint's two files left one
    whose digest was another's."""
    learner = parts.make_learner(edge.config, (1, 8, 8), 3)
    node = SimpleNamespace(learner=learner, place=SimpleNamespace(parent=NodeId("a"), children=()))
    conductor = SimpleNamespace(trained={"x": 3})
    report = RoundReport(4)

    def learn():
        state = learner.state()
        state.weights[:] += 1
        learner.load_state(state)

    edge._finish(node, conductor, report, 0.0)
    for _ in range(2):
        learn()
        edge._finish(node, conductor, report, 0.0, keep_version=4)
    kept = learner.state().weights.copy()
    learn()

    def stop(*words):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("fedagg_edge.checkpoint.write_atomic", stop)
        with pytest.raises(Stopped):
            edge._finish(node, conductor, report, 0.0, keep_version=4)
    saved, problems = weights.load_newest(edge.checkpoints)
    assert problems == []
    np.testing.assert_array_equal(saved.state.weights, kept)
    assert (saved.done, edge._number) == (4, saved.version + 1)
    edge._finish(node, conductor, RoundReport(5), 0.0)  # the parent is back
    saved, problems = weights.load_newest(edge.checkpoints)
    assert (saved.done, problems) == (5, [])
    assert len(list(edge.checkpoints.glob("*.json"))) == 2
