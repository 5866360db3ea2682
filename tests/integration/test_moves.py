"""Nodes change parents, both ends of every link back to back, whatever gets lost, doubled or killed on the way."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "wire"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from trees import SMALL, Trees

from fedagg_edge.fleet import moving
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Embeddings, NodeId, SampleSet, Tier
from fedagg_edge.wire.child import Step
from fedagg_edge.wire.events import Moved, Refused, Settled
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Adopt, Exchange, Problem, decode, encode


@pytest.fixture
def trees(tmp_path):
    made = Trees(tmp_path)
    yield made
    made.close()


def begin(trees, rows=40):
    trees.send("d1", rows)
    trees.send("d2", 5)
    trees.run(40)
    assert trees.rows_at_cloud() == {"d1": list(range(rows)), "d2": list(range(5))}


def settled(trees, device="d1", parent="e2", rows=range(40), *, told=True):
    """The device is at `parent` with exactly these rows, at every ancestor, and nowhere else."""
    ledgers = trees.ledgers
    assert moving.under_way(ledgers[device]) is None
    assert ledgers[device].acknowledged() == ledgers[parent].head(device)
    assert not ledgers[device].pending()
    mine, theirs = ledgers[device].embeddings(device), ledgers[parent].embeddings(device)
    np.testing.assert_array_equal(mine.code_NB, theirs.code_NB)
    np.testing.assert_array_equal(mine.label_N, theirs.label_N)
    assert [int(c) for c in mine.samples.counters[0]] == list(rows)
    assert trees.rows_at_cloud()[device] == list(rows)
    assert ledgers["cloud"].owner(device).child == parent
    for edge in {"e1", "e2"} - {parent}:
        assert device not in ledgers[edge].samples(edge).origins
        assert not len(ledgers[edge].samples(device))
        assert not told or device not in ledgers[edge].children()


def problems(trees, name):
    return [e.problem for who, e in trees.events if who == name and isinstance(e, Refused)]


@pytest.mark.parametrize("limits", [SMALL, Limits()])
def test_a_device_moves_and_sends_nothing_again(tmp_path, limits):
    trees = Trees(tmp_path, limits=limits)
    begin(trees)
    before = len(trees.sent)
    assert trees.move("d1", "e2") == 1
    trees.run(40)
    settled(trees)
    assert trees.uploaded("d1", before) == 0
    down = [r for who, _, r in trees.sent[before:] if who == "d1" and r.method == "GET"]
    assert down == []  # its own rows did not travel down to it either: their digest was enough
    assert ("d1", Moved(1)) in trees.events
    assert ("e2", Settled("d1")) in trees.events
    trees.send("d1", 3, start=40)
    trees.run(20)
    settled(trees, rows=range(43))
    trees.close()


def test_there_and_back_again(trees):
    begin(trees)
    before = len(trees.sent)
    for fence, parent in enumerate(["e2", "e1", "e2", "e1"], 1):
        assert trees.move("d1", parent) == fence
        trees.run(40)
        settled(trees, parent=parent)
    assert trees.uploaded("d1", before) == 0


def test_rows_that_only_the_old_parent_has_are_sent_once_more_and_counted_once(trees):
    begin(trees)
    trees.down.add("cloud")  # e1 acknowledges, and cannot pass on
    trees.send("d1", 4, start=40)
    trees.run(10)
    assert trees.ledgers["e1"].pending()
    trees.down = {"e1"}
    trees.move("d1", "e2")
    trees.run(40)
    assert trees.rows_at_cloud()["d1"] == list(range(44))
    trees.down = set()  # the old parent's late message
    trees.run(40)
    settled(trees, rows=range(44))


def tight(monkeypatch):
    """Nodes that take little more of a log than what they have themselves."""
    monkeypatch.setattr("fedagg_edge.wire.child._OWN", Limits(chunk=256, inline=64, entry_bytes=4096, staged=256))


def test_a_log_that_is_longer_than_what_is_kept_in_memory_moves_if_the_node_has_as_much_itself(trees, monkeypatch):
    """Also where it was cut otherwise at the new parent, so that the node's own rows have to travel."""
    tight(monkeypatch)
    begin(trees)
    assert trees.ledgers["d1"].log_size() > 256
    before = len(trees.sent)
    trees.move("d1", "e2")
    trees.run(60)
    settled(trees)
    trees.send("d1", 20, start=40)
    trees.run(30)
    trees.move("d1", "e1")  # which still has the entries of before
    trees.run(60)
    settled(trees, parent="e1", rows=range(60))
    down = [r for who, _, r in trees.sent[before:] if who == "d1" and r.method == "GET"]
    assert 256 * len(down) > 256


