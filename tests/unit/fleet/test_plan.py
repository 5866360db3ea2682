from pathlib import Path

import msgspec
import numpy as np
import pytest

from fedagg_edge.config import EvaluationConfig, Hyperparameters, ModelConfig, TierTraining, load_config
from fedagg_edge.datasets import load_dataset
from fedagg_edge.errors import ConfigError
from fedagg_edge.fleet.config import parse_fleet_config
from fedagg_edge.fleet.plan import plan
from fedagg_edge.records import Tier
from fedagg_edge.simulation.build import deal_rows
from fedagg_edge.tree import plant

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits.toml"


@pytest.fixture(scope="module")
def planned():
    config, dataset = load_config(EXAMPLE), load_dataset("digits")
    tree = plant(config.tree, config.seed)
    ports = {p.id: 9000 + i for i, p in enumerate(tree.places.values()) if p.children}
    return config, dataset, tree, plan(config, dataset, ports, rounds={"target": 3, "deadline": 30.0})


def test_every_node_gets_a_configuration_that_its_command_reads(planned):
    config, _, tree, nodes = planned
    assert [n.place.id for n in nodes] == list(tree.places)
    for node in nodes:
        read = parse_fleet_config(node.table, node.place.tier)
        assert read.training == config.training.of(node.place.tier)
        assert read.model() == config.model(node.place.model)
        assert read.rounds.target == (3 if node.place.tier is Tier.CLOUD else 0)
        if node.place.parent:
            parent = next(n for n in nodes if n.place.id == node.place.parent)
            assert read.parent.url == f"https://127.0.0.1:{parent.table['listen']['port']}"


def test_devices_hold_what_the_simulators_devices_hold(planned):
    config, dataset, tree, nodes = planned
    rows_of = deal_rows(config, dataset, tree)
    devices = [n for n in nodes if n.private is not None]
    assert [n.place.id for n in devices] == list(tree.tier(Tier.DEVICE))
    for node in devices:
        np.testing.assert_array_equal(node.private[0], dataset.train_x[rows_of[node.place.id]])
        np.testing.assert_array_equal(node.private[1], dataset.train_y[rows_of[node.place.id]])


def test_siblings_cannot_take_turns_in_a_fleet(planned):
    config, dataset, _, _ = planned
    turns = config.__class__(**{f: getattr(config, f) for f in config.__struct_fields__} | {"schedule": "sequential"})
    with pytest.raises(ConfigError, match="got 'sequential', expected 'snapshot'"):
        plan(turns, dataset, {}, rounds={})


def test_what_a_fleet_cannot_do_is_refused_before_anything_is_written(planned):
    config, dataset, _, _ = planned
    asks = msgspec.structs.replace(config, training=TierTraining(edge=Hyperparameters(rectification=2)))
    with pytest.raises(ConfigError, match=r"training\.edge\.rectification: got 2, expected 0"):
        plan(asks, dataset, {}, rounds={})
    norms = msgspec.structs.replace(config, models={"a": ModelConfig(builder="cnn3", batch_norm="split")})
    with pytest.raises(ConfigError, match=r"models\.a\.batch_norm: got 'split', expected 'shared'"):
        plan(norms, dataset, {}, rounds={})
    views = msgspec.structs.replace(config, evaluation=EvaluationConfig(views=("raw", "both")))
    with pytest.raises(ConfigError, match=r"evaluation\.views: got .'raw', 'both'., expected"):
        plan(views, dataset, {}, rounds={})
    with pytest.raises(ConfigError, match="bridge_views: got 'shift', expected 'plain'"):
        plan(msgspec.structs.replace(config, bridge_views="shift"), dataset, {}, rounds={})
