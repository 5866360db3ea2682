import re

import pytest
from reproduce.making import row

from fedagg_edge.reproduce.report import Section, bought, first_round, lead, render, sections, series_of
from fedagg_edge.reproduce.tables import METHODS, TUNED, Setting, Variant

SECTION = Section("cifar10", Setting(225, 3.0), (0.1, 2, 1000, 0))


def curve(accuracies, **changes):
    return [row(round=i, accuracy=a, seconds=60.0 * (i + 1), **changes) for i, a in enumerate(accuracies)]


def some():
    """FedAgg and bridge-only over two seeds, FedGKT over one."""
    return [
        *curve([0.2, 0.40]),
        *curve([0.2, 0.50], seed=1),
        *curve([0.1, 0.45], view="both"),
        *curve([0.1, 0.55], view="both", seed=1),
        *curve([0.1, 0.30], tier="edge"),
        *curve([0.2, 0.41], method="bridge-only"),
        *curve([0.3, 0.48], method="bridge-only", seed=1),
        *curve([0.1, 0.28], method="fedgkt"),
        *curve([0.1, 0.20], preset="paper"),
    ]


def table(text, title):
    """The rows of the first table below a title: {(method, preset, ...): cells}."""
    below = text[text.index(title) :]
    lines = re.search(r"(\|.*\|\n)+", below)[0].splitlines()
    head, *rest = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    return [dict(zip(head, cells, strict=True)) for cells in rest[1:]]


def test_final_figures_over_seeds_beside_the_papers_own():
    got = {(r["method"], r["preset"]): r for r in table(render(some(), {}), "## Table II:")}
    ours = got["FedAgg", "default"]
    assert (ours["seeds"], ours["cloud raw"], ours["both"]) == ("2", "45.0 (40.0-50.0)", "50.0 (45.0-55.0)")
    assert (ours["bridge"], ours["edges"], ours["devices"]) == ("", "30.0", "")
    assert (ours["paper"], ours["minutes"], ours["MB"]) == ("36.76", "2.0", "2.0")
    assert (got["FedGKT", "default"]["cloud raw"], got["FedGKT", "default"]["paper"]) == ("28.0", "27.39")
    assert got["bridge-only", "default"]["paper"] == ""
    assert got["FedAgg", "paper"]["cloud raw"] == "20.0"


def test_rows_stand_in_the_reports_order():
    rows = [(r["method"], r["preset"]) for r in table(render(list(reversed(some())), {}), "## Table II:")]
    assert rows == [("FedGKT", "default"), ("FedAgg", "paper"), ("FedAgg", "default"), ("bridge-only", "default")]


def test_what_distillation_buys_is_paired_by_seed():
    series = series_of(some(), SECTION)
    assert bought(series, "default", "cloud", "raw") == pytest.approx([-0.01, 0.02])
    assert bought(series, "paper", "cloud", "raw") == []
    assert "- cloud, raw, preset default: -1.0, +2.0" in render(some(), {})


def test_devices_stand_beside_devices_alone():
    rows = [
        row(tier="device", view=view, method=method, preset=preset, accuracy=accuracy)
        for method, preset, raw, own in (("fedagg", "tuned", 0.3, 0.5), ("alone", "default", 0.25, 0.4))
        for view, accuracy in (("raw", raw), ("own", own))
    ]
    text = render([*rows, row(preset="tuned")], {})
    assert (
        "- tuned, beside alone's default: +5.0 on the common test set, +10.0 on each one's own mix of classes" in text
    )
    assert "| FedAgg | tuned | 1 | 50.0 |  |  |  | 30.0 | 50.0 |" in text
    same = render([*rows, row(tier="device", method="alone", preset="tuned", accuracy=0.28)], {})
    assert "- tuned, beside alone's tuned: +2.0 on the common test set\n" in same
    assert "above devices alone" not in render([r for r in rows if r.method == "fedagg"], {})


def test_the_lead_on_the_best_baseline_at_equal_rounds_and_bytes():
    rows = [
        *curve([0.2, 0.40]),
        *(
            row(round=i, accuracy=a, bytes=b, method="hierfavg")
            for i, a, b in ((0, 0.15, 1_900_000), (1, 0.35, 2_100_000))
        ),
        *curve([0.1, 0.30], method="demlearn", bytes=9_000_000),
        *curve([0.1, 0.90], method="centralised"),
    ]
    series = series_of(rows, SECTION)
    ours = next(s for s in series if s.variant.method == "fedagg")
    assert lead(series, ours, "raw") == ("HierFAVG", pytest.approx(0.05))
    assert lead(series, ours, "raw", equal_bytes=True) == ("HierFAVG", pytest.approx(0.25))
    assert lead(series, ours, "both") is None
    # a seed that the baselines lack changes nothing
    more = series_of([*rows, *curve([0.2, 0.90], seed=1)], SECTION)
    assert lead(more, next(s for s in more if s.variant.method == "fedagg"), "raw") == lead(series, ours, "raw")
    assert lead([ours], ours, "raw") is None
    # a baseline in another preset is led, too, and says which
    tuned = series_of([*rows, *curve([0.1, 0.45], method="fedgkt", preset="tuned")], SECTION)
    assert lead(tuned, ours, "raw") == ("FedGKT (tuned)", pytest.approx(-0.05))
    text = render(rows, {})
    assert "- FedAgg, default: 40.0 in the view that is best on these test images, raw; +5.0 points on" in text
    assert "+25.0 points on the best baseline at equal bytes, HierFAVG; 44 % of centralised's raw accuracy" in text