def test_a_log_that_is_too_long_is_told_and_not_fetched_again_and_again(trees, monkeypatch, tmp_path):
    """Here of a device that has lost its state: nobody can say that these rows are its own."""
    begin(trees)
    trees.ledgers["d1"].close()
    for path in tmp_path.glob("d1*"):
        path.unlink()
    trees.ledgers["d1"] = Ledger.open(
        tmp_path / "d1", node="d1", federation="f", options=Options(tier=Tier.DEVICE, clock=lambda: trees.now)
    )
    tight(monkeypatch)
    trees.restart("d1")
    trees.move("d1", "e2")
    before = len(trees.sent)
    trees.run(250)
    (told,) = problems(trees, "d1")
    assert (told.code, told.message) == ("too_large", "log: got 538 bytes, expected at most 256")
    assert sum(who == "d1" for who, _, _ in trees.sent[before:]) < 20
    assert trees.below["d1"].step is Step.REFUSED


def test_the_old_parent_answers_moved_before_the_log_that_says_so_can_be_followed(trees):
    """A copy of the device that still talks to the old parent (a board restored from a backup) is turned away, and the
    rows that it holds are not erased."""
    begin(trees)
    end = trees.below["d1"]
    poll = Request("POST", "/v1/exchange", encode(Exchange(-1, 0, 0, 0.0, 0)))
    assert trees.ask("d1", "e1", poll).status == 200
    trees.move("d1", "e2")
    trees.run(40)
    hello = Request("POST", "/v1/hello", encode(end._hello(fresh=False)))
    for request in (poll, Request("GET", "/v1/entries/1/0"), hello):
        answer = trees.ask("d1", "e1", request)
        assert (answer.status, decode(Problem, answer.body, Limits()).code) == (409, "moved")
    kinds = [int(e.kind) for e in trees.ledgers["e1"].entries("d1", 0)]
    assert kinds[-1] == 3
    settled(trees)


@pytest.mark.parametrize("late", ["e1", "e2"])
def test_a_late_adoption_cannot_win(trees, late):
    """The device asked e2, then changed its mind; what e2 asks later is refused, and what the device asks again too."""
    begin(trees)
    trees.down.add("e2")
    first = trees.move("d1", late)
    asked = Request("POST", "/v1/adopt", encode(Adopt("d1", ("d1",), first)))
    trees.down.clear()
    trees.ask("d1", late, asked)  # and its answer is lost
    trees.move("d1", "e1")
    trees.run(60)
    settled(trees, parent="e1")
    answer = trees.ask("d1", late, asked)
    assert (answer.status, decode(Problem, answer.body, Limits()).code) == (409, "moved")
    trees.run(20)
    settled(trees, parent="e1")


def test_the_new_parent_dies_while_it_takes_in_and_the_device_goes_back(trees):
    begin(trees)
    trees.move("d1", "e2")
    trees.turn("d1")  # e2 has noted it, and e2 asks
    trees.run(3, lambda name: "lose" if name == "d1" else "")
    trees.down.add("e2")
    trees.move("d1", "e1")
    trees.run(40)
    settled(trees, parent="e1")
    trees.down.clear()
    trees.run(40)
    settled(trees, parent="e1")
    assert trees.ledgers["e2"].children() == ["d2"]


def test_what_was_retired_on_the_way_stays_retired(trees):
    begin(trees)
    trees.down.add("cloud")
    trees.send("d1", 2, start=40)  # e1 has them, the cloud does not
    trees.run(10)
    trees.down.add("e1")
    gone = SampleSet.of("d1", np.array([0, 1, 41], np.uint64))
    trees.ledgers["d1"].retire(gone)
    trees.down.discard("cloud")
    trees.move("d1", "e2")
    trees.run(40)
    trees.down.clear()
    trees.run(60)
    settled(trees, rows=range(2, 41))


