import numpy as np
import pytest
from baselines.rounds import run, weights

from fedagg_edge.baselines import local
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import Tier

DEVICES = ["device-000", "device-001", "device-002", "device-003"]


def sizes(method):
    return np.array([len(method.world.arrays.rows_of[d]) for d in DEVICES], float)


def by_hand(method, number, start_P, repeats):
    """Algorithm 1 in plain float64: edges' means of trained devices, `repeats` times, then the cloud's mean of
    edges."""
    world, n = method.world, sizes(method)
    edges = [start_P.astype(np.float64)] * 2
    for repeat in range(repeats):
        trained = []
        for k, device in enumerate(DEVICES):
            place = world.tree.places[device]
            learner = local.shared_learner(world, {}, place, "mlp")
            local.load_weights(learner, edges[k // 2].astype(np.float32))
            path = ("local", device, number, 0, repeat, 0)
            local.train_private(world, learner, place, world.arrays.rows_of[device], *path)
            trained.append(learner.state().weights.astype(np.float64))
        edges = [(n[i] * trained[i] + n[i + 1] * trained[i + 1]) / (n[i] + n[i + 1]) for i in (0, 2)]
    cloud = (n[:2].sum() * edges[0] + n[2:].sum() * edges[1]) / n.sum()
    return trained, edges, cloud


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_round_is_algorithm_1(method_of, repeats):
    rule = {"rule": "dirichlet", "options": {"alpha": 1.0, "min_samples": 4}}
    method = method_of("hierfavg", {"edge_rounds": repeats}, partition=rule)
    assert len(set(sizes(method))) > 1  # or the weights would not show
    start_P = weights(method, "cloud")
    trained, edges, cloud = by_hand(method, 0, start_P, repeats)
    run(method)
    for device, want in zip(DEVICES, trained, strict=True):
        np.testing.assert_allclose(weights(method, device), want, atol=1e-6)
    for edge, want in zip(["edge-0", "edge-1"], edges, strict=True):
        np.testing.assert_allclose(weights(method, edge), want, atol=1e-6)
    np.testing.assert_allclose(weights(method, "cloud"), cloud, atol=1e-6)


def test_passes_and_bytes(method_of):
    method = method_of("hierfavg", {"local_passes": 2, "edge_rounds": 3})
    traffic, heard = run(method)
    assert len(heard) == method.passes() == 4 * 2 * 3
    size = weights(method, "cloud").nbytes
    assert traffic.of("device-000") == 2 * 3 * size
    assert traffic.of("edge-0") == 2 * size


def test_it_stops_at_nothing_below_one(method_of):
    with pytest.raises(ConfigError, match=r"methods.hierfavg: got local_passes 0"):
        method_of("hierfavg", {"local_passes": 0})


def test_a_device_straight_below_the_cloud_is_averaged_there(method_of):
    edge = {"model": "mlp", "children": [{"model": "mlp", "count": 2}]}
    method = method_of("hierfavg", tree={"model": "mlp", "children": [{"model": "mlp"}, edge]})
    run(method)
    devices = method.world.tree.tier(Tier.DEVICE)
    n = {d: len(method.world.arrays.rows_of[d]) for d in devices}
    want = sum(n[d] * weights(method, d).astype(np.float64) for d in devices) / sum(n.values())
    np.testing.assert_allclose(weights(method, "cloud"), want, atol=1e-6)


def test_per_edge_every_edge_goes_its_own_way(method_of):
    method = method_of("fedavg-per-edge")
    assert method.trained == {"edge-0", "edge-1", *DEVICES}
    assert method.product() is None
    np.testing.assert_array_equal(weights(method, "edge-0"), weights(method, "edge-1"))
    traffic, heard = run(method, rounds=2)
    assert len(heard) == 2 * method.passes() == 8
    n = sizes(method)
    for edge, (i, j) in {"edge-0": (0, 1), "edge-1": (2, 3)}.items():
        pair = [weights(method, DEVICES[k]).astype(np.float64) for k in (i, j)]
        want = (n[i] * pair[0] + n[j] * pair[1]) / (n[i] + n[j])
        np.testing.assert_allclose(weights(method, edge), want, atol=1e-6)
    assert traffic.of("edge-0") == 0
    assert traffic.of("device-000") == 4 * weights(method, "edge-0").nbytes


def test_per_edge_needs_edges(method_of):
    tree = {"model": "mlp", "children": [{"model": "mlp", "count": 2}]}
    with pytest.raises(ConfigError, match="device-000 hangs below the cloud"):
        method_of("fedavg-per-edge", tree=tree)
