"""The configuration of one node of a fleet: a TOML file for `fedagg device`, `fedagg edge` or `fedagg cloud`.

The same words and tables as an experiment's (config.py) where they mean the same: ``[training]``, ``[models]``,
``[autoencoder]``, ``[data]``. Relative paths are taken from the file's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from fedagg_edge.config import (
    SCHEMA,
    AutoencoderConfig,
    Count,
    DataConfig,
    Hyperparameters,
    ModelConfig,
    Name,
    NonNegative,
    Positive,
    Table,
    check_distillation,
    check_schedule,
    convert,
    read_toml,
)
from fedagg_edge.errors import ConfigError, DataError
from fedagg_edge.identity.renewal import DAY, LIFETIME, LONGEST
from fedagg_edge.records import LogitsFormat, Tier, node_id
from fedagg_edge.wire.limits import Limits

__all__ = [
    "FleetConfig",
    "IdentityConfig",
    "LimitsConfig",
    "ListenConfig",
    "LogConfig",
    "NodeConfig",
    "OutboxConfig",
    "ParentConfig",
    "PublishConfig",
    "RetentionConfig",
    "RoundsConfig",
    "check_supported",
    "load_fleet_config",
    "parse_fleet_config",
]

Share = Annotated[float, Meta(gt=0, le=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class NodeConfig(Table, frozen=True, kw_only=True):
    """Who this node is. `state`: the folder of everything that must survive: database, keys, checkpoints.

    `model`: a key of ``[models]``, a model of the zoo, ``module:function``, or with the engine ``tflite`` the path of a
    training file. `codec`: the file that `fedagg export` made of the federation's autoencoder, which then needs no
    torch here. `seed`: every random draw follows from it and the node's id. `threads`: of torch.
    """

    id: str
    state: str
    model: str
    codec: str | None = None
    seed: Annotated[int, Meta(ge=0)] = 0
    threads: Count = 1


class ParentConfig(Table, frozen=True, kw_only=True):
    """Where the parent is. `fallback`: other nodes of its tier, tried in order when it was silent for `lost_after`
    seconds. `token_file`: a file with the one-time token to enrol with at the first start."""

    url: Annotated[str, Meta(pattern="^https://")]
    fallback: tuple[Annotated[str, Meta(pattern="^https://")], ...] = ()
    lost_after: Positive = 600.0
    token_file: str | None = None


class ListenConfig(Table, frozen=True, kw_only=True):
    """Where children connect, and where, if a port is given, /metrics, /healthz and /readyz are served in clear to
    whoever asks: `admin_host` is loopback unless a person says otherwise."""

    host: str = "0.0.0.0"
    port: Port = 9443
    admin_host: str = "127.0.0.1"
    admin_port: Port | None = None


class RoundsConfig(Table, frozen=True, kw_only=True):
    """How rounds go; a parent decides for its own children, the cloud for when it is enough.

    `mode`, the cloud's for all: ``sync`` waits for the children, ``async`` trains on what is there. `target`: rounds
    after which the cloud calls the training finished (0: never). `children`: how many must be present before the first
    round. `quorum`: the share of present children that must have answered when `deadline` seconds have passed. `idle`:
    seconds without news after which an async node takes a turn all the same, and a device that cannot reach its parent
    trains on what it knows.
    """

    mode: Literal["sync", "async"] = "sync"
    target: Annotated[int, Meta(ge=0)] = 0
    children: Count = 1
    quorum: Share = 1.0
    deadline: Positive = 600.0
    idle: Positive = 600.0


class RetentionConfig(Table, frozen=True, kw_only=True):
    """Which private samples a device keeps: at most `samples` of them, none older than `days` (0: no limit). What it
    lets go is forgotten by every ancestor too."""

    samples: Annotated[int, Meta(ge=0)] = 0
    days: NonNegative = 0.0


class OutboxConfig(Table, frozen=True, kw_only=True):
    """How much a node keeps for a parent that it cannot reach: beyond it new samples are refused, never dropped."""

    megabytes: Positive = 256.0
    days: Positive = 30.0


class LimitsConfig(Table, frozen=True, kw_only=True):
    """What a parent takes from one child; it tells them in Welcome and refuses the rest with 413 or 429.

    `samples` on its link; `entry_rows` and `entry_bytes` of one entry; `staged`: bytes of chunks that no message has
    named yet; requests and bytes (both directions) a minute, in a burst of a minute's worth.
    """

    samples: Count = 5_000_000
    entry_rows: Count = 65_536
    entry_bytes: Count = 64 << 20
    staged: Count = 256 << 20
    requests_per_minute: Count = 1200
    bytes_per_minute: Count = 256 << 20

    def wire(self) -> Limits:
        """The same for the protocol. Raises ValueError if they do not fit each other."""
        return Limits(**{name: getattr(self, name) for name in self.__struct_fields__})


class IdentityConfig(Table, frozen=True, kw_only=True):
    """`certificate_days`: how long the certificates last that this server issues, its own renewed one too."""

    certificate_days: Annotated[float, Meta(gt=0, le=LONGEST / DAY)] = LIFETIME / DAY


class PublishConfig(Table, frozen=True, kw_only=True):
    """When the cloud puts its model on the shelf, signed, for `fedagg pull`: every so many rounds (0: never in
    between), and when the training is finished."""

    every: Annotated[int, Meta(ge=0)] = 10


class LogConfig(Table, frozen=True, kw_only=True):
    """What is written to stderr: as ``text`` or ``json`` lines."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class FleetConfig(Table, frozen=True, kw_only=True):
    """One node. `classes` and ``[autoencoder]`` are the cloud's to say; every other node learns them from its parent.

    `labels`: ``all`` ancestors get the samples' labels, or only the ``first-edge``: on a device for its own samples, on
    an edge for those of all of its children. `evaluation`: a .npz with arrays x and y that the node's model is measured
    on after each round. `poll`: seconds between a device's looks for new private samples. `modules`: where
    ``module:function`` is looked for first.
    """

    schema: int = SCHEMA
    federation: Name
    node: NodeConfig
    classes: Annotated[int, Meta(ge=2, le=65536)] | None = None
    parent: ParentConfig | None = None
    listen: ListenConfig | None = None
    rounds: RoundsConfig = RoundsConfig()
    knowledge: LogitsFormat = LogitsFormat.F32
    labels: Literal["all", "first-edge"] = "all"
    data: DataConfig | None = None
    poll: Positive = 5.0
    retention: RetentionConfig = RetentionConfig()
    outbox: OutboxConfig = OutboxConfig()
    autoencoder: AutoencoderConfig | None = None
    models: dict[str, ModelConfig] = field(default_factory=dict)
    training: Hyperparameters = Hyperparameters()
    evaluation: str | None = None
    modules: str = "."
    limits: LimitsConfig = LimitsConfig()
    identity: IdentityConfig = IdentityConfig()
    publish: PublishConfig = PublishConfig()
    log: LogConfig = LogConfig()
    base_dir: str = "."

    def model(self) -> ModelConfig:
        """The model that this node trains; a training file's path is taken from the configuration's folder."""
        model = self.models.get(self.node.model, ModelConfig(builder=self.node.model))
        if not model.builder.endswith(".tflite"):
            return model
        return ModelConfig(builder=str(self.path(model.builder).absolute()), options=model.options)

    @property
    def state(self) -> Path:
        """The state folder."""
        return Path(self.base_dir) / self.node.state

    def path(self, relative: str) -> Path:
        """A path of the file, taken from its folder."""
        return Path(self.base_dir) / relative