def forget_everywhere(trees, origin="d1"):
    for name in ("cloud", "e1", "e2"):
        trees.ledgers[name].forget(NodeId(origin))


def test_what_is_forgotten_while_a_node_is_on_its_way_is_not_sent_again(trees):
    """The new parent has taken the rows in, and the node has not seen its log yet."""
    begin(trees)
    trees.move("d1", "e2")
    while (asked := trees.ledgers["cloud"].adoption(NodeId("d1"))) is None or asked.head is None:
        for name in ("d1", "e2"):
            trees.turn(name)
        trees.now += 0.5
    forget_everywhere(trees)
    trees.run(60)
    assert moving.under_way(trees.ledgers["d1"]) is None
    assert "d1" not in trees.rows_at_cloud()
    assert not len(trees.ledgers["d1"].samples("d1"))


def test_what_was_forgotten_while_a_node_was_off_is_not_sent_again_to_another_parent(trees):
    begin(trees)
    trees.down = {"d1"}
    forget_everywhere(trees)
    trees.run(20)
    trees.down = {"e1"}  # its parent never tells it
    trees.move("d1", "e2")
    trees.run(60)
    assert moving.under_way(trees.ledgers["d1"]) is None
    assert "d1" not in trees.rows_at_cloud()
    trees.send("d1", 3, start=40)  # what it sends later is new
    trees.down = set()
    trees.run(40)
    settled(trees, rows=range(40, 43), told=False)  # nothing was left at e1 to release
    for parent in ("e1", "e2"):  # it is said once a link
        trees.move("d1", parent)
        trees.run(40)
        settled(trees, parent=parent, rows=range(40, 43))
    assert [e.kind for e in trees.ledgers["e2"].entries("d1", 0)].count(2) == 1


def test_labels_that_were_held_back_at_the_old_parent_come_again(tmp_path):
    trees = Trees(tmp_path, hold_labels=True)
    begin(trees)
    trees.move("d1", "e2")
    while ("d1", Moved(1)) not in trees.events:
        trees.run(1, lambda name: "lose" if name == "d1" and trees.below["d1"].step is Step.SYNC else "")
    assert (trees.ledgers["d1"].embeddings("d1").label_N >= 0).all()  # it trains on them at once
    trees.run(60)
    settled(trees)
    assert set(trees.ledgers["cloud"].embeddings("e2").label_N) == {-1}
    assert (trees.ledgers["e2"].embeddings("d1").label_N >= 0).all()
    trees.close()


def test_a_device_without_samples_moves_too(trees):
    trees.run(10)
    trees.move("d1", "e2")
    trees.run(20)
    assert ("d1", Moved(1)) in trees.events
    trees.send("d1", 3)
    trees.run(20)
    settled(trees, rows=range(3), told=False)  # e1 had no rows to release; who has none is waited for by nobody


def test_a_device_that_lost_its_state_learns_its_fence_again(trees, tmp_path):
    begin(trees)
    trees.move("d1", "e2")
    trees.run(40)
    trees.ledgers["d1"].close()
    for path in tmp_path.glob("d1*"):
        path.unlink()
    trees.ledgers["d1"] = Ledger.open(
        tmp_path / "d1", node="d1", federation="f", options=Options(tier=Tier.DEVICE, clock=lambda: trees.now)
    )
    trees.restart("d1")
    trees.run(40)
    assert trees.ledgers["d1"].fence("d1") == 1
    settled(trees)


def test_an_edge_without_children_takes_in_its_first(trees):
    trees.send("d1", 40)
    trees.run(30)
    trees.below["e2"].ready = False  # it has nobody to train for
    trees.restart("e2")
    trees.below["e2"].ready = False
    trees.move("d1", "e2")
    trees.run(40)
    settled(trees)


