import msgspec
import pytest
from simulation.worlds import bands, bits, toy_config

from fedagg_edge import distill
from fedagg_edge.autoencoder import artefact
from fedagg_edge.errors import CheckpointError, ConfigError
from fedagg_edge.simulation import build
from fedagg_edge.simulation.driver import Traffic, drive
from fedagg_edge.simulation.fedagg import FedAgg


@pytest.fixture
def world_of(artefact_path):
    def make(with_nodes=True, **changes):
        config = toy_config(artefact_path, **changes)
        return build.build_world(config, bands(), artefact.load(artefact_path), with_nodes=with_nodes)

    return make


@pytest.mark.parametrize("schedule", ["sequential", "snapshot"])
def test_it_drives_the_nodes_programs(world_of, schedule):
    world, other = world_of(schedule=schedule), world_of(schedule=schedule)
    method, traffic, heard = FedAgg(world, {}), Traffic(), []
    method.init(traffic)
    method.round(0, traffic, lambda node, loss: heard.append((node, loss)))
    places, moved = other.tree.places, Traffic()
    for program in (distill.init, lambda p: distill.SCHEDULES[schedule](p, 0)):
        drive({n: program(places[n]) for n in other.tree.post_order()}, other.nodes, version=0, traffic=moved)
    assert bits(world.nodes) == bits(other.nodes)
    assert (traffic.up, traffic.down) == (moved.up, moved.down)
    assert len(heard) == method.passes()
    assert {node for node, _ in heard} == set(world.nodes) == method.trained


@pytest.mark.parametrize("schedule", ["sequential", "snapshot"])
def test_nodes_at_work_at_the_same_time_come_to_the_same_bits(world_of, schedule):
    worlds = [world_of(schedule=schedule, workers=workers, bridge_views="shift") for workers in (1, 3)]
    for world in worlds:
        method = FedAgg(world, {})
        method.init(Traffic())
        for number in range(3):
            method.round(number, Traffic(), lambda node, loss: None)
    assert bits(worlds[0].nodes) == bits(worlds[1].nodes)


def test_dropout_and_several_workers_are_refused(artefact_path, tmp_path):
    (tmp_path / "noisy.py").write_text(
        "from torch import nn\n"
        "def build(sample_shape, classes, p=0.5):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(p), nn.LazyLinear(classes))\n",
        encoding="utf-8",
    )
    leaves = {"model": "mlp", "children": [{"model": "noisy", "count": 2}]}

    def world(p):
        models = {"noisy": {"builder": "noisy:build", "options": {"p": p}}}
        config = toy_config(artefact_path, workers=2, models=models, tree=leaves)
        config = msgspec.structs.replace(config, base_dir=str(tmp_path))
        return build.build_world(config, bands(), artefact.load(artefact_path))

    with pytest.raises(ConfigError, match=r"workers: got more than 1, but device-\d+'s model has dropout"):
        FedAgg(world(0.5), {})
    FedAgg(world(0.0), {})


def test_a_world_without_nodes_is_refused(world_of):
    with pytest.raises(ConfigError, match="fedagg: the world was built without nodes"):
        FedAgg(world_of(with_nodes=False), {})


def test_a_snapshot_holds_the_queues_of_rectification_where_there_are_any(world_of):
    plain = FedAgg(world_of(), {})
    assert not [key for key in plain.snapshot()[0] if "rectifier" in key]
    method = FedAgg(world_of(training={"cloud": {"rectification": 3}}), {})
    method.init(Traffic())
    method.round(0, Traffic(), lambda node, loss: None)
    tensors, meta = method.snapshot()
    assert {key for key in tensors if "rectifier" in key} == {"cloud/rectifier/values", "cloud/rectifier/count"}
    again = FedAgg(world_of(training={"cloud": {"rectification": 3}}), {})
    again.restore(tensors, meta)
    for key, array in again.snapshot()[0].items():
        assert array.tobytes() == tensors[key].tobytes()
    with pytest.raises(CheckpointError, match="rectification: got nothing as values"):
        again.restore(*plain.snapshot())


@pytest.mark.parametrize("schedule", ["sequential", "snapshot"])
def test_a_run_with_every_option_of_distillation_goes_on_from_a_snapshot_to_the_bit(world_of, schedule):
    """What ensembles and split norms remember is in the learners' states, or does not outlive a round."""
    training = {
        **{"teacher_ensemble": "mean", "distillation": "decoupled", "non_target_weight": 2.0},
        **{"parent_temperature": 2.0, "children_temperature": 4.0},
    }
    models = {"split": {"builder": "cnn3", "options": {"widths": [4, 4]}, "batch_norm": "split"}}
    device = {"model": "split", "count": 2}
    tree = {"model": "mlp", "children": [{"model": "mlp", "children": [device]}]}
    changes = {"schedule": schedule, "training": training, "models": models, "tree": tree}
    whole, first, second = (FedAgg(world_of(**changes), {}) for _ in range(3))
    for method in (whole, first, second):
        method.init(Traffic())
    for number in range(2):
        whole.round(number, Traffic(), lambda node, loss: None)
    first.round(0, Traffic(), lambda node, loss: None)
    second.restore(*first.snapshot())
    second.round(1, Traffic(), lambda node, loss: None)
    assert bits(second.world.nodes) == bits(whole.world.nodes)
    plain = FedAgg(world_of(**{**changes, "training": {**training, "teacher_ensemble": "none"}}), {})
    plain.init(Traffic())
    for number in range(2):
        plain.round(number, Traffic(), lambda node, loss: None)
    assert bits(plain.world.nodes) != bits(whole.world.nodes)
