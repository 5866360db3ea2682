import numpy as np
import pytest
from simulation.worlds import bands, bits, toy_config, toy_nodes

from fedagg_edge import checkpoint, simulate
from fedagg_edge.autoencoder import artefact
from fedagg_edge.config import Hyperparameters, MoveConfig, parse_config
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import Link, Tier
from fedagg_edge.simulation import build, moves
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.fedagg import FedAgg
from fedagg_edge.simulation.run import Resume
from fedagg_edge.tree import plant

TWO_EDGES = {"model": "mlp", "children": [{"model": "mlp", "count": 2, "children": [{"model": "mlp", "count": 3}]}]}
MOVES = [{"round": 1, "share": 0.34, "away": 1}]


def tree_of(raw=TWO_EDGES):
    return plant(toy_config(tree=raw).tree, 0)


def test_the_share_moves_and_nobody_loses_the_last_child():
    tree = tree_of()
    for seed in range(20):
        chosen = moves.choose(tree, MoveConfig(round=1, share=0.5), seed, 0)
        assert len(chosen) == 3
        assert all(parent != tree.places[device].parent for device, parent in chosen.items())
        after = tree.moved(chosen)
        assert all(after.places[n].children for n in after.tier(Tier.EDGE))
        assert sorted(after.places) == sorted(tree.places)
        assert [c for n in after.tier(Tier.EDGE) for c in after.places[n].children] != list(tree.tier(Tier.DEVICE))
    assert moves.choose(tree, MoveConfig(round=1, share=0.5), 3, 0) == moves.choose(
        tree, MoveConfig(round=9, share=0.5), 3, 0
    )


def test_all_but_one_a_parent_can_move():
    assert len(moves.choose(tree_of(), MoveConfig(round=1, share=1.0), 0, 0)) == 4


def test_a_tree_in_which_nobody_can_move():
    lonely = {"model": "mlp", "children": [{"model": "mlp", "children": [{"model": "mlp", "count": 3}]}]}
    with pytest.raises(ConfigError, match=r"moves\[0\]: no device can move"):
        moves.choose(tree_of(lonely), MoveConfig(round=1, share=0.5), 0, 0)


def test_rows_follow_and_only_down_to_the_new_parent(artefact_path):
    config = toy_config(artefact_path, tree=TWO_EDGES)
    world = build.build_world(config, bands(), artefact.load(artefact_path))
    FedAgg(world, {}).init(Traffic())
    cloud = world.nodes["cloud"].store.read_all()
    after = world.tree.moved({"device-000": "edge-1"})
    traffic = Traffic()
    moves.rehome(world.tree, after, world.nodes, traffic)
    assert world.nodes["cloud"].store.read_all().samples.digest == cloud.samples.digest
    assert "device-000" in world.nodes["cloud"].store.read("edge-1").samples.origins
    assert world.nodes["edge-0"].store.read_all().samples.origins == ("device-001", "device-002")
    size = world.nodes["device-000"].store.read_all().nbytes
    assert (traffic.up, traffic.down) == ({}, {Link("edge-1", "cloud"): size})


def test_who_is_away_takes_no_part_and_comes_back_with_its_weights(artefact_path):
    config = toy_config(artefact_path, tree=TWO_EDGES, rounds=3, moves=MOVES, schedule="snapshot")
    world = build.build_world(config, bands(), artefact.load(artefact_path))
    method = FedAgg(world, {})
    method.init(Traffic())
    heard = {n: [] for n in range(3)}
    weights = []
    for number in range(3):
        method.round(number, Traffic(), lambda node, loss, number=number: heard[number].append(node))
        weights.append(bits(world.nodes))
    moved = set(moves.choose(world.tree, config.moves[0], config.seed, 0))
    assert set(heard[0]) == set(heard[2]) == set(world.nodes)
    assert set(heard[1]) == set(world.nodes) - moved
    for device in moved:
        assert weights[0][device] == weights[1][device] != weights[2][device]
        assert world.nodes[device].place.parent != world.tree.places[device].parent


@pytest.mark.parametrize(("rounds", "done"), [(2, 0), (4, 2)])
def test_a_resumed_run_moves_the_same_devices_once(artefact_path, tmp_path, rounds, done):
    config = toy_config(artefact_path, tree=TWO_EDGES, rounds=rounds, moves=MOVES, schedule="snapshot")
    whole = simulate(config, out=tmp_path, dataset=bands())
    tensors = checkpoint.load(tmp_path / "checkpoints").tensors
    again = simulate(config, out=tmp_path, dataset=bands(), resume=Resume(done))
    assert again.bytes_total == whole.bytes_total
    assert tensors.keys() == (resumed := checkpoint.load(tmp_path / "checkpoints").tensors).keys()
    assert all(np.array_equal(tensors[name], resumed[name]) for name in tensors)


def test_methods_that_need_a_fixed_tree_refuse(artefact_path, tmp_path):
    config = toy_config(artefact_path, tree=TWO_EDGES, rounds=2, moves=MOVES, method="hierfavg")
    with pytest.raises(ConfigError, match="moves: HierFAVG cannot train a tree that changes"):
        simulate(config, out=tmp_path / "out", dataset=bands())
    simulate(toy_config(artefact_path, tree=TWO_EDGES, moves=MOVES, method="bridge-only"), out=tmp_path / "b",
             dataset=bands())  # fmt: skip


def test_a_move_after_the_end_is_a_mistake():
    with pytest.raises(ConfigError, match=r"moves\[0\]\.round: got 2, expected 1 to 1"):
        toy_config(moves=[{"round": 2, "share": 0.5}])
    assert parse_config({"name": "x", "data": {"source": "digits"}, "tree": TWO_EDGES}).moves == ()


def test_nodes_of_any_kind_can_be_replanted():
    tree = tree_of()
    nodes = toy_nodes(tree, Hyperparameters())
    migration = moves.Migration(toy_config(tree=TWO_EDGES), tree)
    migration.advance(0, nodes, Traffic())
    assert migration.present.places == tree.places
