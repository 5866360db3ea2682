import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
from test_distill import make_nodes, run
from toys import embeddings, hyperparameters, small_tree

from fedagg_edge import distill
from fedagg_edge.distill import Freshest, Gather, Predict, Receive, Received
from fedagg_edge.errors import LearnerError
from fedagg_edge.fleet.config import RoundsConfig
from fedagg_edge.fleet.rounds import Conductor, RoundReport
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Embeddings, Knowledge, Link, NodeId, Tier

EDGE = NodeId("edge-0")
LINKS = (Link(NodeId("device-000"), EDGE), Link(NodeId("device-001"), EDGE))
UP = Link(EDGE, NodeId("cloud"))


@dataclass(frozen=True)
class Kept:
    knowledge: Knowledge
    basis: int


class Shelf:
    """Knowledge in a dict, for all nodes of a test; `arrived` wakes who waits."""

    def __init__(self):
        self.kept, self.arrived, self.puts = {}, threading.Condition(), 0

    def newest(self, link, publisher):
        return self.kept.get((link, publisher))

    def knowledge(self, link, publisher, version):
        found = self.kept.get((link, publisher))
        return found if found is not None and found.knowledge.version == version else None

    def put_knowledge(self, knowledge, basis, at):
        with self.arrived:
            key = (knowledge.link, knowledge.publisher)
            if key not in self.kept or self.kept[key].knowledge.version < knowledge.version:
                self.kept[key] = Kept(knowledge, basis)
                self.puts += 1
            self.arrived.notify_all()


class Clock:
    """Time that passes only while somebody waits; `then` happens at the moments it is given."""

    def __init__(self, then=()):
        self.now, self.then = 0.0, dict(then)

    def __call__(self):
        return self.now

    def wait(self, seconds):
        assert seconds > 0
        due = [t for t in self.then if t <= self.now + seconds]
        self.now = min(due) if due else self.now + seconds
        assert self.now < 1e6, "waited for ever"
        if due:
            self.then.pop(self.now)()


@pytest.fixture
def nodes():
    tree = small_tree()
    made = make_nodes(tree, hyperparameters())
    run(tree, made, "snapshot", 0)
    return made


def conductor(node, shelf=None, clock=None, **rounds):
    clock = clock or Clock()
    return Conductor(node, shelf or Shelf(), RoundsConfig(**rounds), clock, clock.wait, clock)


def of(nodes, link, publisher, version):
    return nodes[publisher].perform(Predict(link, version), version)


