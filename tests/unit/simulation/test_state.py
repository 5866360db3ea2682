import json

import numpy as np
import pytest
from simulation.worlds import bits, toy_nodes
from toys import hyperparameters, small_tree

from fedagg_edge.config import NodeGroup
from fedagg_edge.errors import CheckpointError, LearnerError
from fedagg_edge.learners.base import Batch
from fedagg_edge.records import Link, NodeId
from fedagg_edge.simulation import state
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.tree import plant


def trained_nodes(seed=0):
    """Nodes whose optimizers have something in their slots."""
    nodes = toy_nodes(small_tree(), hyperparameters())
    rng = np.random.default_rng(seed)
    for node in nodes.values():
        batch = Batch(rng.random((4, 1, 2, 2), np.float32), rng.integers(0, 3, 4), rng.random((4, 3), np.float32))
        node.learner.step(batch, hyperparameters())
    return nodes


def learners(nodes):
    return {name: node.learner for name, node in nodes.items()}


def test_nodes_come_back_to_the_bit_with_their_optimizers():
    nodes = trained_nodes()
    tensors, meta = state.snapshot_learners(learners(nodes))
    meta = json.loads(json.dumps(meta))  # as a manifest gives it back
    others = trained_nodes(seed=1)
    assert bits(others) != bits(nodes)
    state.restore_learners(learners(others), tensors, meta)
    assert bits(others) == bits(nodes)
    for name, node in nodes.items():
        ours, theirs = node.learner.state(), others[name].learner.state()
        assert ours.steps == theirs.steps == 1
        np.testing.assert_array_equal(ours.slots["momentum"], theirs.slots["momentum"])


def test_a_snapshot_takes_no_copies_of_learners_that_can_be_looked_at():
    """All learners' copies at once are more than a round of training needs."""
    nodes = trained_nodes()
    tensors, _ = state.snapshot_learners(learners(nodes))
    for name, node in nodes.items():
        own = node.learner.look()
        assert np.shares_memory(tensors[f"{name}/weights"], own.weights)
        assert np.shares_memory(tensors[f"{name}/slot/momentum"], own.slots["momentum"])
        np.testing.assert_array_equal(tensors[f"{name}/weights"], node.learner.state().weights)


def test_tensors_are_named_by_node():
    tensors, meta = state.snapshot_learners(learners(trained_nodes()))
    assert set(tensors) == {f"{n}/{what}" for n in small_tree().places for what in ("weights", "slot/momentum")}
    assert meta["cloud"]["table"] == [["1.weight", [3, 4], True], ["1.bias", [3], True]]


def test_another_trees_checkpoint_is_refused():
    tensors, meta = state.snapshot_learners(learners(trained_nodes()))
    leaves = NodeGroup(model="m", count=3)
    others = toy_nodes(plant(NodeGroup(model="m", children=(leaves,)), 0), hyperparameters())
    with pytest.raises(CheckpointError, match="4 nodes that are not this tree's 4"):
        state.restore_learners(learners(others), tensors, meta)


def test_another_models_weights_are_refused():
    tensors, meta = state.snapshot_learners(learners(trained_nodes()))
    meta["cloud"]["table"] = [["1.weight", [3, 4], True], ["1.offset", [3], True]]
    with pytest.raises(LearnerError, match=r"got '1.offset' \(3,\), this model has '1.bias' \(3,\)"):
        state.restore_learners(learners(trained_nodes()), tensors, meta)


def test_traffic_comes_back():
    traffic = Traffic()
    for child, parent, sender, count in [("b", "a", "b", 5), ("b", "a", "a", 7), ("c", "a", "a", 9)]:
        traffic.add(Link(NodeId(child), NodeId(parent)), NodeId(sender), count)
    rows = state.snapshot_traffic(traffic)
    assert rows == [["b", "a", 5, 7], ["c", "a", 0, 9]]
    back = state.restore_traffic(json.loads(json.dumps(rows)))
    assert (back.total(), back.of(NodeId("b")), back.of(NodeId("c"))) == (21, 12, 9)
    assert state.snapshot_traffic(back) == rows
