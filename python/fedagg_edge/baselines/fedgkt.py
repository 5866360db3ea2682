"""FedGKT: devices train a small extractor and classifier, the cloud a large upper part on the features they send.

He, Annavaram, Avestimehr, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge", NeurIPS 2020,
arXiv 2007.14513, Algorithm 1. A device's loss l_c is CE + beta * T^2 * KL(cloud || device) on its own samples, the
cloud's l_s is CE + beta * T^2 * KL(device || cloud) on the features of all devices, one device after the other, T on
both sides. Two tiers: edges have no model and pass messages on. The FedAgg paper runs it with beta 1.5 and does not say
at which T; the default is 1, because 1.5 * T^2 at T = 3 had both sides teach each other their initial ignorance for ten
rounds (docs/baselines.md).

All devices' extractors start from the same weights, as in the authors' code, which gives every client one pretrained
extractor: features of extractors that were drawn apart have nothing in common, and the cloud's one model learns next to
nothing from them (docs/baselines.md has the figures). The classifiers above them start apart.

The device's model is cut where it first pools or its second layer with weights begins, and the cloud's model is built
for features of that shape. The cloud is judged as FedGKT's authors do, on samples of every device through that
device's extractor: the common test set is dealt out among the devices, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from fedagg_edge.baselines.local import own_learner, route, taught_pass
from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ConfigError
from fedagg_edge.learners import learner_factory
from fedagg_edge.learners.base import Learner, LearnerSpec
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.seeds import derive, stream
from fedagg_edge.simulation.build import World
from fedagg_edge.simulation.driver import Traffic
from fedagg_edge.simulation.evaluate import Logits, evaluate
from fedagg_edge.simulation.method import Factories, OnTrain, Trained

__all__ = ["FedGkt"]

Array = NDArray[np.float32]


class FedGkt(Trained):
    """`beta` weighs both KL terms, `temperature` is T. `cut` is how many leading modules of the device's model make
    the extractor, by default up to the first pooling or the second layer with weights. `common_start`: extractors of
    one structure start from the first such device's weights (false: each from its own). `mixed`: the cloud trains on
    all devices' features shuffled together in place of Algorithm 1's one device after the other.
    """

    name: ClassVar[str] = "fedgkt"
    title: ClassVar[str] = "FedGKT"

    def __init__(
        self,
        world: World,
        factories: Factories,
        *,
        beta: float = 1.5,
        temperature: float = 1.0,
        cut: int | None = None,
        common_start: bool = True,
        mixed: bool = False,
    ) -> None:
        super().__init__(world, factories)
        if not (beta >= 0 and temperature > 0):
            raise ConfigError(
                f"methods.{self.name}: got beta {beta} and temperature {temperature}, expected 0 or more and above 0"
            )
        from fedagg_edge.learners.split import Extractor  # noqa: PLC0415  # torch loads when it is wanted

        self.beta, self.temperature, self.mixed = beta, temperature, mixed
        places = world.tree.places
        devices: dict[NodeId, Learner] = {d: own_learner(world, factories, places[d]) for d in self.devices}
        self._extractors = {d: Extractor(learner, cut, world.bridge.sample_shape) for d, learner in devices.items()}
        self.feature_shape = self._one_shape()
        if common_start:
            for extractor in self._extractors.values():
                extractor.start_from(next(e for e in self._extractors.values() if e.structure == extractor.structure))
        self._root = world.tree.root.id
        self.learners = {self._root: self._server(), **devices}

    def _one_shape(self) -> tuple[int, ...]:
        shapes = {e.feature_shape: d for d, e in self._extractors.items()}
        if len(shapes) > 1:
            found = ", ".join(f"{shape} ({device})" for shape, device in shapes.items())
            raise ConfigError(
                f"methods.{self.name}: devices have features of different shapes, {found}, but the cloud's model takes "
                f"one; give all devices models with the same beginning, or set methods.{self.name}.cut"
            )
        return next(iter(shapes))

    def _server(self) -> Learner:
        """The cloud's model on features in place of samples."""
        config, root = self.world.config, self.world.tree.root
        hyperparameters = config.training.of(Tier.CLOUD)
        factory = self.factories.get(root.model) or learner_factory(hyperparameters.engine, config.base_dir)
        return factory(
            LearnerSpec(
                config.model(root.model),
                self.feature_shape,
                self.world.classes,
                hyperparameters,
                derive(config.seed, "init", root.id),
                config.base_dir,
            )
        )

    def hyperparameters(self, tier: Tier) -> Hyperparameters:
        """A tier's hyperparameters under this method's beta and temperature, its KL in Hinton's form."""
        own = self.world.config.training.of(tier)
        form = {"kl": "teacher||student", "temperature_on": "both", "distillation": "classical"}
        return msgspec.structs.replace(own, beta=self.beta, temperature=self.temperature, **form)

    def teacher(self, logits_NC: Array) -> Array:
        """What the cloud distils from a device's logits: here they themselves."""
        return logits_NC

    def passes(self) -> int:
        """See `Method.passes`."""
        return len(self.devices) + (1 if self.mixed else len(self.devices))

    def round(self, number: int, traffic: Traffic, on_train: OnTrain) -> None:
        """Algorithm 1: all devices train against the cloud's last logits and send; then the cloud trains."""
        for device in self.devices:
            x_N, y_N = self._private(device)
            taught = None if number == 0 else self._cloud_logits(device, x_N)
            rng = stream(self.world.config.seed, "local", device, number)
            settings = self.hyperparameters(Tier.DEVICE).at(number)
            loss = taught_pass(self.learners[device], x_N, y_N, taught, hyperparameters=settings, rng=rng)
            on_train(device, loss)
        if self.mixed:
            parts = [self._lesson(device, traffic) for device in self.devices]
            features_N, y_N, teacher_NC = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            self._train_cloud("all", number, (features_N, y_N, teacher_NC), on_train)
            return
        for device in self.devices:
            self._train_cloud(device, number, self._lesson(device, traffic), on_train)

    def _lesson(self, device: NodeId, traffic: Traffic) -> tuple[Array, NDArray[np.int64], Array]:
        """What a device sends: features, labels, and of its logits what the cloud distils."""
        x_N, y_N = self._private(device)
        features_N, teacher_NC = self._extractors[device].features(x_N), self.teacher(self.learners[device].logits(x_N))
        self._count(device, features_N, teacher_NC, traffic)
        return features_N, y_N, teacher_NC

    def _train_cloud(
        self, whose: str, number: int, lesson: tuple[Array, NDArray[np.int64], Array], on_train: OnTrain
    ) -> None:
        features_N, y_N, teacher_NC = lesson
        rng = stream(self.world.config.seed, "server", whose, number)
        settings = self.hyperparameters(Tier.CLOUD).at(number)
        server = self.learners[self._root]
        on_train(self._root, taught_pass(server, features_N, y_N, teacher_NC, hyperparameters=settings, rng=rng))

    def _private(self, device: NodeId) -> tuple[Array, NDArray[np.int64]]:
        arrays = self.world.arrays
        rows = arrays.rows_of[device]
        return arrays.train_x(rows), arrays.train_y_N[rows]

    def _cloud_logits(self, device: NodeId, x_N: Array) -> Array:
        """The cloud's logits on the features that the device sent last: neither has changed since, so no state."""
        return self.learners[self._root].logits(self._extractors[device].features(x_N))

    def _count(self, device: NodeId, features_N: Array, logits_NC: Array, traffic: Traffic) -> None:
        """Features, logits and 2-byte labels go up, the cloud's logits come down."""
        for link in route(self.world.tree, device):
            traffic.add(link, link.child, features_N.nbytes + logits_NC.nbytes + 2 * len(features_N))
            traffic.add(link, link.parent, logits_NC.nbytes)

    def hits(self, which: Sequence[NodeId], x_N: Array, y_N: NDArray[np.int64]) -> dict[NodeId, NDArray[np.bool_]]:
        """Devices by their own classifier; the cloud through every device's extractor on its share of the test set."""
        found = evaluate(self.learners, [n for n in which if n != self._root], x_N, y_N)
        if self._root in which:
            found[self._root] = self._shared_logits(x_N).argmax(axis=1) == y_N
        return {n: found[n] for n in which}

    def cloud_logits(self) -> Logits:
        """See `Method.cloud_logits`: every device's extractor on its share of the samples."""
        return self._shared_logits

    def _shared_logits(self, x_N: Array) -> Array:
        logits_NC = np.empty((len(x_N), self.world.classes), np.float32)
        for k, device in enumerate(self.devices):
            rows = np.arange(k, len(x_N), len(self.devices))
            if len(rows):
                logits_NC[rows] = self._cloud_logits(device, x_N[rows])
        return logits_NC