def test_a_fleet_in_step_computes_what_the_simulator_computes(nodes):
    """Each node in a thread of its own, in whatever order the machine runs them."""
    simulated = make_nodes(small_tree(), hyperparameters())
    run(small_tree(), simulated, "snapshot", 3)
    shelf = Shelf()

    def live(node):
        def wait(seconds):
            with shelf.arrived:
                shelf.arrived.wait(0.05)

        mine = Conductor(node, shelf, RoundsConfig(), lambda: 0.0, wait, lambda: 0.0)
        for version in range(3):
            mine.run(version)

    threads = [threading.Thread(target=live, args=(node,)) for node in nodes.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, node in nodes.items():
        np.testing.assert_array_equal(node.learner.state().weights, simulated[name].learner.state().weights)


def test_a_straggler_is_waited_for_until_the_deadline_then_its_older_knowledge_counts_less(nodes):
    shelf, clock = Shelf(), Clock()
    edge = conductor(nodes[EDGE], shelf, clock, quorum=0.5, deadline=30.0)
    shelf.put_knowledge(of(nodes, LINKS[0], LINKS[0].child, 5), 5, 0.0)
    shelf.put_knowledge(of(nodes, LINKS[1], LINKS[1].child, 3), 3, 0.0)
    report = RoundReport(5)
    received = edge._answer(Gather(LINKS, 5), report)
    assert [(r.knowledge.version, r.age) for r in received] == [(5, 0), (3, 2)]
    assert (report.late, clock()) == ([LINKS[1].child], 30.0)


def test_a_deadline_does_not_heed_a_wall_clock_that_jumps(nodes):
    shelf, clock, wall = Shelf(), Clock(), iter((0.0, 1e9, -1e9, 5.0) * 50)
    edge = Conductor(nodes[EDGE], shelf, RoundsConfig(quorum=0.5, deadline=30.0), clock, clock.wait, lambda: next(wall))
    shelf.put_knowledge(of(nodes, LINKS[0], LINKS[0].child, 5), 5, 0.0)
    shelf.put_knowledge(of(nodes, LINKS[1], LINKS[1].child, 3), 3, 0.0)
    edge._publish(of(nodes, UP, EDGE, 1))
    assert [r.age for r in edge._answer(Gather(LINKS, 5), RoundReport(5))] == [0, 2]
    assert clock() == 30.0


def test_who_comes_in_time_is_not_late(nodes):
    shelf = Shelf()
    shelf.put_knowledge(of(nodes, LINKS[0], LINKS[0].child, 5), 5, 0.0)
    late = of(nodes, LINKS[1], LINKS[1].child, 5)
    clock = Clock({10.0: lambda: shelf.put_knowledge(late, 5, 10.0)})
    report = RoundReport(5)
    received = conductor(nodes[EDGE], shelf, clock, deadline=30.0)._answer(Gather(LINKS, 5), report)
    assert ([r.age for r in received], report.late, clock()) == ([0, 0], [], 10.0)


def test_who_goes_to_another_parent_is_not_waited_for(nodes):
    shelf, left = Shelf(), []
    shelf.put_knowledge(of(nodes, LINKS[0], LINKS[0].child, 5), 5, 0.0)
    clock = Clock({10.0: lambda: left.append(LINKS[1].child)})
    edge = conductor(nodes[EDGE], shelf, clock, deadline=30.0)
    edge.gone = lambda child: child in left
    report = RoundReport(5)
    received = edge._answer(Gather(LINKS, 5), report)
    assert ([r.knowledge.publisher for r in received], report.silent, clock()) == ([LINKS[0].child], [], 10.0)
    left.append(LINKS[0].child)
    assert edge._answer(Gather(LINKS, 5), report) == ()


def test_without_a_quorum_the_deadline_does_not_count_and_a_silent_child_is_left_out(nodes):
    shelf = Shelf()
    knowledge = of(nodes, LINKS[0], LINKS[0].child, 5)
    clock = Clock({100.0: lambda: shelf.put_knowledge(knowledge, 5, 100.0)})
    report = RoundReport(5)
    received = conductor(nodes[EDGE], shelf, clock, quorum=0.5, deadline=30.0)._answer(Gather(LINKS, 5), report)
    assert ([r.knowledge.publisher for r in received], report.silent) == ([LINKS[0].child], [LINKS[1].child])
    assert clock() == 100.0


def test_a_child_whose_samples_were_forgotten_is_not_waited_for(nodes):
    shelf, away = Shelf(), set()
    shelf.put_knowledge(of(nodes, LINKS[0], LINKS[0].child, 5), -1, 0.0)
    made = conductor(nodes[EDGE], shelf, Clock({30.0: lambda: away.add(LINKS[1].child)}), deadline=10.0)
    made.gone = away.__contains__
    report = RoundReport(5)
    received = made._answer(Gather(LINKS, 5), report)
    assert ([r.knowledge.link for r in received], report.silent, made.clock()) == ([LINKS[0]], [], 30.0)
    away.add(LINKS[0].child)
    assert made._answer(Gather(LINKS, 5), report) == ()


def test_the_parents_knowledge_may_be_newer_or_after_the_deadline_older_but_never_nothing(nodes):
    shelf, report = Shelf(), RoundReport(5)
    older, newer = of(nodes, UP, NodeId("cloud"), 3), of(nodes, UP, NodeId("cloud"), 7)
    clock = Clock({100.0: lambda: shelf.put_knowledge(older, -1, 0.0)})
    edge = conductor(nodes[EDGE], shelf, clock, deadline=30.0)
    assert edge._answer(Receive(UP, 5), report) == Received(older, 2)
    assert (clock(), report.late) == (100.0, ["cloud"])
    shelf.put_knowledge(newer, -1, 0.0)
    assert edge._answer(Receive(UP, 5), report) == Received(newer, 0)


class Stop(Exception):
    """What a test stops a node with."""


def test_a_round_that_was_stopped_is_run_again_and_publishes_nothing_twice(nodes):
    shelf, edge = Shelf(), nodes[EDGE]
    before = edge.learner.state()

    def stop(seconds):
        raise Stop

    with pytest.raises(Stop):
        Conductor(edge, shelf, RoundsConfig(), lambda: 0.0, stop, lambda: 0.0).run(0)
    first = {key: kept.knowledge for key, kept in shelf.kept.items()}
    edge.learner.load_state(replace(before, weights=before.weights + 1))  # it comes back as another
    with pytest.raises(Stop):
        Conductor(edge, shelf, RoundsConfig(), lambda: 0.0, stop, lambda: 0.0).run(0)
    assert shelf.puts == len(LINKS)
    assert {key: kept.knowledge for key, kept in shelf.kept.items()} == first


def test_a_version_below_what_was_published_publishes_nothing_new(nodes, tmp_path):
    """An edge came to a parent whose rounds are behind; its children know its later word."""
    ledger = Ledger.open(tmp_path / "ledger", node=EDGE, federation="toy", options=Options(tier=Tier.EDGE))
    edge = nodes[EDGE]

    def stop(seconds):
        raise Stop

    for version in (9, 10, 9, 8, 10):
        with pytest.raises(Stop):
            Conductor(edge, ledger, RoundsConfig(), lambda: 0.0, stop, lambda: 0.0).run(version)
        state = edge.learner.state()
        edge.learner.load_state(replace(state, weights=state.weights + 1))
    assert [ledger.newest(link, EDGE).knowledge.version for link in LINKS] == [10, 10]
    ledger.close()


def test_a_round_is_run_again_after_its_knowledge_was_forgotten_and_the_device_came_back(nodes, tmp_path):
    """With other rows than those of the first time; its version stays taken."""
    ledger = Ledger.open(tmp_path / "ledger", node=EDGE, federation="toy", options=Options(tier=Tier.EDGE))

    def stop(seconds):
        raise Stop

    def run_again():
        with pytest.raises(Stop):
            Conductor(nodes[EDGE], ledger, RoundsConfig(), lambda: 0.0, stop, lambda: 0.0).run(3)

    run_again()
    ledger.forget(LINKS[0].child)
    rows = embeddings(LINKS[0].child, 4, start=100)
    width = nodes[EDGE].store.read(LINKS[0].child).code_NB.shape[1]
    nodes[EDGE].store.append(LINKS[0].child, Embeddings(rows.samples, np.zeros((4, width), np.uint8), rows.label_N))
    run_again()
    assert ledger.newest(LINKS[0], EDGE) is None
    assert ledger.newest(LINKS[1], EDGE).knowledge.version == 3
    ledger.close()


@pytest.mark.parametrize(("quorum", "children"), [(0.28, 25), (0.55, 100), (0.07, 100)])
def test_a_quorum_is_the_share_that_was_written(nodes, quorum, children):
    """As a float, 0.28 of 25 is a little more than 7."""
    shelf, clock = Shelf(), Clock()
    edge = conductor(nodes[EDGE], shelf, clock, quorum=quorum, deadline=30.0)
    links = tuple(Link(NodeId(f"d{i}"), EDGE) for i in range(children))
    known = of(nodes, LINKS[0], LINKS[0].child, 5)
    for link in links[: round(quorum * children)]:
        shelf.put_knowledge(replace(known, link=link, publisher=link.child), 5, 0.0)
    assert len(edge._answer(Gather(links, 5), RoundReport(5))) == round(quorum * children)
    assert clock.now == 30.0


def test_what_cannot_be_used_is_no_news(nodes):
    shelf = Shelf()
    edge = conductor(nodes[EDGE], shelf, mode="async")
    assert not edge.is_news(LINKS[0])
    known = of(nodes, LINKS[0], LINKS[0].child, 0)
    shelf.put_knowledge(replace(known, digest="f" * 64), 0, 0.0)
    assert not edge.is_news(LINKS[0])
    shelf.put_knowledge(replace(known, version=1), 0, 0.0)
    assert edge.is_news(LINKS[0])
    edge.run(1)
    assert not edge.is_news(LINKS[0])


def test_a_round_that_is_run_again_learns_from_the_version_that_it_learnt_from(nodes):
    """A node that was killed between its answer and its checkpoint: its parent has gone on with that answer."""
    device = next(name for name in nodes if name.startswith("device"))
    link = nodes[device].place.link
    shelf = Shelf()
    older, newer = (Kept(of(nodes, link, EDGE, version), -1) for version in (3, 4))
    shelf.kept[link, EDGE] = newer
    shelf.knowledge = lambda link, publisher, version: older if version == 3 else None
    mine = conductor(nodes[device], shelf)
    mine.run(3)
    assert mine.trained[str(link)] == 3
    mine.run(2)  # not kept any more: the newest will do
    assert mine.trained[str(link)] == 4


def test_an_async_turn_takes_what_is_new_and_knows_how_old_it_is(nodes):
    shelf = Shelf()
    edge = conductor(nodes[EDGE], shelf, mode="async")
    shelf.put_knowledge(of(nodes, LINKS[0], LINKS[0].child, 4), 6, 0.0)
    report = RoundReport(9)
    assert [r.age for r in edge._answer(Freshest(LINKS), report)] == [3]
    done = edge.run(9)
    assert [r.rows for r in done.trained] == [10]
    assert edge._answer(Freshest(LINKS), report) == ()  # trained on already
    assert shelf.newest(UP, EDGE).knowledge.version == 9


def test_what_a_publication_was_based_on_is_said(nodes):
    shelf = Shelf()
    device = nodes[LINKS[0].child]
    shelf.put_knowledge(of(nodes, LINKS[0], EDGE, 8), -1, 0.0)
    conductor(device, shelf, mode="async").run(2)
    assert shelf.newest(LINKS[0], device.place.id).basis == 8


def test_knowledge_that_does_not_fit_is_left_out_and_told(nodes):
    shelf = Shelf()
    good = of(nodes, LINKS[0], LINKS[0].child, 0)
    shelf.put_knowledge(good, 0, 0.0)
    shelf.put_knowledge(replace(of(nodes, LINKS[1], LINKS[1].child, 0), digest="f" * 64), 0, 0.0)
    edge = conductor(nodes[EDGE], shelf, mode="async")
    report = edge.run(1)
    assert len(report.refused) == 1
    assert "got sample set ffff" in report.refused[0]
    assert [r.rows for r in report.trained] == [10]


def test_a_loss_that_is_not_finite_ends_the_pass_not_the_node(nodes):
    device = nodes[LINKS[0].child]
    assert device.place.tier is Tier.DEVICE
    shelf = Shelf()
    shelf.put_knowledge(of(nodes, LINKS[0], EDGE, 0), -1, 0.0)

    def step(batch, hp):
        raise LearnerError("the loss became nan")

    device.learner.step = step
    report = conductor(device, shelf).run(0)
    assert (report.trained, report.refused) == ([], ["the loss became nan"])
    assert shelf.newest(LINKS[0], device.place.id).knowledge.version == 0


def test_the_programs_are_the_simulators(nodes):
    assert distill.SCHEDULES["snapshot"] is distill.round_snapshot
