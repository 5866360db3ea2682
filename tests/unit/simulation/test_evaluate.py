import numpy as np
import pytest
from simulation.worlds import toy_nodes
from toys import hyperparameters, small_tree

from fedagg_edge.config import NodeGroup
from fedagg_edge.records import Tier
from fedagg_edge.simulation.evaluate import accuracy, evaluate, evaluated_nodes, hits, on_own_mix, view_accuracies
from fedagg_edge.tree import plant


class Echo:
    """Its logits are its input."""

    def logits(self, x_N):
        return x_N


def test_accuracy_is_the_share_of_right_largest_logits():
    x = np.array([[1, 0, 0], [0, 2, 1], [0, 0, 3], [5, 4, 0]], np.float32)
    assert accuracy(Echo(), x, np.array([0, 1, 1, 1])) == 0.5
    assert accuracy(Echo(), x, np.array([0, 1, 2, 0])) == 1.0


def test_hits_say_which():
    x = np.array([[1, 0, 0], [0, 2, 1], [0, 0, 3]], np.float32)
    assert hits(Echo(), x, np.array([0, 2, 2])).tolist() == [True, False, True]


def test_on_its_own_mix_a_class_counts_as_often_as_a_device_has_it():
    y = np.array([0, 0, 0, 0, 1, 1, 2])
    right = np.array([1, 0, 0, 0, 1, 1, 0], bool)  # by class 1/4, 1, 0
    assert on_own_mix(right, y, np.array([0])) == 0.25
    assert on_own_mix(right, y, np.array([0, 1, 1, 1])) == pytest.approx(0.25 * 0.25 + 0.75)
    assert on_own_mix(right, y, np.array([2, 2])) == 0.0
    assert on_own_mix(right, y, y) == pytest.approx(right.mean())


def test_classes_that_are_not_tested_do_not_count():
    y, right = np.array([0, 0, 2]), np.array([True, False, True])
    assert on_own_mix(right, y, np.array([0, 1, 1, 5])) == 0.5
    assert on_own_mix(right, y, np.array([1, 5])) is None


WIDE = plant(NodeGroup(model="m", children=(NodeGroup(model="m", children=(NodeGroup(model="m", count=10),)),)), 0)


@pytest.mark.parametrize("count", range(1, 12))
def test_some_devices_are_spread_over_the_tree(count):
    chosen = evaluated_nodes(WIDE, count)
    devices = [n for n in chosen if WIDE.places[n].tier is Tier.DEVICE]
    assert chosen[:2] == ("cloud", "edge-0")
    assert len(devices) == len(set(devices)) == min(count, 10)
    if count > 1:
        assert (devices[0], devices[-1]) == ("device-000", "device-009")


def test_zero_means_all_devices():
    assert evaluated_nodes(WIDE, 0) == ("cloud", "edge-0", *WIDE.tier(Tier.DEVICE))


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_each_node_is_asked_for_itself(workers):
    nodes = toy_nodes(small_tree(), hyperparameters())
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 1, 2, 2), np.float32), rng.integers(0, 3, 40)
    found = evaluate({n: node.learner for n, node in nodes.items()}, ["device-001", "cloud"], x, y, workers)
    assert list(found) == ["device-001", "cloud"]
    for name, right_N in found.items():
        np.testing.assert_array_equal(right_N, nodes[name].learner.logits(x).argmax(axis=1) == y)
        assert right_N.mean() == accuracy(nodes[name].learner, x, y)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_that_fails_is_heard_of(workers):
    class Broken:
        def logits(self, x_N):
            raise ValueError("no logits")

    x, y = np.eye(3, dtype=np.float32), np.arange(3)
    with pytest.raises(ValueError, match="no logits"):
        evaluate({"a": Echo(), "b": Broken(), "c": Echo()}, ["a", "b", "c"], x, y, workers)


class Blur:
    """An autoencoder that leaves class 0 no brightness."""

    def encode(self, x_N):
        return np.rint(x_N).astype(np.uint8)

    def decode(self, code_NB):
        return code_NB.astype(np.float32) * np.array([0, 1, 1], np.float32)


def test_views_of_one_model():
    x = np.array([[3, 0, 0], [2, 1, 0], [2, 0, 9], [9, 1, 0]], np.float32)  # Echo's logits
    y = np.array([0, 1, 2, 0])
    got = view_accuracies(Echo().logits, Blur(), x, y, ("raw", "bridge", "both"))
    # bridge logits 000, 010, 009, 010; in row 1 the sums for classes 0 and 1 are 0.67 + 0.21 and 0.24 + 0.58
    assert got == {"raw": 0.75, "bridge": 0.75, "both": 0.75}
    y = np.array([0, 1, 2, 1])
    got = view_accuracies(Echo().logits, Blur(), x, y, ("bridge", "both"))
    assert got == {"bridge": 1.0, "both": 0.5}


def test_both_is_the_mean_of_probabilities():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (400, 3)).astype(np.float32).clip(0, 9)
    y = rng.integers(0, 3, 400)
    p = [np.exp(z.astype(np.float64)) for z in (x, Blur().decode(Blur().encode(x)))]
    mean = sum(e / e.sum(axis=1, keepdims=True) for e in p) / 2
    want = float((mean.argmax(axis=1) == y).mean())
    got = view_accuracies(Echo().logits, Blur(), x, y, ("raw", "bridge", "both"))
    assert got["both"] == want
    assert len({*got.values()}) == 3
