"""From a configuration to a planted tree of nodes: data, partition, autoencoder, models. All randomness is named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedagg_edge.autoencoder import artefact as artefacts
from fedagg_edge.bridge import Bridge, open_bridge
from fedagg_edge.config import SimulationConfig
from fedagg_edge.datasets import Dataset, load_dataset
from fedagg_edge.decode_cache import DecodeCache
from fedagg_edge.errors import ConfigError, DataError, nearest
from fedagg_edge.learners import learner_factory
from fedagg_edge.learners.base import Learner, LearnerFactory, LearnerSpec
from fedagg_edge.node import Node
from fedagg_edge.partition import PartitionRule, partition
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.samples import PrivateSamples
from fedagg_edge.seeds import derive, stream
from fedagg_edge.simulation.progress import Progress, Silent
from fedagg_edge.store import MemoryStore
from fedagg_edge.teachers import Rectifier
from fedagg_edge.tree import Place, Tree, plant

if TYPE_CHECKING:
    from fedagg_edge.autoencoder.artefact import Artefact

__all__ = [
    "Arrays",
    "World",
    "build_world",
    "data_digest",
    "deal_rows",
    "make_learner",
    "obtain_autoencoder",
    "read_data",
]


@dataclass(frozen=True, slots=True)
class Arrays:
    """A data set, and which training rows each device holds; samples are float32 on the model's one input scale."""

    raw_train_x_N: NDArray[Any]
    train_y_N: NDArray[np.int64]
    test_x_N: NDArray[np.float32]
    test_y_N: NDArray[np.int64]
    rows_of: Mapping[NodeId, NDArray[np.int64]]
    bridge: Bridge
    validation_x_N: NDArray[np.float32] | None = None
    validation_y_N: NDArray[np.int64] | None = None

    def train_x(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The training samples `rows` [N, *sample_shape], scaled anew: all at once would be four times the data."""
        return self.bridge.scale(self.raw_train_x_N[rows])


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a run trains and measures; `nodes` is empty for a method that has no use for them."""

    config: SimulationConfig
    tree: Tree
    nodes: Mapping[NodeId, Node]
    bridge: Bridge
    arrays: Arrays
    classes: int


def read_data(config: SimulationConfig) -> Dataset:
    """Load the configured data set."""
    return load_dataset(config.data.source, base_dir=config.base_dir, **config.data.options)


def data_digest(dataset: Dataset) -> str:
    """SHA-256 of the data a run learns from and is measured on, so that a resumed run can see that it is the same."""
    h = hashlib.sha256()
    arrays = (dataset.train_x, dataset.train_y, dataset.test_x, dataset.test_y, dataset.group_N)
    for array in (*arrays, dataset.validation_x, dataset.validation_y):
        if array is not None:  # groups, which the partition may go by, and validation samples may not be there
            h.update(f"{array.dtype}{array.shape}".encode())
            h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def obtain_autoencoder(config: SimulationConfig, dataset: Dataset, progress: Progress | None = None) -> Artefact:
    """Load the configured artefact, or train one on the data set's public split.

    Raises ConfigError if there is neither; ArtefactError if the file is not usable.
    """
    wanted = config.autoencoder
    if wanted.path is not None:
        return artefacts.load(Path(config.base_dir) / wanted.path, wanted.digest)
    if dataset.public_x is None or not len(dataset.public_x):
        raise ConfigError(
            f"autoencoder.path: missing, and the data {dataset.name!r} has no public split to train one on; "
            "make one with `fedagg autoencoder train` and name it here"
        )
    from fedagg_edge.autoencoder.train import train  # noqa: PLC0415  # torch loads when it is wanted

    shown = progress or Silent()
    shown.stage(f"training the autoencoder on {len(dataset.public_x)} public samples")
    return train(
        dataset.public_x,
        input_low=dataset.input_low,
        input_high=dataset.input_high,
        preset=wanted.preset,
        embedding_channels=wanted.embedding_channels,
        epochs=wanted.epochs,
        seed=derive(config.seed, "autoencoder"),
        trained_on=f"public split of {dataset.name}",
        progress=lambda p: shown.part(p.epoch, p.epochs, "epochs"),
    )


def build_world(
    config: SimulationConfig,
    dataset: Dataset,
    autoencoder: Artefact,
    factories: Mapping[str, LearnerFactory] | None = None,
    rule: PartitionRule | None = None,
    *,
    with_nodes: bool = True,
) -> World:
    """Plant the tree, deal out the data and give every node its own model.

    `factories` build the learners of models by their names in the tree, `rule` takes the configured partition's place.
    Without `with_nodes` the world has no nodes: a method that trains none of them does not pay for their models.

    Raises ConfigError, DataError, ArtefactError or LearnerError, each naming what does not fit.
    """
    bridge = open_bridge(autoencoder)
    if config.decode_cache:
        bridge = DecodeCache(bridge, config.decode_cache)
    if bridge.sample_shape != dataset.sample_shape:
        raise DataError(
            f"the autoencoder is for samples of shape {bridge.sample_shape}, the data {dataset.name!r} has "
            f"{dataset.sample_shape}; train one for it with `fedagg autoencoder train`"
        )
    tree = plant(config.tree, config.seed)
    arrays = _arrays(config, dataset, bridge, tree, rule)
    factories = factories or {}
    _check_factories(factories, tree)
    places = tree.places.values() if with_nodes else ()
    nodes = {p.id: _node(config, p, dataset.classes, bridge, arrays, factories=factories) for p in places}
    return World(config, tree, nodes, bridge, arrays, dataset.classes)


def _check_factories(factories: Mapping[str, LearnerFactory], tree: Tree) -> None:
    models = sorted({p.model for p in tree.places.values()})
    for name in factories:
        if name not in models:
            raise ConfigError(
                f"models, learners: got {name!r}{nearest(name, models)}, expected names that the tree uses: "
                f"{', '.join(models)}"
            )


def _arrays(
    config: SimulationConfig, dataset: Dataset, bridge: Bridge, tree: Tree, rule: PartitionRule | None
) -> Arrays:
    rows_of = deal_rows(config, dataset, tree, rule)
    return Arrays(
        dataset.train_x,
        dataset.train_y,
        bridge.scale(dataset.test_x),
        dataset.test_y,
        rows_of,
        bridge,
        None if dataset.validation_x is None else bridge.scale(dataset.validation_x),
        dataset.validation_y,
    )


def deal_rows(
    config: SimulationConfig, dataset: Dataset, tree: Tree, rule: PartitionRule | None = None
) -> dict[NodeId, NDArray[np.int64]]:
    """Which training rows each device holds, by the configured partition or by `rule`."""
    devices = tree.tier(Tier.DEVICE)
    rng = stream(config.seed, "partition")
    options = config.partition.options
    rows = partition(dataset, rule or config.partition.rule, len(devices), rng, base_dir=config.base_dir, **options)
    return dict(zip(devices, rows, strict=True))


def _node(
    config: SimulationConfig,
    place: Place,
    classes: int,
    bridge: Bridge,
    arrays: Arrays,
    *,
    factories: Mapping[str, LearnerFactory],
) -> Node:
    samples = None
    if place.tier is Tier.DEVICE:
        rows = arrays.rows_of[place.id]
        samples = PrivateSamples(place.id, classes, arrays.train_x(rows), arrays.train_y_N[rows])
    hyperparameters = config.training.of(place.tier)
    length = hyperparameters.rectification
    return Node(
        place=place,
        federation=config.name,
        classes=classes,
        seed=config.seed,
        learner=make_learner(config, place, bridge.sample_shape, classes, factories),
        bridge=bridge,
        store=MemoryStore(),
        hyperparameters=hyperparameters,
        knowledge_format=config.knowledge,
        samples=samples,
        rectifier=Rectifier(classes, length) if length else None,
        views=config.bridge_views,
    )


def make_learner(
    config: SimulationConfig,
    place: Place,
    sample_shape: tuple[int, ...],
    classes: int,
    factories: Mapping[str, LearnerFactory],
) -> Learner:
    """A fresh learner for a place, its weights drawn from the run's seed and the node's name."""
    hyperparameters = config.training.of(place.tier)
    factory = factories.get(place.model) or learner_factory(hyperparameters.engine, config.base_dir)
    return factory(
        LearnerSpec(
            config.model(place.model),
            sample_shape,
            classes,
            hyperparameters,
            derive(config.seed, "init", place.id),
            config.base_dir,
        )
    )