def test_who_may_ask_what(trees):
    begin(trees)
    foreign = Request("POST", "/v1/adopt", encode(Adopt("d2", ("d2",), 1)))
    answer = trees.ask("d1", "e1", foreign)
    assert (answer.status, decode(Problem, answer.body, Limits()).code) == (403, "role")
    origins = Request("POST", "/v1/adopt", encode(Adopt("d1", ("d1", "d2"), 1)))
    assert trees.ask("d1", "e2", origins).status == 403
    trees.ledgers["cloud"].revoke("e2")
    assert trees.ask("e2", "cloud", Request("POST", "/v1/adopt", encode(Adopt("d1", ("d1",), 1)))).status == 403


def test_a_parent_that_is_refused_above_does_not_stop_working(trees):
    begin(trees)
    trees.move("d1", "e2")
    trees.turn("d1")
    asked = trees.ledgers["e2"].adoption("d1")
    assert asked.head is None
    step = trees.below["e2"].next(trees.now)
    while step.path != "/v1/adopt":
        trees.below["e2"].receive(step, trees.ask("e2", "cloud", step), trees.now)
        trees.now += 1
        step = trees.below["e2"].next(trees.now)
    trees.below["e2"].receive(step, Response(403, encode(Problem("revoked", "no", None))), trees.now)
    assert trees.below["e2"].step is not Step.REFUSED
    trees.run(10)
    assert [p.code for p in problems(trees, "d1")] == ["moved"]
    trees.move("d1", "e1")
    trees.run(40)
    settled(trees, parent="e1")


FOUR = {"cloud": Tier.CLOUD, "m1": Tier.EDGE, "m2": Tier.EDGE, "e1": Tier.EDGE, "e2": Tier.EDGE, "d1": Tier.DEVICE}
UNDER = {"m1": "cloud", "m2": "cloud", "e1": "m1", "e2": "m2", "d1": "e1"}


@pytest.mark.parametrize(("mover", "to"), [("d1", "e2"), ("e1", "m2"), ("d1", "e3")])
def test_four_tiers(tmp_path, mover, to):
    """To another branch, with all that is below, and to a sibling below the same parent."""
    trees = Trees(tmp_path, tiers={**FOUR, "e3": Tier.EDGE}, parents={**UNDER, "e3": "m1"})
    trees.send("d1", 20)
    trees.run(40)
    before = len(trees.sent)
    trees.move(mover, to)
    trees.run(60)
    trees.send("d1", 5, start=20)
    trees.run(60)
    path, at = [], "d1"
    while at != "cloud":
        path.append((at, trees.parent_of[at]))
        at = trees.parent_of[at]
    for child, parent in path:
        assert len(trees.ledgers[parent].samples(child)) == 25, (child, parent)
        assert trees.ledgers[child].acknowledged() == trees.ledgers[parent].head(child)
    assert trees.rows_at_cloud() == {"d1": list(range(25))}
    held = {n for n in trees.tiers if n != "cloud" and len(trees.ledgers[n].samples(n))}
    assert held == {child for child, _ in path}
    new = sum(len(r.body) for who, _, r in trees.sent[before:] if who == mover and r.path == "/v1/append")
    assert new < 1500  # the five new rows
    trees.close()


def test_what_a_device_retired_while_its_edge_moved_stays_retired(tmp_path):
    trees = Trees(tmp_path, tiers=FOUR, parents=UNDER)
    trees.send("d1", 20)
    trees.run(40)
    trees.down = {"cloud"}
    trees.send("d1", 2, start=20)  # m1 has them, the cloud does not
    trees.run(10)
    trees.down = {"m1"}
    trees.ledgers["d1"].retire(SampleSet.of("d1", np.array([0, 1, 21], np.uint64)))
    trees.run(10)
    trees.move("e1", "m2")
    trees.run(60)
    assert moving.under_way(trees.ledgers["e1"]) is None
    trees.down = set()  # m1's late message
    trees.now += 100
    trees.run(80)
    for child, parent in (("d1", "e1"), ("e1", "m2"), ("m2", "cloud")):
        assert trees.ledgers[parent].samples(child).counters[0].tolist() == list(range(2, 21))
        assert trees.ledgers[child].acknowledged() == trees.ledgers[parent].head(child)
    trees.close()


def test_an_edge_goes_to_another_address_of_its_parent_although_its_device_has_moved_more_often(trees):
    begin(trees)
    for parent in ("e2", "e1", "e2"):
        trees.move("d1", parent)
        trees.run(40)
    trees.move("e2", "cloud")
    trees.run(40)
    assert moving.under_way(trees.ledgers["e2"]) is None
    settled(trees)


