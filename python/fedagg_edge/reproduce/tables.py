"""The paper's tables as data: settings, figures, and what stands for "the paper's" and "our" way to train.

Source of every figure: Wu et al., "Agglomerative Federated Learning", INFOCOM 2024, arXiv 2312.11489, section V, by the
table's number. Accuracy is the cloud model's on the real test set, in %, after convergence or 500 rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fedagg_edge.errors import ConfigError, nearest

__all__ = [
    "AUTOENCODERS",
    "BFLOAT16",
    "BRIDGED",
    "DATASETS",
    "METHODS",
    "PAPER_ROUNDS",
    "PRESETS",
    "SMALL_STEM",
    "TABLES",
    "TUNED",
    "AutoencoderRecipe",
    "DatasetKind",
    "Preset",
    "Setting",
    "Table",
    "Tuned",
    "Variant",
    "parse_variant",
    "table_of",
]

PAPER_ROUNDS = 500


@dataclass(frozen=True, slots=True)
class DatasetKind:
    """Which arrays of the .npz a data set is made of, and how many classes it has."""

    title: str
    classes: int
    arrays: Mapping[str, str]


_IMAGES = {"x": "train_x", "test_x": "test_x"}

DATASETS: Mapping[str, DatasetKind] = {
    "cifar10": DatasetKind("CIFAR-10", 10, {**_IMAGES, "y": "train_y", "test_y": "test_y"}),
    "cifar100": DatasetKind("CIFAR-100, 20 classes", 20, {**_IMAGES, "y": "train_coarse", "test_y": "test_coarse"}),
}


SMALL_STEM = "resnet18-small-stem"
"""ResNet-18 whose first convolution keeps 32x32 images at their size; the paper's halves them twice, as ImageNet's."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One column of a table: `devices` is K (the edges are sqrt(K)), `cloud` a model of the zoo or `SMALL_STEM`;
    `beta` None: the preset's."""

    devices: int
    alpha: float
    cloud: str = "resnet18"
    beta: float | None = None

    @property
    def name(self) -> str:
        """What a column is called on the command line and in reports."""
        parts = [f"{self.devices}/a{self.alpha:g}"]
        if self.cloud != "resnet18":
            parts.append(self.cloud)
        if self.beta is not None:
            parts.append(f"beta{self.beta:g}")
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of a table: a method of `fedagg_edge.baselines` trained as a key of `PRESETS` says."""

    method: str
    preset: str = "default"

    @property
    def name(self) -> str:
        """What a row is called on the command line: METHOD or METHOD:PRESET."""
        return self.method if self.preset == "default" else f"{self.method}:{self.preset}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the paper. `figures`: method -> one figure a setting, None where the paper has none.

    `thresholds`: the accuracies, in %, whose first rounds the table counts; then `figures` holds one tuple a setting.
    """

    number: str
    title: str
    dataset: str
    settings: tuple[Setting, ...]
    variants: tuple[Variant, ...]
    figures: Mapping[str, tuple[Any, ...]]
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class AutoencoderRecipe:
    """How a preset's autoencoder is trained on open data; arguments of `autoencoder.train.train`."""

    arguments: Mapping[str, Any] = field(default_factory=dict)


