"""Real processes over TLS on loopback; what they compute is what the simulator computes, to the last bit."""

import os
import random
import re
import signal
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import msgspec
from fleets import experiment

from fedagg_edge import checkpoint, simulate
from fedagg_edge.config import parse_config
from fedagg_edge.errors import ConfigError, FedaggError
from fedagg_edge.fleet import up, weights
from fedagg_edge.fleet.plan import plan
from fedagg_edge.records import Tier
from fedagg_edge.simulation.build import read_data
from fedagg_edge.simulation.progress import Silent


def simulated(config, fleet, out):
    """The weights of all nodes after the simulator ran the same experiment with the same autoencoder."""
    raw = msgspec.to_builtins(config)
    raw.pop("base_dir")
    raw["autoencoder"] = {"path": str(fleet.folder / "autoencoder.safetensors")}
    simulate(parse_config(raw), out=out)
    return checkpoint.load(out / "checkpoints").tensors


def assert_equal_weights(fleet, tensors, rounds):
    for node in fleet.nodes:
        saved, problems = weights.load_newest(fleet.home(node) / "state" / "weights")
        assert (saved.version, problems) == (rounds - 1, [])
        np.testing.assert_array_equal(saved.state.weights, tensors[f"{node.place.id}/weights"])


def test_a_fleet_computes_what_the_simulator_computes(tmp_path):
    config = experiment()
    fleet = up.lay_out(config, tmp_path / "fleet", rounds={"target": 3, "deadline": 600.0}, progress=Silent())
    rows = []
    up.run_fleet(fleet, rows.append, seconds=300)
    assert [r["version"] for r in rows] == [0, 1, 2]
    assert (rows[-1]["finished"], rows[-1]["late"], rows[-1]["refused"]) == (True, 0, 0)
    assert_equal_weights(fleet, simulated(config, fleet, tmp_path / "sim"), 3)
    assert up.tier_accuracy(fleet, Tier.CLOUD) == rows[-1]["accuracy"]
    for node in fleet.nodes:  # nobody else may read a key, and none was logged
        key = fleet.home(node) / "state" / "identity" / "key.pem"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        log = (fleet.home(node) / "log.txt").read_text()
        assert "PRIVATE KEY" not in log
        assert "fedagg1." not in log


def processes_of(fleet):
    """{name: pid}: every device, and every gateway and node loop from its supervisor's log."""
    found = {}
    for node in fleet.nodes:
        name = node.place.id
        process = fleet.processes[name]
        if node.place.tier is Tier.DEVICE:
            found[name] = process.pid
            continue
        log = (fleet.folder / name / "log.txt").read_text()
        for child, pid in re.findall(r"child_started .*child=(\w+) pid=(\d+)", log):
            found[f"{name}/{child}"] = int(pid)
    return found


def test_whoever_is_killed_whenever_nothing_is_lost_and_nothing_counted_twice(tmp_path):
    """SIGKILL to a device, a gateway or a node loop every second or so; what is left at the end is, to the last bit,
    what a run without any kill leaves: no sample lost or doubled, no round lost or run twice."""
    config = experiment(rounds=6)
    fleet = up.lay_out(config, tmp_path / "fleet", rounds={"target": 6, "deadline": 600.0}, progress=Silent())
    rng, killed, last = random.Random(0), [], 0.0
    try:
        for node in fleet.nodes:
            fleet.start(node)
        deadline = time.monotonic() + 400
        while True:
            rows = up.read_metrics(fleet, fleet.cloud)
            if rows and rows[-1]["finished"]:
                break
            assert time.monotonic() < deadline, f"{len(rows)} rounds; killed {killed}"
            for node in fleet.nodes:  # what systemd does for a device
                if fleet.processes[node.place.id].poll() is not None:
                    fleet.start(node)
            if len(killed) < 12 and time.monotonic() - last > 1.5:
                name, pid = rng.choice(sorted(processes_of(fleet).items()))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(name)
                last = time.monotonic()
            time.sleep(0.05)
    finally:
        fleet.stop()
    assert len(killed) >= 6, killed
    assert_equal_weights(fleet, simulated(config, fleet, tmp_path / "sim"), 6)


def test_configured_moves_are_told_as_an_operator_would(tmp_path, monkeypatch):
    tree = {"model": "c", "children": [{"model": "e", "count": 2, "children": [{"model": "d0", "count": 2}]}]}
    config = experiment(tree=tree, rounds=4, moves=[{"round": 2, "share": 0.5}])
    ports = {"cloud": 1, "edge-0": 2, "edge-1": 3}
    fleet = up.Fleet(tmp_path, plan(config, read_data(config), ports, rounds={}))
    said = []
    monkeypatch.setattr(up, "_fedagg", lambda *words: said.append(words))
    moves = up.make_moves(fleet, config)
    assert moves(0) == []
    chosen = moves(1)
    assert (len(chosen), moves(2)) == (2, [])
    parent_of = {n.place.id: n.place.parent for n in fleet.nodes}
    for name, words in zip(chosen, said, strict=True):
        other = {"edge-0": 3, "edge-1": 2}[parent_of[name]]
        state = str(tmp_path / name / "state")
        assert words == ("move", name, "--to", f"https://127.0.0.1:{other}", "--state", state)


def test_a_fleet_that_is_there_already_is_not_overwritten_by_chance(tmp_path):
    (tmp_path / "fleet").mkdir()
    with pytest.raises(ConfigError, match="a fleet is there already"):
        up.lay_out(experiment(), tmp_path / "fleet", rounds={}, progress=Silent())


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(tmp_path):
    fleet = up.lay_out(experiment(), tmp_path / "fleet", rounds={"target": 1}, progress=Silent())
    path = fleet.home(fleet.cloud) / "cloud.toml"
    path.write_text(path.read_text() + "\n[nonsense]\n")
    with pytest.raises(FedaggError, match=r"cloud ended with exit code 64: fedagg: .*nonsense: unknown key"):
        up.run_fleet(fleet, lambda row: None, seconds=60)
    assert fleet.processes == {}