def test_the_view_is_chosen_on_validation_images_where_there_are_some():
    def held(view, accuracy, validation, seed=0):
        more = {"validation": validation, "validation_rows": 500, "seed": seed}
        return [row(round=i, view=view, accuracy=accuracy, **more) for i in range(2)]

    rows = [*held("raw", 0.5, 0.3), *held("both", 0.4, 0.4), *held("raw", 0.6, 0.3, 1), *held("both", 0.5, 0.4, 1)]
    text = render([*rows, *some()], {})
    assert "- FedAgg, default: 45.0 in the view chosen on validation images, both" in text
    assert "that is best on these test images" in text  # the section without
    assert "2 rounds; 500 validation images, which no device has." in text
    (section,) = (s for s in sections(rows))
    assert section.slug.endswith("-r2-v500")
    # a seed without them chooses nothing
    (ours,) = series_of([*rows, *(row(round=1, seed=2, validation_rows=500),)], section)
    assert ours.chosen() is None


def test_the_tuned_preset_is_told_method_by_method():
    text = render([*curve([0.2, 0.4], preset="tuned"), *curve([0.2, 0.4])], {})
    line = next(each for each in text.splitlines() if each.startswith("- `tuned`: "))
    assert line.startswith("- `tuned`: as `default`, but ")
    for method, tuned in TUNED.items():
        own = line.split(f"{METHODS[method]} ", 1)[1].split(";")[0]
        assert (f"learning rates x {tuned.rate:.3g}" in own) == (tuned.rate != 1)
        for key, value in {**tuned.options, **tuned.training}.items():
            assert f"`{key}` {value}" in own
        for key, value in tuned.device.items():
            assert f"`device.{key}` {value}" in own
    assert "`tuned`" not in render(curve([0.2, 0.4]), {})


def test_a_preset_in_bfloat16_is_told_by_the_other():
    text = render(curve([0.2, 0.4], preset="open-tuned-bf16"), {})
    assert (
        "- `open-tuned-bf16`: as `open-tuned`, edges and cloud in bfloat16; autoencoder: preset open, epochs 2" in text
    )


def test_bridge_only_is_a_ceiling_of_its_own_preset_alone():
    lines = [line for line in render(some(), {}).splitlines() if line.startswith("- FedAgg, ")]
    assert ["bridge-only" in line for line in lines] == [False, True]  # paper, default
    assert "112 % of bridge-only's raw accuracy" in lines[1]  # 50.0 against 44.5, both views against raw


def test_rounds_to_an_accuracy():
    assert first_round({0: 0.1, 1: 0.25, 2: 0.2}, 25) == 1
    assert first_round({0: 0.1}, 25) is None
    got = {(r["method"], r["preset"], r["view"]): r for r in table(render(some(), {}), "## Table IV:")}
    ours = got["FedAgg", "default", "raw"]
    assert (ours["25 %"], ours["30 %"], ours["paper: 25 %"], ours["paper: 30 %"]) == ("1, 1", "1, 1", "0", "2")
    assert (got["FedAgg", "paper", "raw"]["25 %"], got["bridge-only", "default", "raw"]["25 %"]) == ("-", "1, 0")
    assert got["FedGKT", "default", "raw"]["paper: 30 %"] == "-"


def test_it_says_how_much_was_run():
    assert (
        "CIFAR-10, 25 devices below 5 edges (paper: 225 below 15), 5,000 training and 1,000 test images, 2 rounds."
        in render(some(), {})
    )


def test_sizes_and_settings_are_never_mixed():
    rows = [*some(), *curve([0.6, 0.7], scale=1.0), *curve([0.6, 0.8], devices=400)]
    assert len(sections(rows)) == 3
    assert [s.final("cloud") for s in series_of(rows, SECTION) if s.variant == Variant("fedagg")] == [{0: 0.4, 1: 0.5}]


def test_a_cell_that_settings_share_stands_in_each_of_them():
    rows = [
        *curve([0.1, 0.2], alpha=1.0, beta=0.1),
        *curve([0.1, 0.3], alpha=1.0, beta=3.0),
        *curve([0.1, 0.25], alpha=1.0, method="bridge-only"),
    ]
    text = render(rows, {})
    for name, figure in (("225/a1/beta0.1", "33.14"), ("225/a1/beta3", "34.66")):
        got = table(text, f"### {name}\n")
        assert [(r["method"], r["paper"]) for r in got] == [("FedAgg", figure), ("bridge-only", "")]


def test_pictures_and_notes_and_presets():
    text = render(some(), {SECTION: "img/a.png"}, "Ran on a laptop.\n")
    assert text.count("(img/a.png)") == 1
    assert text.index("Ran on a laptop.") < text.index("## Table II")
    assert "- `paper`: `preset` paper; autoencoder: embedding_channels 4" in text
    assert "`training.teacher_trust` correct" in text
    assert "`guarded`" not in text


def test_only_rows_of_a_table_make_a_table():
    assert "Table II:" not in render(curve([0.1, 0.2], dataset="cifar100", devices=144), {})
    assert "| FedAgg | default | 1 | 20.0 |" in render(curve([0.1, 0.2], dataset="cifar100", devices=144), {})


def test_nothing_yet():
    assert "## Table" not in render([], {})


def test_file_names_tell_sections_apart():
    assert SECTION.slug == "cifar10-225-a3-x0.1-t1000-r2"
