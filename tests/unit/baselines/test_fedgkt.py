import numpy as np
import pytest
import torch
from baselines.rounds import run, weights

from fedagg_edge.baselines import local
from fedagg_edge.errors import ConfigError, LearnerError
from fedagg_edge.learners.base import Batch
from fedagg_edge.records import Tier

IMAGES = {"cnn": {"builder": "cnn3", "options": {"widths": [2, 3, 4]}}}
CNN_TREE = {"model": "cnn", "children": [{"model": "cnn", "children": [{"model": "cnn", "count": 2}]}]}


def kd_loss(student_NC, teacher_NC, y_N, temperature, beta):
    """CE + beta * T^2 * KL(teacher || student), in float64 by torch."""
    student, teacher = (torch.from_numpy(a.astype(np.float64)) for a in (student_NC, teacher_NC))
    kl = torch.nn.functional.kl_div(
        (student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="batchmean"
    )
    ce = torch.nn.functional.cross_entropy(student, torch.from_numpy(y_N))
    return float(ce + beta * temperature**2 * kl)


def test_both_losses_are_cross_entropy_and_kl_in_hintons_form(method_of):
    """One batch a device, so the reported loss is that before any step."""
    method = method_of("fedgkt", {"beta": 1.5, "temperature": 2.0}, training={"batch_size": 64})
    device = method.devices[0]
    rows = method.world.arrays.rows_of[device]
    x_N, y_N = method.world.arrays.train_x(rows), method.world.arrays.train_y_N[rows]
    run(method)
    before, cloud = method.learners[device].logits(x_N), method._cloud_logits(device, x_N)
    _, heard = run(method, first=1)
    assert heard[0][0] == device
    assert heard[0][1] == pytest.approx(kd_loss(before, cloud, y_N, 2.0, 1.5), rel=1e-5)
    # the cloud's first pass of a round is on the first device's features and logits
    fresh = method_of("fedgkt", {"beta": 1.5, "temperature": 2.0}, training={"batch_size": 64})
    server = fresh.learners["cloud"].state()
    _, heard = run(fresh)
    taught = fresh.learners[device].logits(x_N)
    fresh.learners["cloud"].load_state(server)
    student = fresh._cloud_logits(device, x_N)
    assert heard[4][0] == "cloud"
    assert heard[4][1] == pytest.approx(kd_loss(student, taught, y_N, 2.0, 1.5), rel=1e-5)


def test_in_round_0_devices_have_no_teacher(method_of):
    method = method_of("fedgkt")
    device = method.devices[0]
    place, rows = method.world.tree.places[device], method.world.arrays.rows_of[device]
    arrays, settings = method.world.arrays, method.world.config.training.device
    learner = local.own_learner(method.world, {}, place)  # of the first device: the others' extractors start from it
    rng = local.stream(method.world.config.seed, "local", device, 0)
    x_N, y_N = arrays.train_x(rows), arrays.train_y_N[rows]
    local.taught_pass(learner, x_N, y_N, None, hyperparameters=settings, rng=rng)
    run(method)
    np.testing.assert_array_equal(weights(method, device), learner.state().weights)


def lower(method, device):
    """The extractor's values as one array, running figures among them."""
    return np.concatenate([t.numpy().ravel() for t in method._extractors[device]._lower.state_dict().values()])


def test_all_extractors_start_from_the_same_weights_and_the_classifiers_apart(method_of):
    method = method_of("fedgkt", tree=CNN_TREE, models=IMAGES)
    one, other = method.devices
    own = local.own_learner(method.world, {}, method.world.tree.places[other]).state().arrays()
    started = method.learners[other].state().arrays()
    np.testing.assert_array_equal(lower(method, one), lower(method, other))
    first = method.learners[one].state().arrays()
    for name in started:
        source = first if name.split(".")[0] in "012" else own  # convolution, norm and ReLU are the extractor
        np.testing.assert_array_equal(started[name], source[name])
    assert any((own[name] != first[name]).any() for name in own)


def test_extractors_may_start_apart_and_another_structure_always_does(method_of):
    apart = method_of("fedgkt", {"common_start": False}, tree=CNN_TREE, models=IMAGES)
    assert (lower(apart, "device-000") != lower(apart, "device-001")).any()
    bare = {"builder": "cnn3", "options": {"widths": [2, 5, 4]}}  # the same beginning, another end
    mixed = {"cnn": 0.5, "other": 0.5}
    tree = {"model": "cnn", "children": [{"model": "cnn", "children": [{"model": mixed, "count": 2}]}]}
    method = method_of("fedgkt", tree=tree, models={**IMAGES, "other": bare})
    np.testing.assert_array_equal(lower(method, "device-000"), lower(method, "device-001"))


def test_mixed_the_cloud_makes_one_pass_over_all_features(method_of):
    """One batch: the reported loss is that on all devices' samples at once, before any step."""
    options = {"beta": 1.5, "temperature": 2.0, "mixed": True}
    method = method_of("fedgkt", options, training={"batch_size": 1024})
    server = method.learners["cloud"].state()
    _, heard = run(method)
    assert [node for node, _ in heard] == [*method.devices, "cloud"]
    assert method.passes() == len(heard)
    taught = np.concatenate([method.learners[d].logits(method._private(d)[0]) for d in method.devices])
    y_N = np.concatenate([method._private(d)[1] for d in method.devices])
    method.learners["cloud"].load_state(server)
    student = np.concatenate([method._cloud_logits(d, method._private(d)[0]) for d in method.devices])
    assert heard[-1][1] == pytest.approx(kd_loss(student, taught, y_N, 2.0, 1.5), rel=1e-5)


def test_the_cloud_trains_on_features_of_the_devices_lower_part(method_of):
    method = method_of("fedgkt", tree=CNN_TREE, models=IMAGES)
    assert method.feature_shape == (2, 8, 8)  # convolution, norm and ReLU; pooling comes after
    seen = []
    step = method.learners["cloud"].step

    def spy(batch: Batch, hyperparameters):
        seen.append(batch)
        return step(batch, hyperparameters)

    method.learners["cloud"].step = spy
    run(method)
    sent = np.concatenate([method._extractors[d].features(method._private(d)[0]) for d in method.devices])
    assert {f.tobytes() for b in seen for f in b.bridge_x_N} == {f.tobytes() for f in sent}


def test_bytes_are_features_logits_and_labels(method_of):
    method = method_of("fedgkt", tree=CNN_TREE, models=IMAGES)
    traffic, heard = run(method)
    assert len(heard) == method.passes() == 4
    count, classes = len(method.world.arrays.rows_of["device-000"]), 3
    each = count * (4 * 2 * 8 * 8 + 4 * classes + 2) + count * 4 * classes
    assert traffic.of("device-000") == each
    assert traffic.of("edge-0") == 2 * each


def test_the_cloud_is_judged_through_every_devices_extractor(method_of):
    method = method_of("fedgkt")
    run(method)
    x_N, y_N = method.world.arrays.test_x_N, method.world.arrays.test_y_N
    right = [method._cloud_logits(method.devices[i % 4], x_N[i : i + 1]).argmax() == y_N[i] for i in range(len(y_N))]
    assert method.hits(["cloud"], x_N, y_N)["cloud"].tolist() == right
    assert list(method.hits(["device-001", "cloud"], x_N, y_N)) == ["device-001", "cloud"]


def test_a_snapshot_is_all_that_the_next_round_needs(method_of):
    one, other = method_of("fedgkt"), method_of("fedgkt")
    run(one, rounds=2)
    other.restore(*one.snapshot())
    run(one, first=2)
    run(other, first=2)
    for node in one.trained:
        np.testing.assert_array_equal(weights(one, node), weights(other, node))


def test_features_of_different_shapes_are_refused(method_of):
    tree = {"model": "mlp", "children": [{"model": {"mlp": 0.5, "wide": 0.5}, "count": 2}]}
    models = {"wide": {"builder": "mlp", "options": {"hidden": [40]}}}
    with pytest.raises(ConfigError, match=r"features of different shapes, .*\(32,\).*methods.fedgkt.cut"):
        method_of("fedgkt", tree=tree, models=models)


def test_a_server_that_does_not_take_the_features_says_so(method_of):
    tree = {"model": "resnet10", "children": [{"model": "mlp", "count": 2}]}
    with pytest.raises(LearnerError, match=r"resnet10.*\(32,\)"):
        method_of("fedgkt", tree=tree)


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"temperature": 0.0}])
def test_weights_out_of_range_are_refused(method_of, wrong):
    with pytest.raises(ConfigError, match=r"methods.fedgkt: got beta"):
        method_of("fedgkt", wrong)


def test_beta_and_temperature_are_the_methods_own(method_of):
    method = method_of("fedgkt", training={"beta": 7.0})
    settings = method.hyperparameters(Tier.DEVICE)
    assert (settings.beta, settings.temperature, settings.kl_weight) == (1.5, 1.0, 1.5)
