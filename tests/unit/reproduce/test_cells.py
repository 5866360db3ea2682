import math

import msgspec
import pytest
from torch import nn

from fedagg_edge.config import Hyperparameters
from fedagg_edge.errors import ConfigError
from fedagg_edge.learners.torch import build_model
from fedagg_edge.records import Tier
from fedagg_edge.reproduce.cells import Cell, Scale, cells_of, config_of, edges_of, settings_of, tuned_training
from fedagg_edge.reproduce.tables import SMALL_STEM, TABLES, TUNED, Setting, Tuned, Variant
from fedagg_edge.tree import plant

WHOLE = Scale(500)


def cell(**changes):
    fields = {
        "dataset": "cifar10",
        "setting": Setting(225, 3.0),
        "variant": Variant("fedagg"),
        "seed": 0,
        "scale": Scale(4, 0.1, 100),
    }
    return Cell(**{**fields, **changes})


@pytest.mark.parametrize("devices", [144, 196, 225, 400])
def test_the_whole_scale_is_the_papers_tree(devices):
    assert edges_of(devices, 1.0) == math.isqrt(devices)
    tree = plant(config_of(cell(setting=Setting(devices, 1.0), scale=WHOLE), "/d.npz", "/a").tree, 0)
    assert len(tree.tier(Tier.DEVICE)) == devices
    assert len(tree.tier(Tier.EDGE)) == math.isqrt(devices)
    assert {p.model for p in tree.places.values()} == {"cnn3", "resnet10", "resnet18"}


def test_the_small_stem_is_the_clouds_alone():
    def first_stride(config, name):
        model = config.model(name)
        module = build_model(model.builder, (3, 32, 32), 10, base_dir="/", **model.options)
        return next(m for m in module.modules() if isinstance(m, nn.Conv2d)).stride

    config = config_of(cell(setting=Setting(225, 3.0, cloud=SMALL_STEM)), "/d.npz", "/a")
    assert config.tree.model == SMALL_STEM
    strides = [first_stride(config, name) for name in (SMALL_STEM, "resnet10", "resnet18")]
    assert strides == [(1, 1), (2, 2), (2, 2)]


def test_a_share_keeps_the_trees_shape():
    assert [edges_of(225, s) for s in (0.11, 0.2, 0.001)] == [5, 7, 2]


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"share": 0.0}, {"share": 1.1}, {"test": -1}, {"share": math.nan}])
def test_a_wrong_scale(bad):
    with pytest.raises(ConfigError):
        Scale(**{"rounds": 1, **bad})


def test_all_of_a_table():
    for name, table in TABLES.items():
        cells = cells_of(table, WHOLE, [0, 1, 2], table.settings)
        assert len({c.key for c in cells}) == len(cells), name
    assert len(cells_of(TABLES["table2"], WHOLE, [0, 1, 2], TABLES["table2"].settings)) == 3 * 4 * 9


def test_tables_two_and_four_are_the_same_cells():
    two, four = (cells_of(TABLES[n], WHOLE, [0], TABLES[n].settings) for n in ("table2", "table4"))
    assert two == four


def test_columns_that_are_one_to_a_method_share_its_cell():
    six = cells_of(TABLES["table6"], WHOLE, [0], TABLES["table6"].settings)
    assert len([c for c in six if c.variant == Variant("fedagg")]) == 5
    assert [c.setting for c in six if c.variant.method == "bridge-only"] == [Setting(225, 1.0)]
    eight = cells_of(TABLES["table8"], WHOLE, [0], TABLES["table8"].settings)
    assert len([c for c in eight if c.variant.method == "centralised"]) == 3
    assert [c.setting for c in eight if c.variant.method == "alone"] == [Setting(225, 1.0)]


def test_a_seed_is_complete_before_the_next():
    cells = cells_of(TABLES["table2"], WHOLE, [4, 2], TABLES["table2"].settings)
    assert [c.seed for c in cells] == [4] * 36 + [2] * 36


def test_columns_by_name():
    table = TABLES["table2"]
    assert settings_of(table, None) == table.settings
    assert settings_of(table, ["400/a1", "225/a3"]) == (Setting(400, 1.0), Setting(225, 3.0))
    with pytest.raises(ConfigError, match="did you mean '225/a3'"):
        settings_of(table, ["225/a3.0"])


