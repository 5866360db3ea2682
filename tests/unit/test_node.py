import numpy as np
import pytest
from test_distill import ROWS, make_nodes, run
from toys import hyperparameters, small_tree

from fedagg_edge import distill
from fedagg_edge.errors import LocalProtocolError, RemoteProtocolError
from fedagg_edge.records import Knowledge, Link, LogitsFormat, PackedLogits
from fedagg_edge.samples import PrivateSamples


@pytest.fixture
def nodes():
    tree = small_tree()
    made = make_nodes(tree, hyperparameters())
    run(tree, made, "sequential", 0)
    return made


LINK = Link(child="device-000", parent="edge-0")


def test_knowledge_names_its_sample_set_and_comes_in_the_agreed_format(nodes):
    edge = nodes["edge-0"]
    edge.knowledge_format = LogitsFormat.INT8
    knowledge = edge.perform(distill.Predict(LINK, 7), 7)
    assert (knowledge.version, knowledge.publisher, knowledge.federation) == (7, "edge-0", "toy")
    assert knowledge.digest == nodes["device-000"].samples.samples.digest
    assert knowledge.logits.value_NC.dtype == np.int8
    report = nodes["device-000"].perform(distill.Train((distill.Received(knowledge),), "x"), 7)
    assert report.rows == ROWS
    assert report.kl > 0


def test_predicting_changes_nothing(nodes):
    before = nodes["cloud"].learner.state().weights
    nodes["cloud"].perform(distill.Predict(Link("edge-0", "cloud"), 0), 0)
    np.testing.assert_array_equal(nodes["cloud"].learner.state().weights, before)


def test_knowledge_that_does_not_fit_is_refused_before_any_step(nodes):
    device = nodes["device-000"]
    good = nodes["edge-0"].perform(distill.Predict(LINK, 0), 0)
    before = device.learner.state().weights
    short = PackedLogits(LogitsFormat.F32, good.logits.value_NC[:-1])
    for bad, kind in (
        (Knowledge("toy", LINK, "edge-0", 0, "f" * 64, 0, good.logits), RemoteProtocolError),
        (Knowledge("toy", LINK, "edge-0", 0, good.digest, 0, short), RemoteProtocolError),
        (Knowledge("other", LINK, "edge-0", 0, good.digest, 0, good.logits), RemoteProtocolError),
    ):
        with pytest.raises(kind):
            device.perform(distill.Train((distill.Received(bad),), "x"), 0)
    np.testing.assert_array_equal(device.learner.state().weights, before)


def test_what_is_not_a_nodes_to_do(nodes):
    with pytest.raises(LocalProtocolError, match="Receive is not for the node to perform"):
        nodes["cloud"].perform(distill.Receive(LINK, 0), 0)
    with pytest.raises(LocalProtocolError, match="cloud: this cloud has no private samples to encode"):
        nodes["cloud"].perform(distill.Encode(), 0)


def test_every_node_owns_its_model(nodes):
    before = {n: node.learner.state().weights for n, node in nodes.items()}
    knowledge = nodes["edge-0"].perform(distill.Predict(LINK, 0), 0)
    nodes["device-000"].perform(distill.Train((distill.Received(knowledge),), "x"), 0)
    changed = [n for n, node in nodes.items() if not np.array_equal(before[n], node.learner.state().weights)]
    assert changed == ["device-000"]


def test_old_knowledge_moves_a_node_less(nodes):
    knowledge = nodes["edge-0"].perform(distill.Predict(LINK, 0), 0)
    device = nodes["device-000"]
    start, moved = device.learner.state(), []
    for age in (0, 8):
        device.learner.load_state(start)
        device.hyperparameters = hyperparameters(beta=1.0, gamma=1.0, staleness=1.0)
        report = device.perform(distill.Train((distill.Received(knowledge, age),), "x"), 0)
        moved.append(report.kl)
    assert moved[1] == pytest.approx(moved[0] / 9, rel=0.2)


def test_a_device_trains_on_what_it_still_has(nodes):
    device = nodes["device-000"]
    knowledge = nodes["edge-0"].perform(distill.Predict(LINK, 0), 0)
    whole = device.samples
    device.samples = PrivateSamples(
        whole.origin, whole.classes, whole.x_N[3:], whole.y_N[3:], whole.samples.counters[0][3:]
    )
    assert device.perform(distill.Train((distill.Received(knowledge),), "x"), 0).rows == ROWS - 3