# table -> tiers that have it; a table that means nothing to a node is a mistake of whoever wrote it
_BELONGS: Mapping[str, tuple[Tier, ...]] = {
    "parent": (Tier.DEVICE, Tier.EDGE),
    "listen": (Tier.EDGE, Tier.CLOUD),
    "data": (Tier.DEVICE,),
    "autoencoder": (Tier.CLOUD,),
    "classes": (Tier.CLOUD,),
    "limits": (Tier.EDGE, Tier.CLOUD),
    "identity": (Tier.EDGE, Tier.CLOUD),
    "publish": (Tier.CLOUD,),
    "retention": (Tier.DEVICE,),
    "outbox": (Tier.DEVICE, Tier.EDGE),
    "poll": (Tier.DEVICE,),
    "labels": (Tier.DEVICE, Tier.EDGE),
}
_KEYS = ("classes", "poll", "labels")  # of these, keys rather than tables
_OPTIONAL = ("listen", "limits", "identity", "publish", "retention", "outbox", "poll", "labels")


def load_fleet_config(path: str | Path, tier: Tier) -> FleetConfig:
    """Read the file of a node of `tier`; raise ConfigError naming file, key, value and remedy."""
    path = Path(path)
    return parse_fleet_config(read_toml(path), tier, where=str(path), base_dir=path.parent)


