"""What a node's processes are made of, from its configuration: ledger, learner, log, TLS."""

from __future__ import annotations

import ssl
import sys

from fedagg_edge import extras
from fedagg_edge.bridge import Bridge, open_bridge
from fedagg_edge.fleet.config import FleetConfig
from fedagg_edge.fleet.logs import Form, Level, Log, redirect_logging
from fedagg_edge.fleet.notify import more_time
from fedagg_edge.identity import tls
from fedagg_edge.learners import learner_factory
from fedagg_edge.learners.base import Learner, LearnerSpec
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.ledger.outbox import Bounds
from fedagg_edge.records import NodeId, Tier
from fedagg_edge.seeds import derive

__all__ = ["check_parent", "make_learner", "make_log", "node_of", "open_federations_bridge", "open_ledger"]

_DAY = 86_400.0
_MOST = 1 << 62  # bytes: as good as the infinite that TOML can say


def node_of(config: FleetConfig) -> NodeId:
    """The node's id."""
    return NodeId(config.node.id)


def open_ledger(
    config: FleetConfig,
    tier: Tier,
    *,
    read_only: bool = False,
    fold_bytes: int | None = None,
    page_bytes: int | None = None,
) -> Ledger:
    """The node's ledger; one a thread. `fold_bytes`, `page_bytes`: see `Options`. Raises StorageError."""
    config.state.mkdir(parents=True, exist_ok=True)
    options = Options(
        tier=tier,
        hold_labels=tier is Tier.EDGE and config.labels == "first-edge",
        outbox=Bounds(int(min(config.outbox.megabytes * 1e6, _MOST)), config.outbox.days * _DAY),
        fold_bytes=fold_bytes,
        page_bytes=page_bytes,
        staged=config.limits.staged,
        watch=more_time,
    )
    return Ledger.open(
        config.state / "ledger.sqlite",
        node=node_of(config),
        federation=config.federation,
        options=options,
        read_only=read_only,
    )


@extras.named()
def make_learner(config: FleetConfig, sample_shape: tuple[int, ...], classes: int) -> Learner:
    """A fresh learner, its weights drawn from the node's seed and id as the simulator draws them. Raises ConfigError if
    its engine's package is not installed."""
    modules = str(config.path(config.modules))
    factory = learner_factory(config.training.engine, modules)
    return factory(
        LearnerSpec(
            config.model(),
            sample_shape,
            classes,
            config.training,
            derive(config.node.seed, "init", config.node.id),
            modules,
        )
    )


def open_federations_bridge(config: FleetConfig, digest: str) -> Bridge:
    """The bridge of the autoencoder that the shelf holds under `digest`, by the node's codec where it has one.

    Raises ArtefactError when it is first used if the codec is another autoencoder's.
    """
    codec = None if config.node.codec is None else config.path(config.node.codec)
    return open_bridge(config.state / "artefacts" / digest, digest, codec=codec)


def make_log(config: FleetConfig, tier: Tier) -> Log:
    """The log on stderr, libraries' records in it too."""
    log = Log(sys.stderr, Form(config.log.format), least=Level(config.log.level), node=config.node.id, role=tier)
    redirect_logging(log)
    return log


def check_parent(connection: ssl.SSLSocket) -> None:
    """Raise ssl.SSLError unless an edge or the cloud is at the other end: a device has a certificate as well."""
    if tls.peer_of(connection).role is Tier.DEVICE:
        raise ssl.SSLError("the server is no parent: its certificate is a device's")
