import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.worlds import ROWS, bits, toy_nodes
from toys import CLASSES, hyperparameters, small_tree

from fedagg_edge import distill
from fedagg_edge.config import NodeGroup
from fedagg_edge.errors import LocalProtocolError
from fedagg_edge.records import Link, LogitsFormat, NodeId
from fedagg_edge.simulation.driver import Traffic, drive
from fedagg_edge.tree import plant


def in_order(tree, shuffle=None):
    names = list(tree.post_order())
    if shuffle:
        shuffle.shuffle(names)
    return names


def run(tree, nodes, schedule="sequential", *, rounds=1, shuffle=None, on_train=None, workers=1):
    traffic = Traffic()
    programs = {n: distill.init(tree.places[n]) for n in in_order(tree, shuffle)}
    drive(programs, nodes, version=0, traffic=traffic, workers=workers)
    for number in range(rounds):
        programs = {n: distill.SCHEDULES[schedule](tree.places[n], number) for n in in_order(tree, shuffle)}
        drive(programs, nodes, version=number, traffic=traffic, on_train=on_train, workers=workers)
    return traffic


# a tree as nested lists: an empty list is a device
SHAPES = st.recursive(st.just([]), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=5).filter(bool)


def groups(shape):
    return NodeGroup(model="m", children=tuple(groups(inner) for inner in shape))


@settings(max_examples=25)
@given(SHAPES, st.sampled_from(["sequential", "snapshot"]), st.integers(0, 1000), st.integers(1, 4))
def test_the_order_and_the_threads_in_which_nodes_get_their_turn_change_nothing(shape, schedule, seed, workers):
    tree = plant(groups(shape), 0)
    one, other = toy_nodes(tree, hyperparameters()), toy_nodes(tree, hyperparameters())
    before = bits(one)
    first = run(tree, one, schedule, rounds=2)
    second = run(tree, other, schedule, rounds=2, shuffle=random.Random(seed), workers=workers)
    assert bits(one) == bits(other)
    assert (first.up, first.down) == (second.up, second.down)
    assert all(bits(one)[name] != before[name] for name in before)


DEVICE = Link(NodeId("device-000"), NodeId("edge-0"))
EDGE = Link(NodeId("edge-0"), NodeId("cloud"))


@pytest.mark.parametrize(
    ("form", "row"),
    [(LogitsFormat.F32, 4 * CLASSES), (LogitsFormat.F16, 2 * CLASSES), (LogitsFormat.INT8, CLASSES + 4)],
)
def test_traffic_is_what_a_hand_counts(form, row):
    tree = small_tree()
    traffic = run(tree, toy_nodes(tree, hyperparameters(), form), rounds=2)
    # an embedding is 4 bytes, its label 2, its counter 8, each origin's name 10 characters; knowledge has 48 bytes
    # beside its rows
    assert traffic.up[DEVICE] == ROWS * (4 + 2 + 8) + 10 + 2 * (ROWS * row + 48)
    assert traffic.down[DEVICE] == 2 * (ROWS * row + 48)
    assert traffic.up[EDGE] == 2 * ROWS * (4 + 2 + 8) + 20 + 2 * (2 * ROWS * row + 48)
    assert traffic.down[EDGE] == 2 * (2 * ROWS * row + 48)
    assert traffic.of(NodeId("device-000")) == traffic.up[DEVICE] + traffic.down[DEVICE]
    assert traffic.of(NodeId("cloud")) == 0
    assert traffic.total() == 2 * traffic.of(NodeId("device-000")) + traffic.of(NodeId("edge-0"))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_deadlock_is_reported_and_not_waited_for(workers):
    tree = small_tree()
    nodes = toy_nodes(tree, hyperparameters())
    run(tree, nodes, rounds=0)
    programs = {n: distill.round_sequential(tree.places[n], 0) for n in tree.post_order()}
    # version 1 never comes: the edge's neighbours speak of version 0
    programs[NodeId("edge-0")] = distill.round_sequential(tree.places[NodeId("edge-0")], 1)
    with pytest.raises(LocalProtocolError, match=r"all nodes wait for one another: device-000 for Receive\(") as caught:
        drive(programs, nodes, version=0, traffic=Traffic(), workers=workers)
    assert "version=0" in str(caught.value)


def test_a_node_without_its_neighbour_is_a_deadlock_too():
    tree = small_tree()
    nodes = toy_nodes(tree, hyperparameters())
    with pytest.raises(LocalProtocolError, match="edge-0 for ReceiveEmbeddings"):
        drive({NodeId("edge-0"): distill.init(tree.places[NodeId("edge-0")])}, nodes, version=0, traffic=Traffic())


@pytest.mark.parametrize(("schedule", "of_edge"), [("sequential", 3), ("snapshot", 2)])
def test_every_training_pass_is_heard_of(schedule, of_edge):
    tree = small_tree()
    heard = []
    run(tree, toy_nodes(tree, hyperparameters()), schedule, on_train=lambda n, report: heard.append((n, report.rows)))
    assert sorted(n for n, _ in heard) == ["cloud", "device-000", "device-001", *["edge-0"] * of_edge]
    assert dict(heard)["device-000"] == ROWS
    assert dict(heard)["cloud"] == 2 * ROWS


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_node_raises_passes_through(workers):
    tree = small_tree()
    nodes = toy_nodes(tree, hyperparameters())
    nodes[NodeId("device-000")].samples = None
    with pytest.raises(LocalProtocolError, match="device-000: this device has no private samples"):
        run(tree, nodes, workers=workers)


def test_traffic_adds_up_by_direction():
    traffic = Traffic()
    for sender, count in (("device-000", 5), ("edge-0", 7), ("device-000", 11)):
        traffic.add(DEVICE, NodeId(sender), count)
    assert (traffic.up, traffic.down, traffic.total()) == ({DEVICE: 16}, {DEVICE: 7}, 23)