def parse_fleet_config(
    raw: Mapping[str, Any], tier: Tier, *, where: str = "config", base_dir: str | Path = "."
) -> FleetConfig:
    """Turn a mapping in the shape of the TOML into a FleetConfig."""
    if raw.get("schema", SCHEMA) != SCHEMA:
        raise ConfigError(
            f"{where}: schema: got {raw['schema']!r}, this version of fedagg reads {SCHEMA}; upgrade fedagg"
        )
    if "base_dir" in raw:
        raise ConfigError(f"{where}: unknown key 'base_dir'; relative paths are taken from the configuration's folder")
    if "preset" in raw:
        raise ConfigError(
            f"{where}: preset: a fleet's node has no such key, because a preset is of a whole tree and has "
            "siblings take turns, which a fleet cannot; write the preset's hyperparameters under [training]"
        )
    if "bridge_views" in raw:
        raise ConfigError(
            f"{where}: bridge_views: a fleet's node sees bridge samples plainly: both ends of a link must see the same "
            "views, and nodes do not agree on their kind yet; leave them to `fedagg simulate`"
        )
    config: FleetConfig = convert({**raw, "base_dir": str(base_dir)}, FleetConfig, where)
    try:
        node_id(config.node.id)
    except DataError as e:
        raise ConfigError(f"{where}: node.id: {e}") from None
    a_tier = "an edge" if tier is Tier.EDGE else f"a {tier}"
    for table, tiers in _BELONGS.items():
        there, what = table in raw, "key" if table in _KEYS else "table"
        if there and tier not in tiers:
            raise ConfigError(f"{where}: {table}: {a_tier} has no such {what}; it belongs to {' and '.join(tiers)}")
        if not there and tier in tiers and table not in _OPTIONAL:
            raise ConfigError(f"{where}: {table}: this key is missing; {a_tier} needs it")
    check_schedule(config.training, where, "training")
    check_distillation(config.training, where, "training")
    check_norms(config.models, where)
    check_supported(config.training, where, "training")
    try:
        config.limits.wire()
    except ValueError as e:
        raise ConfigError(f"{where}: {e}; change the table limits") from None
    if tier is Tier.CLOUD and (config.autoencoder is None or config.autoencoder.path is None):
        raise ConfigError(
            f"{where}: autoencoder.path: this key is missing; train one with `fedagg autoencoder train` and name it"
        )
    return config


def check_norms(models: Mapping[str, ModelConfig], where: str) -> None:
    """Raise ConfigError for a model whose batch norm only the simulator can split yet, saying why."""
    for name, model in models.items():
        if model.batch_norm != "shared":
            raise ConfigError(
                f"{where}: models.{name}.batch_norm: got {model.batch_norm!r}, expected 'shared': a model that a fleet "
                "publishes has one set of running figures yet; leave it to `fedagg simulate`"
            )


def check_supported(training: Hyperparameters, where: str, key: str) -> None:
    """Raise ConfigError for hyperparameters that only the simulator knows yet, saying why."""
    if training.rectification:
        raise ConfigError(
            f"{where}: {key}.rectification: got {training.rectification}, expected 0: a fleet node's checkpoint does "
            "not hold rectification's queues yet, so a restart would lose them; leave it to `fedagg simulate`"
        )
    if training.teacher_ensemble != "none":
        raise ConfigError(
            f"{where}: {key}.teacher_ensemble: got {training.teacher_ensemble!r}, expected 'none': a fleet's node does "
            "not keep what its children taught until it meets its parent; leave it to `fedagg simulate`"
        )
