"""A small world of two edges with two devices each, and one thread for models this small."""

import pytest
import torch
from simulation.worlds import bands, toy_config

from fedagg_edge import baselines
from fedagg_edge.autoencoder import artefact
from fedagg_edge.simulation import build

torch.set_num_threads(1)

TREE = {"model": "mlp", "children": [{"model": "mlp", "count": 2, "children": [{"model": "mlp", "count": 2}]}]}


@pytest.fixture
def world_of(artefact_path):
    """Build a world with the given changes of the configuration."""

    def make(*, with_nodes=False, **changes):
        config = toy_config(artefact_path, **{"tree": TREE, **changes})
        return build.build_world(config, bands(), artefact.load(artefact_path), with_nodes=with_nodes)

    return make


@pytest.fixture
def method_of(world_of):
    """Build a method by name on such a world; `options` are the method's own."""

    def make(name, options=None, **changes):
        kind = baselines.find_method(name)
        world = world_of(with_nodes=kind.needs_nodes, methods={name: options or {}}, **changes)
        return baselines.make_method(kind, world, {})

    return make
