"""`fedagg forget` through a real cloud, edge and device: processes, TLS, files."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "fleet"))

from fleets import experiment

from fedagg_edge.fleet import up
from fedagg_edge.ledger.ledger import Ledger, Options
from fedagg_edge.records import Link, NodeId, Tier
from fedagg_edge.simulation.progress import Silent

GONE = NodeId("device-000")


def until(what, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found


def fedagg(*words):
    done = subprocess.run(
        [sys.executable, "-m", "fedagg_edge", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def fleet(tmp_path):
    made = up.lay_out(experiment(), tmp_path / "fleet", rounds={"target": 8, "deadline": 600.0}, progress=Silent())
    try:
        for node in made.nodes:
            made.start(node)
        yield made
    finally:
        made.stop()


def files_with(folder, pattern):
    return [path.name for path in (folder / "state").glob("ledger.sqlite*") if pattern in path.read_bytes()]


def test_a_device_is_forgotten_at_every_ancestor_while_training_goes_on(fleet):
    cloud = fleet.cloud
    edge = next(n for n in fleet.nodes if n.place.tier is Tier.EDGE)
    homes = [fleet.home(cloud), fleet.home(edge)]
    rows = until(lambda: len(up.read_metrics(fleet, cloud)))
    ledger = Ledger.open(
        homes[1] / "state" / "ledger.sqlite", node=edge.place.id, federation="small", options=Options(tier=Tier.EDGE)
    )
    planted = ledger.embeddings(GONE).code_NB
    others = ledger.embeddings(next(c for c in edge.place.children if c != GONE)).code_NB
    pattern = bytes(next(row for row in planted if not (others == row).all(axis=1).any()))
    assert all(files_with(home, pattern) for home in homes)

    fedagg("forget", GONE, "--config", homes[0] / "cloud.toml", "--revoke", "--receipt", fleet.folder / "receipt.json")
    told = json.loads((fleet.folder / "receipt.json").read_text())
    assert told["waiting_for"] == []
    found = {each["node"]: each for each in told["receipts"]}
    assert set(found) == {cloud.place.id, edge.place.id}
    assert all(each["scrubbed"] and each["rows"] == len(planted) for each in found.values())
    assert all(each["knowledge"] > 0 for each in found.values())
    for home in homes:
        assert files_with(home, pattern) == []
    assert len(ledger.samples(GONE)) == 0
    assert ledger.newest(Link(GONE, edge.place.id), GONE) is None  # the edge refused it before it forgot
    ledger.close()

    identity = homes[0] / "state" / "identity"
    url = f"https://127.0.0.1:{cloud.table['listen']['port']}"
    status = json.loads(fedagg("status", url, "--identity", identity, "--json"))
    assert {each["node"] for each in status["receipts"] if each["order"] == told["order"]} == set(found)

    seen = until(lambda: (made := up.read_metrics(fleet, cloud)) and made[-1]["finished"] and made, 300)
    assert len(seen) > rows
    assert seen[-1]["rows"] == len(others)  # the other device taught on, alone
    assert fedagg("pull", url, "--identity", identity, "--out", fleet.folder / "model.safetensors")
    for node in (cloud, edge):
        assert fleet.processes[node.place.id].poll() is None
        log = (fleet.home(node) / "log.txt").read_text()
        assert "child_restarts" not in log