@pytest.mark.parametrize("moves", [0, 4])
def test_a_device_that_left_an_edge_does_not_go_with_it(tmp_path, moves):
    """However often the edge has moved; the edge, which was off and has not heard of that, moves on with the others."""
    trees = Trees(tmp_path, tiers={**FOUR, "d2": Tier.DEVICE}, parents={**UNDER, "d2": "e1"})
    for device in ("d1", "d2"):
        trees.send(device, 20)
    trees.run(40)
    for parent in ("m2", "m1", "m2", "m1")[:moves]:
        trees.move("e1", parent)
        trees.run(60)
    trees.down = {"e1"}
    trees.move("d1", "e2")
    trees.run(60)
    assert moving.under_way(trees.ledgers["d1"]) is None
    trees.down = set()
    trees.move("e1", "m2")
    trees.run(80)
    trees.now += 200
    trees.run(80)
    assert moving.under_way(trees.ledgers["e1"]) is None
    assert trees.rows_at_cloud() == {"d1": list(range(20)), "d2": list(range(20))}
    for device, parent in (("d1", "e2"), ("d2", "e1")):
        assert trees.ledgers["m2"].owner(device).child == parent
        assert trees.ledgers[device].acknowledged() == trees.ledgers[parent].head(device)
        assert trees.ledgers[device].samples(device).origins == (device,)
    assert trees.ledgers["e1"].samples("e1").origins == ("d2",)
    assert trees.ledgers["e1"].children() == ["d2"]
    trees.close()


@pytest.mark.parametrize("to", ["m2", "m3", "cloud"])
def test_an_edge_that_never_moved_before_does_not_take_along_who_left_it_though_all_others_had_moved_to_it(
    tmp_path, to
):
    """Its list is old, and no device that never moved by itself says where it was: the question does."""
    tiers = {**FOUR, "m3": Tier.EDGE, "e3": Tier.EDGE, "d2": Tier.DEVICE}
    trees = Trees(tmp_path, tiers=tiers, parents={**UNDER, "m3": "cloud", "e3": "m3", "d1": "e3", "d2": "e3"})
    for device in ("d1", "d2"):
        trees.send(device, 20)
    trees.run(40)
    for device in ("d1", "d2"):
        trees.move(device, "e1")
    trees.run(60)
    trees.down = {"e1"}
    trees.move("d1", "e2")
    trees.run(60)
    trees.down = set()
    trees.move("e1", to)
    trees.run(80)
    trees.now += 200
    trees.run(80)
    assert moving.under_way(trees.ledgers["e1"]) is None
    assert trees.rows_at_cloud() == {"d1": list(range(20)), "d2": list(range(20))}
    for device, edge, above in (("d1", "e2", "m2"), ("d2", "e1", to)):
        assert trees.ledgers["cloud"].owner(device).child == (edge if above == "cloud" else above)
        assert trees.ledgers[above].owner(device).child == edge
        assert trees.ledgers[device].acknowledged() == trees.ledgers[edge].head(device)
        assert trees.ledgers[device].samples(device).origins == (device,)
    assert trees.ledgers["e1"].samples("e1").origins == ("d2",)
    assert trees.ledgers["e1"].children() == ["d2"]
    trees.close()


@pytest.mark.parametrize("older", ["m2", "cloud"])
def test_a_parent_of_older_software_is_asked_as_that_asks(tmp_path, monkeypatch, older):
    trees = Trees(tmp_path, tiers=FOUR, parents=UNDER)
    trees.send("d1", 20)
    trees.run(40)
    ask, longer = trees.ask, []

    def strict(child, to, request):
        if to == older and request.path == "/v1/adopt" and len(msgspec.msgpack.decode(request.body)) > 3:
            longer.append(child)
            return Response(400, encode(Problem("malformed", "adopt: got 4 fields, expected 3")))
        return ask(child, to, request)

    monkeypatch.setattr(trees, "ask", strict)
    trees.move("e1", "m2")
    trees.run(60)
    assert longer == [{"m2": "e1", "cloud": "m2"}[older]]
    assert moving.under_way(trees.ledgers["e1"]) is None
    assert trees.rows_at_cloud() == {"d1": list(range(20))}
    assert trees.ledgers["cloud"].owner("d1").child == "m2"
    trees.close()


