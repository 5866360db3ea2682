import pytest

from fedagg_edge.autoencoder.presets import PRESETS as AUTOENCODER_PRESETS
from fedagg_edge.baselines import METHODS as SIMULATED
from fedagg_edge.config import parse_config
from fedagg_edge.errors import ConfigError
from fedagg_edge.reproduce.tables import (
    AUTOENCODERS,
    BFLOAT16,
    DATASETS,
    METHODS,
    PRESETS,
    TABLES,
    TUNED,
    Setting,
    Variant,
    parse_variant,
    table_of,
)


def test_the_rows_are_methods_of_the_simulator_under_their_own_titles():
    assert {name: SIMULATED[name].title for name in METHODS} == {**METHODS}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_table_has_a_figure_a_setting_a_bridge_only_row_and_the_ceiling(table):
    for method, figures in table.figures.items():
        assert method in METHODS
        assert len(figures) == len(table.settings)
        if table.thresholds:
            assert {len(pair) for pair in figures} == {len(table.thresholds)}
    assert {"bridge-only", "centralised", "fedagg"} <= {v.method for v in table.variants}
    assert {v.preset for v in table.variants} <= PRESETS.keys()
    assert table.dataset in DATASETS
    assert len({s.name for s in table.settings}) == len(table.settings)


def test_the_papers_averages_and_lead():
    # Table II's last column, which the figures above do not contain
    mean = {m: sum(f) / 4 for m, f in TABLES["table2"].figures.items()}
    stated = {"hierfavg": 17.37, "demlearn": 30.00, "fedgkt": 28.44, "feddkc": 30.52, "fedagg": 35.05}
    assert {m: pytest.approx(a, abs=0.006) for m, a in mean.items()} == stated
    assert mean["fedagg"] - mean["feddkc"] == pytest.approx(4.53, abs=0.006)


def test_tables_six_and_eight_agree_with_table_two_where_they_meet():
    here = TABLES["table2"].figures["fedagg"][1]  # 225 devices, alpha 1
    six, eight = TABLES["table6"], TABLES["table8"]
    assert six.figures["fedagg"][[s.beta for s in six.settings].index(10.0)] == here
    assert eight.figures["fedagg"][[s.cloud for s in eight.settings].index("resnet18")] == here


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_configuration(preset):
    keys = {k: v for k, v in PRESETS[preset].keys.items() if k != "training"}
    training = {**PRESETS[preset].keys.get("training", {}), "decay_rounds": 3}
    tree = {"model": "mlp", "children": [{"model": "mlp"}]}
    config = parse_config({**keys, "name": "x", "data": {"source": "digits"}, "tree": tree, "training": training})
    assert config.training.device.batch_size == 8
    tiers = (config.training.device, config.training.edge, config.training.cloud)
    large = "bfloat16" if preset.endswith(BFLOAT16) else "float32"
    assert [t.precision for t in tiers] == ["float32", large, large]


@pytest.mark.parametrize("preset", [p for p in PRESETS if p.endswith(BFLOAT16)])
def test_a_preset_in_bfloat16_is_the_other_but_for_its_precision(preset):
    mine, other = PRESETS[preset], PRESETS[preset.removesuffix(BFLOAT16)]
    assert (mine.autoencoder, mine.tuned) == (other.autoencoder, other.tuned)
    large = {"edge": {"precision": "bfloat16"}, "cloud": {"precision": "bfloat16"}}
    assert mine.keys == {**other.keys, "training": {**other.keys["training"], **large}}


def test_what_is_tuned_are_methods():
    assert TUNED.keys() <= METHODS.keys()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_an_autoencoder_that_can_be_made(preset):
    named = AUTOENCODERS[PRESETS[preset].autoencoder].arguments.get("preset")
    assert named is None or named in AUTOENCODER_PRESETS
    assert AUTOENCODERS["tuned"] == AUTOENCODERS["default"]


def test_the_papers_preset_trains_as_the_paper_says():
    assert PRESETS["paper"].keys == {"preset": "paper"}


def test_names_of_settings():
    assert Setting(225, 3.0).name == "225/a3"
    assert Setting(400, 0.5, "cnn3", 0.1).name == "400/a0.5/cnn3/beta0.1"


def test_variants_by_name():
    assert parse_variant("fedagg") == Variant("fedagg", "default")
    assert parse_variant("bridge-only:open") == Variant("bridge-only", "open")
    assert [parse_variant(n).name for n in ("fedagg", "fedagg:paper", "fedagg:default")] == [
        "fedagg",
        "fedagg:paper",
        "fedagg",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("fedag", "did you mean 'fedagg'"), ("fedagg:papier", "preset 'papier' .did you mean 'paper'")],
)
def test_a_wrong_variant_is_answered_with_the_nearest(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_variant(text)


def test_a_wrong_table():
    assert table_of("table4").number == "IV"
    with pytest.raises(ConfigError, match=r"got 'table5'.*expected one of table2, table3, table4, table6, table8"):
        table_of("table5")
