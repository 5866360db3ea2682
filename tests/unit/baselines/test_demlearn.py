import numpy as np
import pytest
from baselines.rounds import run, weights

from fedagg_edge.baselines import local
from fedagg_edge.baselines.hierarchy import cluster, generalise, group_tree, specialise
from fedagg_edge.baselines.proximal import ProximalLearner
from fedagg_edge.errors import ConfigError

OPTIONS = {"levels": 2, "alpha": 0.6, "mu": 0.5}


def trained_by_hand(method, number, start, centres, mu, *, model="mlp"):
    world, out = method.world, []
    for k, device in enumerate(method.devices):
        place = world.tree.places[device]
        learner = local.shared_learner(world, {}, place, model)
        local.load_weights(learner, start[k])
        drawn = ProximalLearner(learner, centres[k], mu) if number else learner
        local.train_private(world, drawn, place, world.arrays.rows_of[device], "local", device, number)
        out.append(learner.state().weights)
    return out


def test_two_rounds_train_cluster_average_and_mix(method_of):
    method = method_of("demlearn", OPTIONS)
    start = [weights(method, d) for d in method.devices]
    assert all((w == start[0]).all() for w in start)  # all start from one model
    centres = start
    for number in (0, 1):
        models = trained_by_hand(method, number, start, centres, 0.5)
        run(method, first=number)
        root = generalise(group_tree(cluster(np.stack(models)), 2), models)
        np.testing.assert_allclose(root.weights_P, np.mean(np.stack(models), axis=0), atol=1e-6)  # as many each
        start, centres = specialise(root, models, 0.6)
        for device, want in zip(method.devices, start, strict=True):
            np.testing.assert_array_equal(weights(method, device), want)
        np.testing.assert_array_equal(weights(method, "cloud"), root.weights_P)


def test_edges_pass_on_and_have_no_model(method_of):
    method = method_of("demlearn")
    assert method.trained == {"cloud", *method.devices}
    traffic, heard = run(method)
    assert len(heard) == method.passes() == 4
    size = weights(method, "cloud").nbytes
    assert traffic.of("device-000") == 2 * size
    assert traffic.of("edge-0") == 2 * 2 * size


def test_groups_stay_between_clusterings(method_of):
    method = method_of("demlearn", {"period": 2})
    run(method)
    merges = method.snapshot()[0]["method/merges"].copy()
    run(method, first=1)
    np.testing.assert_array_equal(method.snapshot()[0]["method/merges"], merges)


def test_counters_of_batch_norm_do_not_decide_who_is_alike(method_of):
    tree = {"model": "cnn3", "children": [{"model": "cnn3", "count": 2, "children": [{"model": "cnn3", "count": 2}]}]}
    rule = {"rule": "dirichlet", "options": {"alpha": 0.5, "min_samples": 4}}
    method = method_of("demlearn", OPTIONS, tree=tree, partition=rule, training={"batch_size": 2})
    rows_of = method.world.arrays.rows_of
    assert len({len(rows_of[d]) for d in method.devices}) > 1  # or all count the same batches
    start_P = weights(method, "cloud")
    models = np.stack(trained_by_hand(method, 0, [start_P] * 4, [start_P] * 4, 0.0, model="cnn3"))
    run(method)
    table = method.learners["cloud"].state().table
    trained_P = np.repeat([e.trained for e in table], [e.size for e in table])
    merges = method.snapshot()[0]["method/merges"]
    np.testing.assert_array_equal(merges, cluster(models[:, trained_P]))
    assert (merges != cluster(models)).any()  # what the counters would make of it


def test_a_snapshot_holds_all_that_the_next_round_needs(method_of):
    one, other = method_of("demlearn", OPTIONS), method_of("demlearn", OPTIONS)
    run(one, rounds=2)
    other.restore(*one.snapshot())
    run(one, first=2)
    run(other, first=2)
    for node in one.trained:
        np.testing.assert_array_equal(weights(one, node), weights(other, node))


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"alpha": 1.5}, {"mu": -1.0}, {"mu": float("nan")}, {"period": 0}])
def test_options_out_of_range_are_refused(method_of, wrong):
    with pytest.raises(ConfigError, match=r"methods.demlearn: got levels"):
        method_of("demlearn", wrong)


def test_the_term_needs_sgd(method_of):
    adam = {"device": {"optimizer": "adam"}}
    with pytest.raises(ConfigError, match="expected SGD's"):  # before any training
        method_of("demlearn", training=adam)
    run(method_of("demlearn", {"mu": 0.0}, training=adam), rounds=2)
