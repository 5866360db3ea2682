"""One configuration schema for simulation and fleet, read from TOML into frozen structs.

What lives here: the keys, their ranges and defaults, and errors that name file, key, value and remedy. What does not:
reading data, building models. A key's meaning is documented on its struct; docs/config.md lists them all.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fedagg_edge.errors import ConfigError, nearest
from fedagg_edge.records import LogitsFormat, Tier

__all__ = [
    "PRESETS",
    "AutoencoderConfig",
    "DataConfig",
    "EvaluationConfig",
    "Hyperparameters",
    "ModelConfig",
    "MoveConfig",
    "NodeGroup",
    "PartitionConfig",
    "SimulationConfig",
    "Table",
    "TierTraining",
    "check_distillation",
    "check_schedule",
    "convert",
    "load_config",
    "parse_config",
    "read_toml",
]

SCHEMA = 1

# What `preset` stands for; a file's own keys lie over it. Values as the paper gives them, equations 2 and 4 as
# printed; momentum and weight decay, which it does not mention, are none.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "schedule": "sequential",
        "knowledge": "f32",
        "bridge_views": "plain",
        "training": {
            "learning_rate": 0.001,
            "learning_rate_schedule": "constant",
            "optimizer": "sgd",
            "momentum": 0.0,
            "weight_decay": 0.0,
            "batch_size": 8,
            "epochs": 1,
            "temperature": 3.0,
            "beta": 10.0,
            "gamma": 1.0,
            "kl": "student||teacher",
            "temperature_on": "teacher",
            "distillation": "classical",
            "teacher_trust": "equal",
            "teacher_ensemble": "none",
            "rectification": 0,
        },
    },
}

Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,47}$")]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table: immutable, every key known."""


class DataConfig(Table, frozen=True, kw_only=True):
    """`source`: ``digits``, a path to a .npz, or ``module:function``; `options` are passed to it as keywords."""

    source: str
    options: dict[str, Any] = {}


class PartitionConfig(Table, frozen=True, kw_only=True):
    """`rule`: ``dirichlet``, ``iid``, ``group`` or ``module:function``; `options` are passed to it as keywords."""

    rule: str = "dirichlet"
    options: dict[str, Any] = {}


class AutoencoderConfig(Table, frozen=True, kw_only=True):
    """A ready artefact by `path` (pinned by `digest` if given), or, without a path, one trained on the public split,
    with a `preset` of `autoencoder.presets` or the plain networks, with as many `embedding_channels` and `epochs` as
    suit the data if they are not given."""

    path: str | None = None
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    preset: Literal["open", "default", "guarded"] | None = None
    embedding_channels: Count | None = None
    epochs: Count | None = None


class ModelConfig(Table, frozen=True, kw_only=True):
    """`builder`: a model of the zoo or ``module:function``; `options` are passed to it as keywords.

    `batch_norm`: ``split`` gives every batch norm running figures of private and of bridge samples apart, see
    `learners.split_norm` (engine torch; only a device's model sees both).
    """

    builder: str
    options: dict[str, Any] = {}
    batch_norm: Literal["shared", "split"] = "shared"