def test_who_asks_says_where_it_was_as_long_as_it_helps(tmp_path):
    trees = Trees(tmp_path, tiers=FOUR, parents=UNDER)
    trees.run(20)
    trees.move("d1", "e2")
    trees.move("e1", "m2")
    trees.run(40)
    asked = [(who, to, msgspec.msgpack.decode(r.body)) for who, to, r in trees.sent if r.path == "/v1/adopt"]
    assert {who for who, _, _ in asked} == {"d1", "e2", "e1", "m2"}
    for who, to, (node, _, _, *former) in asked:
        assert former == (["m1"] if node == "e1" else []), (who, to)  # a device's question is what it always was
    assert moving.parent(trees.ledgers["e1"]) == "m2"
    trees.close()


@pytest.mark.parametrize("fate", ["", "lose", "drop", "twice", "restart"])
@pytest.mark.parametrize("to", ["m2", "cloud"])
def test_an_edge_of_more_devices_than_a_message_names_moves(tmp_path, to, fate):
    """Its origins go in parts, to each parent on the way up: none is left on the old branch."""
    trees = Trees(tmp_path, Limits(), tiers=FOUR, parents=UNDER)
    trees.run(20)
    count = 2500
    names = sorted(f"d{i}-with-a-rather-long-name" for i in range(count))
    samples = SampleSet(tuple(map(NodeId, names)), tuple(np.zeros(1, np.uint64) for _ in names))
    trees.ledgers["e1"].send(Embeddings(samples, np.zeros((count, 4), np.uint8), np.zeros(count, np.int64)))
    trees.run(20)
    assert len(trees.rows_at_cloud()) == count
    trees.move("e1", to)
    rng = np.random.default_rng(0)
    trees.run(60, lambda name: fate if rng.random() < 0.2 else "")
    trees.now += 100
    trees.run(60)
    assert moving.under_way(trees.ledgers["e1"]) is None
    assert trees.rows_at_cloud() == {name: [0] for name in names}
    assert len(trees.ledgers["m1"].samples("m1")) == len(trees.ledgers["m1"].samples("e1")) == 0
    assert len(trees.ledgers[to].samples("e1")) == count
    owners = set(trees.ledgers["cloud"].db.all("SELECT DISTINCT child FROM owners"))
    assert owners == {("e1" if to == "cloud" else "m2",)}
    asked = [r for _, _, r in trees.sent if r.path == "/v1/adopt"]
    assert fate or len(asked) <= 40  # parts follow each other at once, without a wait that doubles
    trees.close()


FATES = st.sampled_from(["", "", "", "lose", "drop", "twice", "restart"])


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_lost_doubled_or_restarted_nothing_is_lost_and_nothing_counted_twice(tmp_path_factory, data):
    trees = Trees(tmp_path_factory.mktemp("trees"))
    sent = 30
    begin(trees, sent)
    late = []
    for _ in range(data.draw(st.integers(1, 5), label="acts")):
        act = data.draw(st.sampled_from(["move", "move", "send", "down", "up"]), label="act")
        if act == "move":
            trees.move("d1", data.draw(st.sampled_from(["e1", "e2"]), label="to"))
        elif act == "send":
            trees.send("d1", 5, start=sent)
            sent += 5
        elif act == "down":
            trees.down = {data.draw(st.sampled_from(["e1", "e2", "cloud"]), label="down")}
        else:
            trees.down = set()
        trees.run(data.draw(st.integers(0, 12), label="rounds"), lambda name: data.draw(FATES))
        late += [(who, to, r) for who, to, r in trees.sent[-3:] if who == "d1"]
    trees.down = set()
    for who, to, request in late:  # what a proxy held back arrives at last
        trees.ask(who, to, request)
    trees.now += 100
    trees.run(60)
    trees.now += 100
    trees.run(120)
    settled(trees, parent=trees.parent_of["d1"], rows=range(sent))
    trees.close()
