import copy
import math

import msgspec
import pytest

from fedagg_edge.config import PRESETS, NodeGroup, load_config, parse_config
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import LogitsFormat, Tier

GOOD = {
    "name": "x",
    "data": {"source": "digits"},
    "models": {"tiny": {"builder": "mlp", "options": {"hidden": [4]}}},
    "tree": {"model": "mlp", "children": [{"count": 2, "model": {"tiny": 0.5, "cnn3": 0.5}}]},
}


def with_changes(*path_and_value):
    raw = copy.deepcopy(GOOD)
    *path, last, value = path_and_value
    table = raw
    for step in path:
        table = table.setdefault(step, {}) if isinstance(step, str) else table[step]
    table[last] = value
    return raw


def test_defaults_and_values():
    config = parse_config(with_changes("knowledge", "int8"))
    assert config.knowledge is LogitsFormat.INT8
    assert config.schedule == "sequential"
    assert config.tree.children[0].count == 2
    assert config.model("tiny").options == {"hidden": [4]}
    assert config.model("resnet10").builder == "resnet10"


def test_the_papers_settings_in_one_key():
    config = parse_config(with_changes("preset", "paper"))
    assert (config.schedule, config.knowledge) == ("sequential", LogitsFormat.F32)
    for tier in Tier:
        hp = config.training.of(tier)
        assert (hp.optimizer, hp.learning_rate, hp.momentum, hp.weight_decay) == ("sgd", 0.001, 0.0, 0.0)
        assert (hp.batch_size, hp.epochs, hp.temperature, hp.gamma) == (8, 1, 3.0, 1.0)
        # eq. 2 as printed: beta * KL(student || teacher), T on the teacher alone
        assert (hp.kl, hp.student_temperature, hp.kl_weight) == ("student||teacher", 1.0, 10.0)
        assert hp.at(400) is hp


def test_a_files_own_keys_lie_over_its_preset():
    raw = {**with_changes("training", {"beta": 2.0, "edge": {"beta": 3.0}}), "preset": "paper", "schedule": "snapshot"}
    config = parse_config(raw)
    assert config.schedule == "snapshot"
    assert [config.training.of(t).beta for t in (Tier.DEVICE, Tier.EDGE)] == [2.0, 3.0]
    assert [config.training.of(t).momentum for t in Tier] == [0.0] * 3


def test_presets_say_nothing_unknown():
    for name, preset in PRESETS.items():
        assert parse_config({**GOOD, **preset}).training == parse_config({**GOOD, "preset": name}).training


def test_a_tiers_own_keys_lie_over_the_common_ones():
    raw = with_changes("training", {"beta": 2.0, "epochs": 3, "device": {"beta": 0.5}, "cloud": {"learning_rate": 1}})
    training = parse_config(raw).training
    assert (training.device.beta, training.edge.beta, training.cloud.beta) == (0.5, 2.0, 2.0)
    assert (training.device.epochs, training.cloud.learning_rate) == (3, 1.0)
    assert training.of(Tier.EDGE) == training.edge


@pytest.mark.parametrize(("form", "temperature", "weight"), [("both", 3.0, 2.0 * 9), ("teacher", 1.0, 2.0)])
def test_the_two_forms_of_the_temperature(form, temperature, weight):
    raw = with_changes("training", {"beta": 2.0, "temperature": 3.0, "temperature_on": form})
    device = parse_config(raw).training.device
    assert (device.student_temperature, device.kl_weight) == (temperature, weight)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"learning_rate_schedule": "constant", "decay_rounds": 2}, [0.8] * 6),
        ({"learning_rate_schedule": "step", "decay_rounds": 2, "decay_factor": 0.5}, [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]),
        (
            {"learning_rate_schedule": "cosine", "decay_rounds": 4, "decay_factor": 0.25},
            [0.2 + 0.6 * (1 + math.cos(math.pi * r / 4)) / 2 for r in (0, 1, 2, 3, 4, 4)],
        ),
    ],
)
def test_the_learning_rate_over_rounds(options, expected):
    device = parse_config(with_changes("training", {"learning_rate": 0.8, **options})).training.device
    assert [device.at(r).learning_rate for r in range(6)] == pytest.approx(expected)
    assert msgspec.structs.replace(device.at(3), learning_rate=0.8) == device


def test_a_tier_has_its_own_schedule_beside_the_common_one():
    common = {"learning_rate_schedule": "step", "decay_rounds": 1}
    training = parse_config(with_changes("training", {**common, "cloud": {"decay_rounds": 2}})).training
    assert [training.of(t).at(1).learning_rate for t in (Tier.DEVICE, Tier.CLOUD)] == pytest.approx([0.002, 0.02])


