import numpy as np
import pytest

from fedagg_edge.baselines.hierarchy import Group, cluster, generalise, group_tree, specialise

# two pairs near each other and a far single: 0-1, 2-3, 4
POINTS = np.array([[0, 0], [0, 1], [10, 0], [10, 1.5], [100, 0]], np.float32)


def merges_by_hand(x_KP):
    """Average linkage, as slowly and as obviously as can be."""
    clusters = {i: [i] for i in range(len(x_KP))}
    merges, fresh = [], len(x_KP)
    while len(clusters) > 1:
        names = sorted(clusters)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]

        def distance(pair):
            return np.mean([np.linalg.norm(x_KP[i] - x_KP[j]) for i in clusters[pair[0]] for j in clusters[pair[1]]])

        a, b = min(pairs, key=distance)
        merges.append([a, b])
        clusters[fresh] = clusters.pop(a) + clusters.pop(b)
        fresh += 1
    return merges


@pytest.mark.parametrize("seed", range(5))
def test_clustering_is_average_linkage(seed):
    x_KP = np.random.default_rng(seed).normal(size=(9, 4)).astype(np.float32)
    assert cluster(x_KP).tolist() == merges_by_hand(x_KP)


def test_one_device_is_a_group_of_its_own():
    assert cluster(POINTS[:1]).shape == (0, 2)
    assert group_tree(cluster(POINTS[:1]), 3) == Group((0,))


def test_the_dendrogram_is_cut_to_so_many_levels():
    merges = cluster(POINTS)
    pairs = Group((Group((0, 1)), Group((2, 3))))
    assert group_tree(merges, 1) == Group((4, Group((0, 1, 2, 3))))
    assert group_tree(merges, 2) == Group((4, pairs))
    assert group_tree(merges, 9) == Group((4, pairs))


def test_a_deep_dendrogram_is_no_trouble():
    count = 3000
    chain = np.array([[0, 1], *([count + i, i + 2] for i in range(count - 2))])  # one device joins at a time
    assert group_tree(chain, 1) == Group((Group(tuple(range(count - 1))), count - 1))


def test_groups_are_means_weighted_by_devices_and_devices_mix_downwards():
    models = [p.astype(np.float32) for p in POINTS]
    alpha = 0.7
    root = generalise(group_tree(cluster(POINTS), 2), models)
    x = POINTS.astype(np.float64)
    left, right = (x[0] + x[1]) / 2, (x[2] + x[3]) / 2
    upper = (2 * left + 2 * right) / 4
    top = (4 * upper + x[4]) / 5
    np.testing.assert_allclose(root.weights_P, top, rtol=1e-6)
    assert root.devices == 5
    devices, parents = specialise(root, models, alpha)

    def down(child, parent):
        return (1 - alpha) * child + alpha * parent

    upper = down(upper, top)
    left, right = down(left, upper), down(right, upper)
    want = [down(x[0], left), down(x[1], left), down(x[2], right), down(x[3], right), down(x[4], top)]
    np.testing.assert_allclose(devices, want, rtol=1e-5)
    np.testing.assert_allclose(parents, [left, left, right, right, top], rtol=1e-5)
    np.testing.assert_array_equal(models, POINTS)  # what was given is left alone
