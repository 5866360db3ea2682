import dataclasses

import numpy as np
import pytest
from test_distill import ROWS, make_nodes, run
from toys import hyperparameters, small_tree

from fedagg_edge import distill
from fedagg_edge.errors import LocalProtocolError, RemoteProtocolError
from fedagg_edge.passes import bridge_logits, pass_batches
from fedagg_edge.records import Knowledge, Link, LogitsFormat, PackedLogits
from fedagg_edge.samples import PrivateSamples
from fedagg_edge.teachers import Rectifier, ensemble, trust_weights
from fedagg_edge.views import look


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


@pytest.mark.parametrize("trust", ["confidence", "correct"])
def test_rows_count_as_their_teacher_is_trusted(nodes, trust):
    device = nodes["device-000"]
    knowledge = nodes["edge-0"].perform(distill.Predict(LINK, 0), 0)
    z_NC, label_N = knowledge.logits.value_NC, device.embeddings(LINK).label_N
    want_N = trust_weights(z_NC, label_N, trust)
    device.hyperparameters = hyperparameters(teacher_trust=trust, staleness=1.0)
    for age in (0, 3):
        lesson, _ = device.study((distill.Received(knowledge, age),), "x", 0)
        np.testing.assert_array_equal(lesson.teacher_NC, z_NC)
        np.testing.assert_allclose(lesson.teacher_weight_N, want_N / (1 + age), rtol=1e-6)


def test_teachers_that_are_all_wrong_and_not_trusted_teach_nothing(nodes):
    edge, device = nodes["edge-0"], nodes["device-000"]
    known = device.perform(distill.Predict(LINK, 0), 0)
    label_N = edge.embeddings(LINK).label_N
    wrong_NC = -10 * np.eye(3, dtype=np.float32)[label_N]
    knowledge = dataclasses.replace(known, logits=PackedLogits(LogitsFormat.F32, wrong_NC))
    start, after = edge.learner.state(), []
    for changes in ({"teacher_trust": "correct"}, {"beta": 0.0}, {}):
        edge.learner.load_state(start)
        edge.hyperparameters = hyperparameters(**changes)
        report = edge.perform(distill.Train((distill.Received(knowledge),), "x"), 0)
        after.append((report.kl, edge.learner.state().weights))
    assert after[0][0] == 0 < after[2][0]
    np.testing.assert_allclose(after[0][1], after[1][1], rtol=1e-6)
    assert np.abs(after[0][1] - after[2][1]).max() > 0.01


def test_a_node_with_a_rectifier_learns_from_what_it_mended(nodes):
    device = nodes["device-000"]
    knowledge = nodes["edge-0"].perform(distill.Predict(LINK, 0), 0)
    device.rectifier, other = Rectifier(3, 4), Rectifier(3, 4)
    device.rows_in(distill.Received(knowledge))  # looks at it, but learns nothing
    assert not device.rectifier.state()["count"].any()
    lesson, _ = device.study((distill.Received(knowledge),), "x", 0)
    want_NC = other.rectify(knowledge.logits.value_NC, device.embeddings(LINK).label_N)
    np.testing.assert_array_equal(lesson.teacher_NC, want_NC)
    assert device.rectifier.state()["count"].any()


def test_the_learning_rate_is_that_of_the_version(nodes):
    device = nodes["device-000"]
    knowledge = nodes["edge-0"].perform(distill.Predict(LINK, 0), 0)
    falling = {"learning_rate_schedule": "step", "decay_rounds": 1, "decay_factor": 0.0}
    device.hyperparameters = hyperparameters(**falling)
    before = device.learner.state().weights
    device.perform(distill.Train((distill.Received(knowledge),), "x"), 1)
    np.testing.assert_array_equal(device.learner.state().weights, before)
    device.perform(distill.Train((distill.Received(knowledge),), "x"), 0)
    assert not np.array_equal(device.learner.state().weights, before)


@pytest.mark.parametrize("held", [ROWS, ROWS - 3])
def test_teacher_and_student_see_the_same_views(nodes, held):
    edge, device = nodes["edge-0"], nodes["device-000"]
    edge.views = device.views = "mirror+shift"
    knowledge, later = (edge.perform(distill.Predict(LINK, n), n) for n in (3, 4))
    assert 0 != knowledge.view_seed != later.view_seed != 0
    whole = device.samples
    device.samples = PrivateSamples(
        whole.origin, whole.classes, whole.x_N[-held:], whole.y_N[-held:], whole.samples.counters[0][-held:]
    )
    lesson, _ = device.study((distill.Received(knowledge),), "x", 3)
    batches = pass_batches(device.bridge, lesson, device.hyperparameters, np.random.default_rng(0))
    seen = 0
    for batch in batches:
        np.testing.assert_allclose(edge.learner.logits(batch.bridge_x_N), batch.teacher_NC, rtol=1e-5, atol=1e-6)
        seen += len(batch.bridge_x_N)
    assert seen == held
    plain_NC = bridge_logits(edge.learner, edge.bridge, edge.embeddings(LINK).code_NB)
    assert np.abs(plain_NC - knowledge.logits.value_NC).max() > 0.01


