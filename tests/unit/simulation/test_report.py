import json

import numpy as np
import pytest
from simulation.worlds import some_results

from fedagg_edge.records import Tier
from fedagg_edge.simulation import report


def test_the_table_of_a_whole_run():
    assert report.table(some_results()).splitlines() == [
        "test accuracy",
        "  average device, trained alone                 50.0 %",
        "  average device, FedAgg                        55.0 %",
        "  average edge, FedAgg                          50.0 %",
        "  cloud, FedAgg                                 80.0 %",
        "  cloud's model on all private data (bound)     90.0 %",
        "gap from device alone to bound, closed by       75.0 %",
        "bytes moved per device, on average               640 B",
        "bytes moved in all, over all links            123.5 kB",
        "rounds                                               4",
    ]


def test_devices_on_their_own_mix_stand_below_what_is_common():
    results = some_results(own_R=np.array([0.1, 0.2, 0.65]), alone_own=0.6)
    lines = report.table(results).splitlines()
    at = lines.index("the same, a device's on its own mix of classes")
    assert lines[at - 1].split()[-2] == "90.0"  # the bound
    assert [line.split()[-2] for line in lines[at + 1 : at + 3]] == ["60.0", "65.0"]
    assert report.as_json(results)["own_mix"] == {"device": 0.65, "alone": 0.6}
    resumed = some_results(own_R=np.array([0.1, 0.2, np.nan]))  # no such figure at the end
    assert "own mix" not in report.table(resumed)


def test_the_clouds_views_are_beside_its_accuracy():
    results = some_results(views_R={"bridge": np.array([0.1, 0.2, 0.85]), "both": np.array([0.1, 0.2, 0.875])})
    lines = report.table(results).splitlines()
    at = lines.index(next(line for line in lines if line.startswith("  cloud, FedAgg  ")))
    assert [line.split("FedAgg, ")[1].split() for line in lines[at + 1 : at + 3]] == [
        ["bridge", "view", "dec(enc(x))", "85.0", "%"],
        ["both", "views", "averaged", "87.5", "%"],
    ]
    assert report.as_json(results)["views"] == {"bridge": [0.1, 0.2, 0.85], "both": [0.1, 0.2, 0.875]}


def test_the_table_leaves_out_what_there_is_not():
    text = report.table(some_results(alone=None, centralised=None, tiers=(Tier.CLOUD, *[Tier.DEVICE] * 3)))
    assert not any(word in text for word in ("alone", "bound", "gap", "edge", "nan", "None"))


def test_json_is_strict_and_complete():
    got = json.loads(json.dumps(report.as_json(some_results()), allow_nan=False))
    assert got == {
        "schema": 1,
        "method": "fedagg",
        "folder": "runs/toy",
        "rounds": [0, 1, 3],
        "nodes": ["cloud", "edge-0", "device-000", "device-001"],
        "tiers": ["cloud", "edge", "device", "device"],
        "accuracy": [[0.1, 0.2, 0.3, 0.5], [0.4, 0.3, 0.4, 0.6], [0.8, 0.5, 0.4, 0.7]],
        "final": {"device": 0.55, "edge": 0.5, "cloud": 0.8},
        "alone": 0.5,
        "own_mix": {"device": None, "alone": None},
        "centralised": 0.9,
        "gap_closed": pytest.approx(0.75),
        "bytes_total": 123456,
        "bytes_per_device": 640.25,
        "seconds": 1.234,
    }


def test_json_has_null_and_not_nan_for_what_there_is_not():
    results = some_results(alone=None, centralised=None, tiers=(Tier.CLOUD, *[Tier.DEVICE] * 3))
    got = report.as_json(results)
    json.dumps(got, allow_nan=False)
    assert (got["alone"], got["centralised"], got["gap_closed"], set(got["final"])) == (
        None, None, None, {"cloud", "device"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.5e6, "1.5 MB"), (2e9, "2.0 GB"), (5e13, "50000.0 GB")],
)
def test_sizes(count, text):
    assert report.format_bytes(count) == text
