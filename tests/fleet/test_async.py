"""Async fleets: nobody waits for anybody, old knowledge counts less, the target is passes over all rows."""

import json
import subprocess
import sys

import tomli_w
from harness import HERE, edit, experiment, is_over, lay_out, ledger_of, proxied, rounds_done, state, table, wait_for
from proxy import Proxy

from fedagg_edge.fleet import up
from fedagg_edge.records import Link, NodeId, Tier


def idle(seconds):
    return lambda node, table: table["rounds"].update(idle=seconds)


def test_a_fleet_up_in_async_mode_ends_at_its_target(tmp_path):
    """As a newcomer would: the command, to its end."""
    (tmp_path / "softmax.py").write_text((HERE / "softmax.py").read_text())  # modules lie beside the experiment
    (tmp_path / "small.toml").write_text(tomli_w.dumps(table(rounds=3)))
    done = subprocess.run(
        [sys.executable, "-m", "fedagg_edge", "fleet", "up", str(tmp_path / "small.toml"), "--mode", "async", "--out",
         str(tmp_path / "fleet")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "round   0" in done.stdout
    lines = (tmp_path / "fleet" / "cloud" / "state" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["version"] for row in rows] == list(range(len(rows)))
    assert [row["finished"] for row in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1]["passes"] >= 3 > rows[-2]["passes"]
    assert all(row["refused"] == 0 for row in rows)


def test_nobody_waits_for_one_that_is_away_and_its_old_knowledge_counts_less(tmp_path):
    """A device behind a dead line: edge, cloud and the other device go on; when it is back, what it says is taken with
    the age it has."""
    fleet = lay_out(experiment(rounds=100_000), tmp_path / "fleet", mode="async", change=idle(0.3))
    edge = next(n for n in fleet.nodes if n.place.tier is Tier.EDGE)

    def made(node):
        return len(up.read_metrics(fleet, node))

    with proxied(fleet, lambda name, port: Proxy(port)) as proxies:
        try:
            for node in fleet.nodes:
                fleet.start(node)
            wait_for(lambda: all(made(n) >= 3 for n in fleet.nodes), fleet, "everybody's first turns")
            before = {n.place.id: made(n) for n in fleet.nodes}
            proxies["device-000"].partition()
            others = [n for n in fleet.nodes if n.place.id != "device-000"]
            wait_for(lambda: all(made(n) >= before[n.place.id] + 5 for n in others), fleet, "turns without it")
            proxies["device-000"].heal()
            back = made(edge)
            wait_for(lambda: taken(fleet, edge) >= back, fleet, "it is back: based on what the edge said since")
        finally:
            fleet.stop()
    for node in fleet.nodes:
        versions = [row["version"] for row in up.read_metrics(fleet, node) if "offline" not in row]
        assert versions == list(range(len(versions))), node.place.id  # each turn once, none skipped
    found = state(fleet)
    for node in fleet.nodes:
        if node.private is not None:
            name = str(node.place.id)
            assert found["edge-0"]["links"][name] == found[name]["links"][name]
    assert not is_over(fleet)


def test_the_clouds_file_alone_says_the_mode_also_when_it_changes(tmp_path):
    """deploy/edge.toml has none: the edge must train as its gateway tells its devices to. The cloud is started again
    in the other mode, and everybody below hears of it."""

    def cloud_alone(node, table):
        if node.place.tier is not Tier.CLOUD:
            del table["rounds"]["mode"]
        if node.place.children:
            table["rounds"].update(target=0, children=1)

    fleet = lay_out(experiment(rounds=100_000), tmp_path / "fleet", mode="async", change=cloud_alone)

    def versions(node):
        return [row["version"] for row in up.read_metrics(fleet, node)]

    def go_on(why, nodes=fleet.nodes):
        before = {n.place.id: rounds_done(fleet, n) for n in nodes}
        wait_for(lambda: all(rounds_done(fleet, n) >= before[n.place.id] + 3 for n in nodes), fleet, why)

    def restart(mode):
        process = fleet.processes.pop(fleet.cloud.place.id)
        process.terminate()
        assert process.wait(60) == 0
        edit(fleet, fleet.cloud, lambda table: table["rounds"].update(mode=mode))
        fleet.start(fleet.cloud)

    try:
        *early, late = fleet.nodes
        for node in early:
            fleet.start(node)
        go_on("turns in async", early)
        fleet.start(late)  # its turns are fewer than the edge's: who waits for a version would wait for ever
        go_on("turns in async, with the latecomer")
        restart("sync")
        go_on("rounds in sync")
        wait_for(lambda: in_step(map(versions, fleet.nodes)), fleet, "all in one round")
        assert all(versions(node)[-1] >= 10**9 for node in fleet.nodes)  # above all turns that anybody has counted
        go_on("still")
        restart("async")
        go_on("turns in async again")
    finally:
        fleet.stop()
    for node in fleet.nodes:
        assert versions(node) == sorted(set(versions(node))), node.place.id  # none is taken twice


def in_step(versions):
    newest = [rows[-1] for rows in versions]
    return max(newest) - min(newest) <= 2


def taken(fleet, edge):
    """The edge's version that the device's newest knowledge at the edge was based on."""
    return state_of(fleet, edge)["device-000>edge-0:device-000"][1]


def state_of(fleet, node):
    ledger = ledger_of(fleet, node)
    found = {}
    for child, parent, publisher in ledger.db.all("SELECT DISTINCT child, parent, publisher FROM knowledge"):
        newest = ledger.newest(Link(NodeId(child), NodeId(parent)), NodeId(publisher))
        found[f"{child}>{parent}:{publisher}"] = (newest.knowledge.version, newest.basis)
    ledger.close()
    return found