class Hyperparameters(Table, frozen=True, kw_only=True):
    """How one tier trains. Symbols as in the paper: T temperature, beta distillation weight, gamma bridge weight.

    `kl`: which divergence (fedagg.md: the demo's ``teacher||student``, the paper's ``student||teacher``).
    `temperature_on`: ``both`` is Hinton's form, T on both sides and T^2 before the term; ``teacher`` is eq. 2 as
    printed: T on the teacher's logits only and no T^2.
    `learning_rate_schedule`: the learning rate over rounds (see `at`), with `decay_rounds` and `decay_factor`.
    `parent_temperature`, `children_temperature`: T on the links to the parent and to the children, where it differs.
    `parent_beta`, `children_beta`: beta on those links, where it differs; with ``children_beta = 0`` knowledge trains
    nobody above the one who gives it, and the cloud's model is bridge-only's (`baselines.bridge_only`).
    `distillation`: ``decoupled`` puts `target_weight` * TCKD + `non_target_weight` * NCKD in the KL term's place, see
    `learners.decoupled`.
    `teacher_ensemble`: what an inner node learns when it meets its parent: ``none``, the parent's logits, else the
    aggregate of the parent's and of its children's of this round, see `teachers.ensemble`.
    `teacher_trust`: what each row's KL term counts, see `teachers.trust_weights`. `rectification`: length of the queues
    of FedEEC's self-knowledge rectification, see `teachers.Rectifier` (0: off); it comes before the trust.
    `staleness`: knowledge that is `age` versions old counts (1 + age)^-staleness (fleet only; 0: as if it were fresh).
    `engine`: what trains: ``torch``, ``tflite``, ``executorch``, or ``module:function`` that returns a Learner.
    `precision`: what the torch engine's convolutions and matrix products compute in. `batch_norm_rows`: on how many
    rows of what it has just learnt from a torch model takes its batch norms' running figures anew after each pass, see
    `learners.batch_norm` (0: they stay the averages that training made).
    """

    learning_rate: Positive = 0.02
    learning_rate_schedule: Literal["constant", "cosine", "step"] = "constant"
    decay_rounds: Annotated[int, Meta(ge=0)] = 0
    decay_factor: Annotated[float, Meta(ge=0, le=1)] = 0.1
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 0.0
    batch_size: Count = 8
    epochs: Count = 1
    temperature: Positive = 3.0
    parent_temperature: Positive | None = None
    children_temperature: Positive | None = None
    beta: NonNegative = 1.0
    parent_beta: NonNegative | None = None
    children_beta: NonNegative | None = None
    gamma: NonNegative = 1.0
    kl: Literal["teacher||student", "student||teacher"] = "teacher||student"
    temperature_on: Literal["both", "teacher"] = "both"
    distillation: Literal["classical", "decoupled"] = "classical"
    target_weight: NonNegative = 1.0
    non_target_weight: NonNegative = 1.0
    teacher_trust: Literal["equal", "confidence", "correct"] = "equal"
    teacher_ensemble: Literal["none", "mean", "entropy"] = "none"
    rectification: Annotated[int, Meta(ge=0, le=65536)] = 0
    staleness: NonNegative = 0.5
    engine: str = "torch"
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_norm_rows: Annotated[int, Meta(ge=0, le=1 << 20)] = 0

    def at(self, number: int) -> Hyperparameters:
        """These hyperparameters with the learning rate of round `number`, counted from 0 (an async fleet's node: turn).

        With R = decay_rounds and f = decay_factor, ``cosine`` goes from 1 down to f in R rounds and stays there,
        ``step`` is f^floor(number / R). R is not taken from the run's `rounds`, which may change when a run goes on.
        Raises ConfigError where a schedule has no R.
        """
        if self.learning_rate_schedule == "constant":
            return self
        if not self.decay_rounds:
            raise ConfigError(
                f"decay_rounds: got 0, expected 1 or more with learning_rate_schedule {self.learning_rate_schedule!r}: "
                'say after how many rounds the learning rate has fallen, or take "constant"'
            )
        if self.learning_rate_schedule == "step":
            factor = self.decay_factor ** (number // self.decay_rounds)
        else:
            done = min(1.0, number / self.decay_rounds)
            factor = self.decay_factor + (1 - self.decay_factor) * (1 + math.cos(math.pi * done)) / 2
        return msgspec.structs.replace(self, learning_rate=self.learning_rate * factor)

    def taught_by(self, teacher: Literal["parent", "children"]) -> Hyperparameters:
        """These hyperparameters with the temperature and beta of the link to that teacher."""
        from_parent = teacher == "parent"
        temperature = self.parent_temperature if from_parent else self.children_temperature
        beta = self.parent_beta if from_parent else self.children_beta
        own = {key: value for key, value in (("temperature", temperature), ("beta", beta)) if value is not None}
        return msgspec.structs.replace(self, **own) if own else self

    @property
    def student_temperature(self) -> float:
        """T on the student's logits inside the KL term."""
        return self.temperature if self.temperature_on == "both" else 1.0

    @property
    def kl_weight(self) -> float:
        """The weight of the bare KL term inside L_nl: beta * T^2 in Hinton's form, beta as the paper prints it."""
        return self.beta * (self.temperature**2 if self.temperature_on == "both" else 1.0)


class TierTraining(Table, frozen=True, kw_only=True):
    """Hyperparameters of each tier: ``[training]`` holds what is common, ``[training.device]`` etc. override it."""

    device: Hyperparameters = Hyperparameters()
    edge: Hyperparameters = Hyperparameters()
    cloud: Hyperparameters = Hyperparameters()

    def of(self, tier: Tier) -> Hyperparameters:
        """The hyperparameters of one tier."""
        return {Tier.DEVICE: self.device, Tier.EDGE: self.edge, Tier.CLOUD: self.cloud}[tier]


class NodeGroup(Table, frozen=True, kw_only=True):
    """`count` nodes alike below each node of the group around them. No children: they are devices.

    `model`: one model for all, or ``{ name = share, ... }``: shares of all the nodes this group stands for in the tree.
    A model is a key of ``[models]``, a model of the zoo, or ``module:function``.
    """

    count: Count = 1
    model: str | dict[str, NonNegative]
    name: Name | None = None
    children: tuple[NodeGroup, ...] = ()


class EvaluationConfig(Table, frozen=True, kw_only=True):
    """`every`: rounds between evaluations. `devices`: how many devices are evaluated, evenly spread (0: all of them).

    `references`: also train the average device alone and the cloud model on all private data in one place, for as many
    passes over the data as FedAgg makes, so that the table shows what FedAgg buys and what bounds it.
    `views`: how the cloud's model looks at test samples, each reported: ``raw`` f(x), ``bridge`` f(dec(enc(x))), as a
    node with the encoder can at inference, ``both`` the mean of the two's probabilities.
    """

    every: Count = 1
    devices: Annotated[int, Meta(ge=0)] = 0
    references: bool = True
    views: Annotated[tuple[Literal["raw", "bridge", "both"], ...], Meta(min_length=1)] = ("raw",)


class MoveConfig(Table, frozen=True, kw_only=True):
    """Before round `round` a random `share` of the devices changes to other parents of the same tier (paper, IV-D), and
    takes no part in the first `away` rounds from then on. No parent loses its last child."""

    round: Count
    share: Annotated[float, Meta(gt=0, le=1)]
    away: Annotated[int, Meta(ge=0)] = 0


class SimulationConfig(Table, frozen=True, kw_only=True):
    """A whole experiment. See docs/config.md and examples/.

    `method`: ``fedagg`` or a baseline (docs/baselines.md); `methods`: keyword arguments of a method by its name.
    `bridge_views`: how all nodes see bridge samples while they train, see `fedagg_edge.views`.
    `preset`: a key of `PRESETS`, whose settings hold where the file has none of its own.
    `stacked`: whether FedAgg's devices that are alike train as one stacked model under ``snapshot`` (true: all must;
    "auto": those that can). Results then agree with false within float tolerance, not to the bit.
    `workers`: how many of FedAgg's nodes train at the same time, with `threads` each, and how many of any method's are
    measured; results are the same to the bit.
    `decode_cache`: MB of bridge samples that are kept once they are decoded, and not decoded again; 0 keeps none.
    """

    schema: int = SCHEMA
    name: Name
    preset: Literal["paper"] | None = None
    seed: Annotated[int, Meta(ge=0)] = 0
    rounds: Count = 10
    method: str = "fedagg"
    methods: dict[str, dict[str, Any]] = {}
    schedule: Literal["sequential", "snapshot"] = "sequential"
    stacked: bool | Literal["auto"] = False
    threads: Count = 1
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    decode_cache: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    knowledge: LogitsFormat = LogitsFormat.F32
    bridge_views: Literal["plain", "mirror", "shift", "mirror+shift"] = "plain"
    checkpoint_every: Count = 1
    data: DataConfig
    partition: PartitionConfig = PartitionConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    models: dict[str, ModelConfig] = {}
    tree: NodeGroup
    moves: tuple[MoveConfig, ...] = ()
    training: TierTraining = TierTraining()
    evaluation: EvaluationConfig = EvaluationConfig()
    base_dir: str = "."

    def model(self, name: str) -> ModelConfig:
        """The model that `name` stands for: a key of [models], else a builder by that name without options."""
        return self.models.get(name, ModelConfig(builder=name))


def load_config(path: str | Path) -> SimulationConfig:
    """Read a TOML file; raise ConfigError naming file, key, value and remedy."""
    path = Path(path)
    raw = read_toml(path)
    raw.setdefault("name", re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-.") or "run")
    return parse_config(raw, where=str(path), base_dir=path.parent)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raise ConfigError if it cannot be read or is no TOML."""
    try:
        text = path.read_bytes()
    except OSError as e:
        raise ConfigError(f"{path}: cannot read the configuration: {e.strerror or e}") from None
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from None


def parse_config(raw: Mapping[str, Any], *, where: str = "config", base_dir: str | Path = ".") -> SimulationConfig:
    """Turn a mapping in the shape of the TOML into a SimulationConfig; relative paths are taken from `base_dir`."""
    if raw.get("schema", SCHEMA) != SCHEMA:
        raise ConfigError(
            f"{where}: schema: got {raw['schema']!r}, this version of fedagg reads {SCHEMA}; upgrade fedagg"
        )
    if "base_dir" in raw:
        raise ConfigError(f"{where}: unknown key 'base_dir'; relative paths are taken from the configuration's folder")
    preset = _preset(raw, where)
    training = _spread_training(raw.get("training", {}), where, preset.get("training", {}))
    table = {**preset, **raw, "training": training, "base_dir": str(base_dir)}
    models = raw.get("models", {})
    for name, model in models.items() if isinstance(models, Mapping) else ():
        convert(model, ModelConfig, where, ("models", name))  # here, because msgspec does not say which entry it was
    config: SimulationConfig = convert(table, SimulationConfig, where, ())
    _check_shares(config.tree, where, "tree")
    if config.tree.count != 1:
        raise ConfigError(f"{where}: tree.count: got {config.tree.count}, expected 1: [tree] is the one cloud")
    for tier in Tier:
        own = config.training.of(tier)
        check_schedule(own, where, f"training.{tier.value}")
        check_distillation(own, where, f"training.{tier.value}")
        if own.teacher_ensemble != "none" and config.bridge_views != "plain":
            raise ConfigError(
                f"{where}: training.{tier.value}.teacher_ensemble: got {own.teacher_ensemble!r} with bridge_views "
                f"{config.bridge_views!r}: teachers whose views differ do not speak of the same bridge sample; take "
                'bridge_views = "plain", or teacher_ensemble = "none"'
            )
    for i, move in enumerate(config.moves):
        if move.round >= config.rounds:
            raise ConfigError(
                f"{where}: moves[{i}].round: got {move.round}, expected 1 to {config.rounds - 1}, as there are "
                f"{config.rounds} rounds, counted from 0"
            )
    if not config.tree.children:
        raise ConfigError(f"{where}: tree: the cloud has no children; add [[tree.children]] with a count and a model")
    return config


def _preset(raw: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The tables that the file's `preset` lays below its own."""
    name = raw.get("preset")
    if name is None:
        return {}
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"{where}: preset: got {name!r}, expected one of {', '.join(map(repr, PRESETS))}")
    return PRESETS[name]


def _spread_training(training: Any, where: str, preset: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the preset's and the common keys of [training] under each tier's own, so that a tier reads complete."""
    if not isinstance(training, Mapping):
        raise ConfigError(f"{where}: training: got {training!r}, expected a table: write [training]")
    tiers = {t.value: training.get(t.value, {}) for t in Tier}
    common = {k: v for k, v in training.items() if k not in tiers}
    convert(common, Hyperparameters, where, ("training",), also=tuple(tiers))
    for tier, own in tiers.items():
        convert(own, Hyperparameters, where, ("training", tier))
    return {tier: {**preset, **common, **own} for tier, own in tiers.items()}


def check_schedule(training: Hyperparameters, where: str, key: str) -> None:
    """Raise ConfigError if the learning rate's schedule lacks what it needs; before any training, naming the key."""
    try:
        training.at(0)
    except ConfigError as e:
        raise ConfigError(f"{where}: {key}.{e}") from None


def check_distillation(training: Hyperparameters, where: str, key: str) -> None:
    """Raise ConfigError for a form of distillation that its engine or its divergence cannot have, naming the key."""
    if training.distillation == "classical":
        return
    if training.kl != "teacher||student":
        raise ConfigError(
            f"{where}: {key}.distillation: got {training.distillation!r} with kl {training.kl!r}: it is the divergence "
            'teacher||student taken apart; take kl = "teacher||student", or distillation = "classical"'
        )
    if training.engine == "tflite":
        raise ConfigError(
            f"{where}: {key}.distillation: got {training.distillation!r} with engine 'tflite', whose training graphs "
            'have the classical loss built in; take engine = "torch" or "executorch", or distillation = "classical"'
        )


def _check_shares(group: NodeGroup, where: str, key: str) -> None:
    if isinstance(group.model, dict) and sum(group.model.values()) <= 0:
        raise ConfigError(f"{where}: {key}.model: got shares {group.model}, expected at least one above 0")
    for i, child in enumerate(group.children):
        _check_shares(child, where, f"{key}.children[{i}]")


_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<at>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<key>.*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<key>.*)`$")


def convert(raw: Any, kind: Any, where: str, prefix: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> Any:
    """`raw` as the struct `kind`; raise ConfigError naming `where`, dotted key (below `prefix`), value and remedy."""
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{where}: {_explain(str(e), raw, kind, prefix, also)}") from None


def _explain(message: str, raw: Any, kind: Any, prefix: tuple[str, ...], also: tuple[str, ...]) -> str:
    """Turn msgspec's message into one that names the dotted key, the value and what to do."""
    match = _AT.match(message)
    what, at = (match["what"], match["at"] or "$") if match else (message, "$")
    steps = re.findall(r"\[[^\]]*\]|[^.\[]+", at.removeprefix("$"))
    key = ".".join((*prefix, *steps)).replace(".[", "[")
    if unknown := _UNKNOWN.match(what):
        known = [*_known_keys(kind, steps), *also]
        dotted = f"{key}.{unknown['key']}" if key else unknown["key"]
        hint = nearest(unknown["key"], known) or f"; known keys: {', '.join(known)}"
        return f"{dotted}: unknown key {unknown['key']!r}{hint}"
    if missing := _MISSING.match(what):
        dotted = f"{key}.{missing['key']}" if key else missing["key"]
        return f"{dotted}: this key is missing; add it"
    if what.startswith("Invalid enum value"):
        what = f"expected one of {', '.join(_choices(kind, steps))}"
    what = what.replace("`", "").replace("Expected", "expected", 1)
    return f"{key or 'the configuration'}: got {_value_at(raw, steps)!r}, {what}"


def _value_at(raw: Any, steps: list[str]) -> Any:
    for step in steps:
        if step == "[...]":  # msgspec does not say which entry of a mapping
            return raw
        raw = raw[int(step[1:-1])] if step.startswith("[") else raw[step]
    return raw


def _choices(kind: Any, steps: list[str]) -> list[str]:
    """The values that an enumerated key may take."""
    info = _type_at(kind, steps)
    values = info.values if isinstance(info, msgspec.inspect.LiteralType) else [m.value for m in info.cls]
    return [repr(v) for v in values]


def _known_keys(kind: Any, steps: list[str]) -> list[str]:
    """Field names of the struct found by walking `steps` down the annotations of `kind`."""
    info = _type_at(kind, steps)
    if isinstance(info, msgspec.inspect.StructType):
        return [f.encode_name for f in info.fields if f.encode_name != "base_dir"]
    return []


def _type_at(kind: Any, steps: list[str]) -> Any:
    info: Any = _of_union(msgspec.inspect.type_info(kind))
    for step in steps:
        info = _of_union(_step(info, step))
    return info


def _of_union(info: Any) -> Any:
    """The struct among a union's types, or the enumeration: what an optional table or value is when it is there."""
    inspect = msgspec.inspect
    if not isinstance(info, inspect.UnionType):
        return info
    telling = (inspect.StructType, inspect.EnumType, inspect.LiteralType)
    return next((t for t in info.types if isinstance(t, telling)), info)


def _step(info: Any, step: str) -> Any:
    inspect = msgspec.inspect
    if isinstance(info, inspect.StructType):
        return next((f.type for f in info.fields if f.encode_name == step), None)
    if isinstance(info, inspect.DictType):
        return info.value_type
    return getattr(info, "item_type", None)