def test_childrens_views_are_joined_row_by_row(nodes):
    edge = nodes["edge-0"]
    for node in nodes.values():
        node.views = "shift"
    children = [nodes[n] for n in ("device-000", "device-001")]
    known = [c.perform(distill.Predict(c.place.link, 0), 0) for c in children]
    lesson, _ = edge.study(tuple(distill.Received(k) for k in known), "children", 0)
    x_N = look(edge.bridge.decode(lesson.code_NB), lesson.view_NA)
    want_NC = np.concatenate([c.learner.logits(x) for c, x in zip(children, (x_N[:ROWS], x_N[ROWS:]), strict=True)])
    np.testing.assert_allclose(lesson.teacher_NC, want_NC, rtol=1e-5, atol=1e-6)


def test_knowledge_on_a_view_that_a_node_cannot_see_is_refused(nodes):
    nodes["edge-0"].views = "mirror"
    knowledge = nodes["edge-0"].perform(distill.Predict(LINK, 0), 0)
    with pytest.raises(RemoteProtocolError, match=r"got logits on view \d+ of the bridge samples, this node sees them"):
        nodes["device-000"].perform(distill.Train((distill.Received(knowledge),), "x"), 0)


@pytest.mark.parametrize("rule", ["mean", "entropy"])
def test_an_edge_learns_from_its_parent_and_its_children_at_once(nodes, rule):
    edge, cloud = nodes["edge-0"], nodes["cloud"]
    edge.hyperparameters = hyperparameters(teacher_ensemble=rule)
    up = Link("edge-0", "cloud")
    by_parent = cloud.perform(distill.Predict(up, 1), 1)
    links = [Link(child, "edge-0") for child in ("device-000", "device-001")]
    by_children = [nodes[link.child].perform(distill.Predict(link, 1), 1) for link in links]
    lesson, _ = edge.study(tuple(map(distill.Received, by_children)), "children", 1)
    np.testing.assert_array_equal(lesson.teacher_NC, np.concatenate([k.logits.value_NC for k in by_children]))
    lesson, _ = edge.study((distill.Received(by_parent),), "x", 1)
    held, parent_NC = edge.embeddings(up).samples, by_parent.logits.value_NC
    others = [
        (edge.embeddings(link).samples.contains(held), k.logits.value_NC)
        for link, k in zip(links, by_children, strict=True)
    ]
    np.testing.assert_array_equal(lesson.teacher_NC, ensemble(parent_NC, others, rule))
    assert np.abs(lesson.teacher_NC - parent_NC).max() > 0.01
    # what was taught in another round says nothing
    edge.study(tuple(map(distill.Received, by_children)), "children", 1)
    lesson, _ = edge.study((distill.Received(by_parent),), "x", 2)
    np.testing.assert_array_equal(lesson.teacher_NC, parent_NC)


def test_each_link_has_its_beta(nodes):
    edge = nodes["edge-0"]
    edge.hyperparameters = hyperparameters(beta=3.0, children_beta=0.0, parent_beta=2.0)
    up = distill.Received(nodes["cloud"].perform(distill.Predict(Link("edge-0", "cloud"), 0), 0))
    down = distill.Received(nodes["device-000"].perform(distill.Predict(LINK, 0), 0))
    assert edge.settings((up,), 0).beta == 2.0
    assert edge.settings((down,), 0).beta == 0.0
    edge.hyperparameters = hyperparameters(beta=3.0)
    assert edge.settings((up,), 0).beta == edge.settings((down,), 0).beta == 3.0
    start, reports = edge.learner.state(), []
    for changes in ({"children_beta": 0.5, "beta": 3.0}, {"beta": 0.5}, {"beta": 3.0}):
        edge.learner.load_state(start)
        edge.hyperparameters = hyperparameters(**changes)
        reports.append(edge.perform(distill.Train((down,), "x"), 0))
    assert reports[0] == reports[1] != reports[2]


def test_each_link_has_its_temperature(nodes):
    edge = nodes["edge-0"]
    edge.hyperparameters = hyperparameters(temperature=3.0, children_temperature=1.5, parent_temperature=4.0)
    up = distill.Received(nodes["cloud"].perform(distill.Predict(Link("edge-0", "cloud"), 0), 0))
    down = distill.Received(nodes["device-000"].perform(distill.Predict(LINK, 0), 0))
    assert edge.settings((up,), 0).temperature == 4.0
    assert edge.settings((down,), 0).temperature == 1.5
    start, reports = edge.learner.state(), []
    for changes in ({"children_temperature": 1.5, "temperature": 3.0}, {"temperature": 1.5}, {"temperature": 3.0}):
        edge.learner.load_state(start)
        edge.hyperparameters = hyperparameters(**changes)
        reports.append(edge.perform(distill.Train((down,), "x"), 0))
    assert reports[0] == reports[1] != reports[2]
