import json

import pytest
from reproduce.making import row

from fedagg_edge.errors import DataError
from fedagg_edge.reproduce.cells import Cell, Scale
from fedagg_edge.reproduce.rows import merge, read, rows_of, write
from fedagg_edge.reproduce.tables import Setting, Variant

TIERS = {"cloud": "cloud", "edge-0": "edge", "edge-1": "edge", "device-000": "device"}


def metrics(number, **changes):
    accuracy = {"cloud": 0.5, "edge-0": 0.25, "edge-1": 0.75, "device-000": 0.125}
    return {"round": number, "seconds": 2.0, "bytes": 100 * number, "accuracy": accuracy, **changes}


def cell(method="fedagg"):
    return Cell("cifar10", Setting(225, 3.0), Variant(method), 7, Scale(2, 0.1, 50))


def test_a_row_a_figure():
    got = rows_of(cell(), [metrics(0), metrics(1, views={"raw": 0.5, "both": 0.625})], TIERS, (40, 50), "abc")
    assert [(r.round, r.tier, r.view, r.accuracy) for r in got] == [
        (0, "cloud", "raw", 0.5),
        (0, "edge", "raw", 0.5),
        (0, "device", "raw", 0.125),
        (1, "cloud", "raw", 0.5),
        (1, "edge", "raw", 0.5),
        (1, "device", "raw", 0.125),
        (1, "cloud", "both", 0.625),
    ]
    last = got[-1]
    assert (last.seconds, last.bytes, last.commit, last.seed) == (4.0, 100, "abc", 7)
    assert (last.ran_devices, last.ran_edges, last.train_rows, last.test_rows) == (25, 5, 40, 50)


def test_the_cloud_has_its_accuracy_on_validation_images():
    one = Cell("cifar10", Setting(225, 3.0), Variant("fedagg"), 7, Scale(2, 0.1, 50, validation=20))
    views = {"raw": 0.5, "both": 0.625}
    got = rows_of(one, [metrics(0, views=views, validation={"raw": 0.25, "both": 0.75})], TIERS, (40, 50), "abc")
    told = {(r.tier, r.view): (r.validation, r.validation_rows) for r in got}
    assert told == {
        ("cloud", "raw"): (0.25, 20),
        ("cloud", "both"): (0.75, 20),
        ("edge", "raw"): (None, 20),
        ("device", "raw"): (None, 20),
    }
    assert all(r.group != other.group for r in got for other in rows_of(cell(), [metrics(0)], TIERS, (40, 50), "abc"))


def test_devices_have_a_row_on_their_own_mixes():
    got = rows_of(cell(), [metrics(0, own={"device-000": 0.25, "device-001": 0.5})], TIERS, (40, 50), "abc")
    assert [(r.tier, r.accuracy) for r in got if r.view == "own"] == [("device", 0.375)]
    assert not [r for r in rows_of(cell(), [metrics(0, own={})], TIERS, (40, 50), "abc") if r.view == "own"]


def test_a_method_without_a_tier_has_no_row_of_it():
    got = rows_of(cell("alone"), [metrics(0, accuracy={"device-000": 0.5})], TIERS, (40, 50), "abc")
    assert [r.tier for r in got] == ["device"]


def test_a_run_takes_the_place_of_the_same_run():
    old = [row(round=0), row(round=1), row(seed=1)]
    new = [row(round=0, accuracy=0.75)]
    assert merge(old, new) == [row(round=0, accuracy=0.75), row(seed=1)]
    assert merge([], old) == merge(old, []) == merge(reversed(old), old)


@pytest.mark.parametrize(
    "changes",
    [
        {"devices": 400},
        {"alpha": 1.0},
        {"beta": 1.0},
        {"cloud": "cnn3"},
        {"method": "alone"},
        {"preset": "paper"},
        {"rounds": 3},
        {"scale": 0.2},
        {"test_rows": 10},
        {"dataset": "cifar100"},
    ],
)
def test_other_runs_stay(changes):
    assert len(merge([row()], [row(**changes)])) == 2


def test_there_and_back(tmp_path):
    path = tmp_path / "results.json"
    assert read(path) == []
    rows = [row(), row(beta=0.1, seed=3)]
    write(path, rows)
    assert read(path) == rows
    assert len(json.loads(path.read_text())["rows"]) == 2
    assert path.read_text().count("\n") == 4  # one row a line, for diffs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not the results of"),
        ('{"schema": 2, "rows": []}', "of another version"),
        ('{"schema": 1}', "damaged"),
        ('{"schema": 1, "rows": [{}]}', "damaged: .*missing required field"),
        ("{", "damaged"),
    ],
)
def test_another_file_is_not_overwritten(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read(path)