def test_whatever_tells_cells_apart_is_in_the_key():
    others = [
        cell(dataset="cifar100"),
        cell(setting=Setting(400, 3.0)),
        cell(setting=Setting(225, 1.0)),
        cell(setting=Setting(225, 3.0, "cnn3")),
        cell(setting=Setting(225, 3.0, beta=1.0)),
        cell(variant=Variant("alone")),
        cell(variant=Variant("fedagg", "paper")),
        cell(seed=1),
        cell(scale=Scale(5, 0.1, 100)),
        cell(scale=Scale(4, 0.2, 100)),
        cell(scale=Scale(4, 0.1)),
        cell(scale=Scale(4, 0.1, 100, validation=50)),
        cell(),
    ]
    assert len({c.key for c in others}) == len(others)


def test_the_papers_settings_reach_the_simulation():
    config = config_of(cell(variant=Variant("fedagg", "paper")), "/d.npz", "/a")
    expected = Hyperparameters(
        learning_rate=0.001,
        momentum=0.0,
        batch_size=8,
        temperature=3.0,
        beta=10.0,
        kl="student||teacher",
        temperature_on="teacher",
    )
    assert {config.training.of(t) for t in Tier} == {expected}
    assert (config.schedule, config.rounds, config.partition.options) == ("sequential", 4, {"alpha": 3.0})
    assert config.models["resnet18"].options == {"stem": "large"}


def test_beta_goes_over_the_presets():
    for preset in ("paper", "default", "tuned"):
        config = config_of(cell(setting=Setting(225, 1.0, beta=50.0), variant=Variant("fedagg", preset)), "/d", "/a")
        assert {config.training.of(t).beta for t in Tier} == {50.0}


def test_a_schedule_ends_with_the_rounds():
    config = config_of(cell(), "/d", "/a")
    assert config.training.cloud.at(4).learning_rate == pytest.approx(0.05 * config.training.cloud.learning_rate)


@pytest.mark.parametrize("method", ["hierfavg", "fedgkt", "bridge-only", "centralised"])
def test_every_method_trains_with_the_same_options(method):
    own, ours = (config_of(cell(variant=Variant(m)), "/d", "/a") for m in (method, "fedagg"))
    assert msgspec.structs.replace(own, method="", evaluation=ours.evaluation) == msgspec.structs.replace(
        ours, method=""
    )


def test_only_who_learns_from_bridge_samples_is_measured_on_them():
    assert cell().views == ("raw", "bridge", "both")
    assert cell(variant=Variant("centralised")).views == ("raw",)


@pytest.mark.parametrize("method", TUNED)
def test_a_tuned_method_has_its_own_rates_options_and_keys(method):
    tuned = TUNED[method]
    plain, own = (config_of(cell(variant=Variant(method, p)), "/d.npz", "/a") for p in ("default", "tuned"))
    for tier in Tier:
        before, after = plain.training.of(tier), own.training.of(tier)
        changed = {k: v for k, v in tuned.training.items() if tier is not Tier.DEVICE or k != "batch_size"}
        changed |= {"learning_rate": pytest.approx(tuned.rate * before.learning_rate)}
        if tier is Tier.DEVICE:
            changed |= tuned.device
        assert after == msgspec.structs.replace(before, **changed)
    assert own.methods == ({method: dict(tuned.options)} if tuned.options else {})


def test_a_method_that_was_not_tuned_is_tuned_as_default():
    default, tuned = (config_of(cell(variant=Variant("fedavg-per-edge", p)), "/d", "/a") for p in ("default", "tuned"))
    assert tuned == default


def test_tuning_reaches_the_rates_of_all_tiers():
    training = {"learning_rate": 0.3, "momentum": 0.9, "device": {"learning_rate": 0.2, "batch_size": 8}}
    assert tuned_training(training, Tuned(0.5, training={"batch_size": 16})) == {
        "learning_rate": 0.15, "momentum": 0.9, "batch_size": 16, "device": {"learning_rate": 0.1, "batch_size": 8}
    }  # fmt: skip


def test_what_is_tuned_for_devices_is_theirs_alone_and_as_it_stands():
    training = {"learning_rate": 0.3, "device": {"learning_rate": 0.2, "batch_size": 8}}
    assert tuned_training(training, Tuned(0.5, device={"learning_rate": 0.04, "epochs": 5})) == {
        "learning_rate": 0.15, "device": {"learning_rate": 0.04, "batch_size": 8, "epochs": 5}
    }  # fmt: skip