def test_constant_hyperparameters_are_the_same_object_every_round():
    device = parse_config(GOOD).training.device
    assert device.at(7) is device


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            with_changes("training", "edge", "learning_rate_schedule", "cosine"),
            "training.edge.decay_rounds: got 0, expected 1 or more with learning_rate_schedule 'cosine'",
        ),
        (
            with_changes("training", "device", {"distillation": "decoupled", "kl": "student||teacher"}),
            "training.device.distillation: got 'decoupled' with kl 'student||teacher'",
        ),
        (
            with_changes("training", {"distillation": "decoupled", "device": {"engine": "tflite"}}),
            "training.device.distillation: got 'decoupled' with engine 'tflite'",
        ),
        (
            {**with_changes("training", {"edge": {"teacher_ensemble": "mean"}}), "bridge_views": "shift"},
            "training.edge.teacher_ensemble: got 'mean' with bridge_views 'shift'",
        ),
        (
            with_changes("training", {"teacher_ensemble": "x"}),
            "teacher_ensemble: got 'x', expected one of 'entropy', 'mean', 'none'",
        ),
        (with_changes("training", {"children_beta": -1}), "training.children_beta: got -1"),
        (with_changes("training", {"parent_temperature": 0}), "training.parent_temperature: got 0"),
        (with_changes("training", {"non_target_weight": -1}), "training.non_target_weight: got -1"),
        (with_changes("models", {"a": {"builder": "cnn3", "batch_norm": "x"}}), "models.a.batch_norm: got 'x'"),
        (with_changes("preset", "papr"), "preset: got 'papr', expected one of 'paper'"),
        (with_changes("preset", ["paper"]), "preset: got ['paper'], expected one of 'paper'"),
        (with_changes("rouns", 3), "rouns: unknown key 'rouns' (did you mean 'rounds'?)"),
        (with_changes("rounds", -3), "rounds: got -3, expected int >= 1"),
        (with_changes("rounds", "a"), "rounds: got 'a', expected int, got str"),
        (with_changes("schedule", "x"), "schedule: got 'x', expected one of 'sequential', 'snapshot'"),
        (with_changes("knowledge", "f8"), "knowledge: got 'f8', expected one of 'f32', 'f16', 'int8'"),
        (with_changes("name", "A b"), "name: got 'A b', expected str matching regex"),
        (with_changes("schema", 2), "schema: got 2, this version of fedagg reads 1; upgrade fedagg"),
        (with_changes("data", {}), "data.source: this key is missing; add it"),
        (with_changes("training", 3), "training: got 3, expected a table"),
        (with_changes("training", "devcie", {}), "training.devcie: unknown key 'devcie' (did you mean 'device'?)"),
        (with_changes("training", "device", "momentum", 2), "training.device.momentum: got 2, expected float < 1.0"),
        (
            with_changes("training", "learning_rate", float("nan")),
            "training.learning_rate: got nan, expected float > 0",
        ),
        (
            with_changes("models", "tiny", "build", 1),
            "models.tiny.build: unknown key 'build' (did you mean 'builder'?)",
        ),
        (with_changes("models", "tiny", "builder", 1), "models.tiny.builder: got 1, expected str"),
        (with_changes("tree", "children", 0, "cuont", 1), "tree.children[0].cuont: unknown key 'cuont'"),
        (with_changes("tree", "children", 0, "count", 0), "tree.children[0].count: got 0, expected int >= 1"),
        (with_changes("tree", "children", 0, "model", {"a": 0}), "tree.children[0].model: got shares {'a': 0"),
        (with_changes("tree", "children", []), "tree: the cloud has no children"),
        (with_changes("tree", "count", 2), "tree.count: got 2, expected 1"),
        (with_changes("base_dir", "/"), "unknown key 'base_dir'"),
    ],
)
def test_errors_name_key_value_and_remedy(raw, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, where="f.toml")
    assert str(caught.value).startswith("f.toml: ")
    assert message in str(caught.value)


def test_a_file_and_what_can_be_wrong_with_it(tmp_path):
    file = tmp_path / "My Digits.toml"
    file.write_text('[data]\nsource = "digits"\n[tree]\nmodel = "mlp"\n[[tree.children]]\nmodel = "mlp"\n')
    config = load_config(file)
    assert config.name == "my-digits"
    assert config.base_dir == str(tmp_path)
    with pytest.raises(ConfigError, match="cannot read the configuration: No such file"):
        load_config(tmp_path / "none.toml")
    file.write_text("rounds = \n")
    with pytest.raises(ConfigError, match="not valid TOML: Invalid value"):
        load_config(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(file)


def test_a_config_survives_its_own_json():
    config = parse_config(GOOD)
    raw = msgspec.json.decode(msgspec.json.encode(config))
    base_dir = raw.pop("base_dir")
    assert parse_config(raw, base_dir=base_dir) == config


def test_configs_cannot_be_changed():
    with pytest.raises(AttributeError):
        NodeGroup(model="mlp").count = 3