# Chosen before the runs, not tuned. The KL term counts only where the teacher is right, because labels are there and
# every teacher begins by knowing nothing; batches of 32 above the devices, because a step on ten million weights costs
# more than the samples in it. Batch norm's figures anew were measured: benchmarks/batch_norm.py.
_OURS: Mapping[str, Any] = {
    "schedule": "snapshot",
    "stacked": "auto",
    "bridge_views": "mirror+shift",
    "training": {
        "learning_rate": 0.03,
        "learning_rate_schedule": "cosine",
        "decay_factor": 0.05,
        "momentum": 0.9,
        "batch_size": 32,
        "temperature": 3.0,
        "beta": 1.0,
        "teacher_trust": "correct",
        "batch_norm_rows": 1024,
        "device": {"learning_rate": 0.02, "batch_size": 8},
    },
}


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a tuned preset changes for one method: all learning rates times `rate`, its own `options`, keys of
    `training`, over which what the preset says of a tier alone (the devices' batch size) still lies, and keys of
    `training.device`, which lie over all of that as they are."""

    rate: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)


# With one pass a round a device learns too little for a teacher to matter (benchmarks/device_gain.py); those that
# FedAgg's are compared with make as many. Other methods' devices train as their own grid had them.
_DEVICES: Mapping[str, Any] = {"epochs": 5, "batch_size": 16, "learning_rate": 0.05}


TUNED: Mapping[str, Tuned] = {
    "hierfavg": Tuned(options={"local_passes": 2}),
    "fedgkt": Tuned(0.1, {"mixed": True}),
    "feddkc": Tuned(0.1, {"mixed": True}),
    "fedagg": Tuned(1 / 3, training={"beta": 0.3}, device={**_DEVICES, "beta": 3.0, "teacher_trust": "equal"}),
    "bridge-only": Tuned(training={"batch_size": 64}, device=_DEVICES),
    "alone": Tuned(device=_DEVICES),
}
"""Each method's best point of the same grid on validation images, by `benchmarks/tuning.py`, as it was on 27 November
2026: docs/learning.md says what a newer one has. A method that is not named was best as `default` has it, or was not
tuned."""

AUTOENCODERS: Mapping[str, AutoencoderRecipe] = {
    "paper": AutoencoderRecipe({"embedding_channels": 4, "epochs": 4}),
    "tuned": AutoencoderRecipe({"preset": "default", "epochs": 2}),
    **{name: AutoencoderRecipe({"preset": name, "epochs": 2}) for name in ("default", "open", "guarded")},
}


@dataclass(frozen=True, slots=True)
class Preset:
    """How a row is trained: `keys` of the configuration, one of `AUTOENCODERS` by name, and whether what `TUNED` says
    of a method goes over the keys."""

    keys: Mapping[str, Any]
    autoencoder: str
    tuned: bool = False

    def in_bfloat16(self) -> Preset:
        """The same with edges and cloud computing in bfloat16; devices are too small to gain by it."""
        training = dict(self.keys["training"])
        for tier in ("edge", "cloud"):
            training[tier] = {**training.get(tier, {}), "precision": "bfloat16"}
        return replace(self, keys={**self.keys, "training": training})


BFLOAT16 = "-bf16"
"""How the names of presets end whose edges and cloud compute in bfloat16."""

_FLOAT32: Mapping[str, Preset] = {
    "default": Preset(_OURS, "default"),
    "open": Preset(_OURS, "open"),
    "guarded": Preset(_OURS, "guarded"),
    "tuned": Preset(_OURS, "tuned", tuned=True),
    "open-tuned": Preset(_OURS, "open", tuned=True),
    "guarded-tuned": Preset(_OURS, "guarded", tuned=True),
}

PRESETS: Mapping[str, Preset] = {
    "paper": Preset({"preset": "paper"}, "paper"),
    **_FLOAT32,
    **{f"{name}{BFLOAT16}": preset.in_bfloat16() for name, preset in _FLOAT32.items()},
}
"""How rows are trained, by name. `default`, `open` and `guarded` differ in their autoencoder alone; every method gets
the same keys, but for the tuned ones."""

METHODS: Mapping[str, str] = {
    "hierfavg": "HierFAVG",
    "demlearn": "DemLearn",
    "fedgkt": "FedGKT",
    "feddkc": "FedDKC",
    "fedavg-per-edge": "FedAvg per edge",
    "fedagg": "FedAgg",
    "bridge-only": "bridge-only",
    "alone": "devices alone",
    "centralised": "centralised",
}
"""Methods in the order of a report's rows, with their titles."""

BRIDGED = frozenset({"fedagg", "bridge-only"})
"""Methods whose models learn from bridge samples, and are therefore measured on bridge views of the test set too."""

_OWN_ROWS = (Variant("bridge-only"), Variant("centralised"), Variant("alone"))
_FEDAGG = (Variant("fedagg", "paper"), Variant("fedagg"))
_CIFAR10 = (Setting(225, 3.0), Setting(225, 1.0), Setting(400, 3.0), Setting(400, 1.0))
_TABLE2_ROWS = (*(Variant(m) for m in ("hierfavg", "demlearn", "fedgkt", "feddkc")), *_FEDAGG, *_OWN_ROWS)

TABLES: Mapping[str, Table] = {
    "table2": Table(
        "II",
        "accuracy of the cloud's model on CIFAR-10",
        "cifar10",
        _CIFAR10,
        _TABLE2_ROWS,
        {
            "hierfavg": (10.15, 18.35, 22.25, 18.73),
            "demlearn": (30.55, 32.13, 29.25, 28.06),
            "fedgkt": (27.39, 26.59, 30.54, 29.22),
            "feddkc": (32.43, 30.09, 30.79, 28.78),
            "fedagg": (36.76, 33.87, 35.83, 33.74),
        },
    ),
    "table3": Table(
        "III",
        "accuracy of the cloud's model on CIFAR-100 with 20 coarse classes",
        "cifar100",
        (Setting(144, 3.0), Setting(196, 3.0), Setting(225, 3.0)),
        (Variant("hierfavg"), Variant("demlearn"), *_FEDAGG, *_OWN_ROWS),
        {"hierfavg": (9.11, 9.42, 5.03), "demlearn": (15.75, 14.94, 14.81), "fedagg": (17.07, 17.33, 16.50)},
    ),
    "table4": Table(
        "IV",
        "rounds until the cloud's model reaches 25 % and 30 % on CIFAR-10, counted from 0",
        "cifar10",
        _CIFAR10,
        _TABLE2_ROWS,
        {
            "hierfavg": ((None, None), (None, None), (None, None), (None, None)),
            "demlearn": ((138, 458), (113, 333), (216, None), (243, None)),
            "fedgkt": ((12, None), (23, None), (6, 18), (11, None)),
            "feddkc": ((8, 14), (12, 23), (7, 24), (12, None)),
            "fedagg": ((0, 2), (1, 7), (1, 4), (5, 10)),
        },
        thresholds=(25.0, 30.0),
    ),
    "table6": Table(
        "VI",
        "accuracy of the cloud's model on CIFAR-10 by the weight beta of distillation",
        "cifar10",
        tuple(Setting(225, 1.0, beta=b) for b in (0.1, 1.0, 3.0, 10.0, 50.0)),
        (*_FEDAGG, *_OWN_ROWS),
        {"fedagg": (33.14, 35.33, 34.66, 33.87, 27.21)},
    ),
    "table8": Table(
        "VIII",
        "accuracy of the cloud's model on CIFAR-10 by its structure",
        "cifar10",
        tuple(Setting(225, 1.0, cloud=c) for c in ("cnn3", "resnet10", "resnet18")),
        (*_FEDAGG, *_OWN_ROWS),
        {"fedagg": (23.84, 31.11, 33.87)},
    ),
    "small-stem": Table(
        "II, but with another stem",
        "accuracy on CIFAR-10 of a cloud's ResNet-18 whose stem suits 32x32 images",
        "cifar10",
        (Setting(225, 3.0, cloud=SMALL_STEM),),
        (Variant("fedagg", "open"), Variant("bridge-only", "open"), Variant("centralised")),
        {},
    ),
}
"""By name on the command line; the last is ours, so it has none of the paper's figures."""


def table_of(name: str) -> Table:
    """The table called `name`; raise ConfigError, naming the nearest, if there is none."""
    if name not in TABLES:
        raise ConfigError(f"reproduce: got {name!r}{nearest(name, TABLES)}, expected one of {', '.join(TABLES)}")
    return TABLES[name]


def parse_variant(text: str) -> Variant:
    """METHOD or METHOD:PRESET; raise ConfigError, naming the nearest, for one that is not there."""
    method, _, preset = text.partition(":")
    for got, known, what in ((method, METHODS, "method"), (preset or "default", PRESETS, "preset")):
        if got not in known:
            raise ConfigError(f"--methods: got {what} {got!r}{nearest(got, known)}, expected {', '.join(known)}")
    return Variant(method, preset or "default")
