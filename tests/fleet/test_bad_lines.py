"""Real processes over lines that break, stall, garble and fall silent: what they compute is what it would have been."""

import itertools
import time
from collections import Counter

import numpy as np
import pytest
from harness import (
    assert_as_simulated,
    experiment,
    is_over,
    lay_out,
    ledger_of,
    proxied,
    rounds_done,
    settled,
    state,
    wait_for,
)
from proxy import FATES, Proxy

from fedagg_edge.fleet import up
from fedagg_edge.records import Link, Tier


def started(fleet):
    for node in fleet.nodes:
        fleet.start(node)


def node_named(fleet, name):
    return next(n for n in fleet.nodes if n.place.id == name)


def test_faults_on_every_line_change_nothing(tmp_path):
    config = experiment(rounds=12)
    fleet = lay_out(config, tmp_path / "fleet")

    def bad(name, port):
        return Proxy(port, seed=sum(name.encode()), faults=10, delay=0.01, stall=0.2, within=6_000)

    with proxied(fleet, bad) as proxies:
        try:
            started(fleet)
            wait_for(lambda: is_over(fleet) and settled(fleet, config.rounds), fleet, "rounds over bad lines")
        finally:
            fleet.stop()
        happened = sum((p.happened for p in proxies.values()), Counter())
        del happened["well"]
    assert sum(happened.values()) >= 12, happened
    assert set(happened) <= set(FATES)
    assert len(happened) >= 4, happened
    assert_as_simulated(fleet, config, tmp_path / "sim")


def test_a_partition_heals_and_the_rounds_go_on_as_if_there_had_been_none(tmp_path):
    config = experiment(rounds=5, edges=2, devices=1)
    fleet = lay_out(config, tmp_path / "fleet")
    with proxied(fleet, lambda name, port: Proxy(port)) as proxies:
        try:
            started(fleet)
            wait_for(lambda: rounds_done(fleet) >= 1, fleet, "a first round")
            proxies["edge-0"].partition()
            other = node_named(fleet, "edge-1")
            # the other edge goes as far as it can without the one that is cut off: the cloud waits for both
            before = wait_for(lambda: quiet(fleet, other), fleet, "the cloud waits")
            proxies["edge-0"].heal()
            wait_for(lambda: is_over(fleet) and settled(fleet, config.rounds), fleet, "rounds after the partition")
        finally:
            fleet.stop()
    assert before < config.rounds
    assert_as_simulated(fleet, config, tmp_path / "sim")


def quiet(fleet, node, looks=40):
    """How many rounds a node has made once that number has stayed the same for a while; 0 until then."""
    seen = rounds_done(fleet, node)
    for _ in range(looks):
        time.sleep(0.05)
        if rounds_done(fleet, node) != seen or rounds_done(fleet) > seen:
            return 0
    return seen


def test_a_quorum_goes_on_without_the_edge_that_is_cut_off_and_takes_it_back(tmp_path):
    """The straggler's cached knowledge is used, weighted by its age; healed, it jumps to the present round."""
    fleet = lay_out(
        experiment(rounds=100_000, edges=2, devices=1),
        tmp_path / "fleet",
        change=lambda node, table: table["rounds"].update(
            {"deadline": 0.4, "quorum": 0.5} if node.place.parent is None else {}
        ),
    )
    cut = node_named(fleet, "edge-0")

    def late():
        return [row["late"] + row["silent"] for row in up.read_metrics(fleet, fleet.cloud)]

    def used(version):
        """Whether the cloud has what the edge made of a round that began after `version`."""
        ledger = ledger_of(fleet, fleet.cloud)
        newest = ledger.newest(Link(cut.place.id, fleet.cloud.place.id), cut.place.id)
        ledger.close()
        return newest.knowledge.version > version

    with proxied(fleet, lambda name, port: Proxy(port)) as proxies:
        try:
            started(fleet)
            wait_for(lambda: rounds_done(fleet, cut) >= 2, fleet, "the first rounds")
            proxies["edge-0"].partition()
            seen = rounds_done(fleet)
            wait_for(lambda: rounds_done(fleet) >= seen + 5, fleet, "rounds without it")
            assert late()[-3:] == [1, 1, 1]
            alone = up.read_metrics(fleet, fleet.cloud)[-1]["version"]
            assert not used(alone)
            proxies["edge-0"].heal()
            wait_for(lambda: used(alone), fleet, "rounds with it again")
        finally:
            fleet.stop()
    versions = [row["version"] for row in up.read_metrics(fleet, cut) if "offline" not in row]  # passes by itself
    assert max(b - a for a, b in itertools.pairwise(versions)) > 2  # it jumped over what it had missed
    assert versions == sorted(set(versions))


def test_a_device_that_is_cut_off_trains_on_and_catches_up_by_itself(tmp_path):
    """Its parent's last knowledge is trained on again and again, its new samples wait in the outbox, each goes once."""

    def patient(node, table):
        if node.place.tier is Tier.DEVICE:
            table["rounds"]["idle"] = 0.2
            table["parent"]["lost_after"] = 0.5
            table["poll"] = 0.1

    fleet = lay_out(experiment(rounds=100_000, devices=2), tmp_path / "fleet", change=patient)
    device = node_named(fleet, "device-000")
    count = len(device.private[1])

    def offline():
        return sum("offline" in row for row in up.read_metrics(fleet, device))

    def rows_at_cloud():
        ledger = ledger_of(fleet, fleet.cloud)
        found = ledger.samples(device.place.parent)
        ledger.close()
        return len(found.counters[found.origins.index(device.place.id)])

    with proxied(fleet, lambda name, port: Proxy(port)) as proxies:
        try:
            started(fleet)
            wait_for(lambda: rounds_done(fleet) >= 2, fleet, "the first rounds")
            proxies["device-000"].partition()
            already = offline()
            wait_for(lambda: offline() >= already + 2, fleet, "passes without a parent")
            drop(fleet, device, 0)
            wait_for(lambda: waiting(fleet, device) == 1, fleet, "new samples in the outbox")
            wait_for(lambda: offline() >= already + 5, fleet, "more passes, with the new samples waiting")
            assert rows_at_cloud() == count
            stopped = rounds_done(fleet)
            proxies["device-000"].heal()
            wait_for(lambda: rows_at_cloud() == count + 5, fleet, "the samples of the time without a parent")
            wait_for(lambda: rounds_done(fleet) >= stopped + 2, fleet, "rounds after it")
            wait_for(lambda: waiting(fleet, device) == 0, fleet, "an empty outbox")
        finally:
            fleet.stop()
    found = state(fleet)
    assert found["device-000"]["links"]["device-000"]["samples"]["device-000"] == list(range(count + 5))
    trained = [row["loss"] for row in up.read_metrics(fleet, device) if "offline" in row]
    assert len(set(trained)) > 1  # it learnt, it did not only say so


@pytest.mark.parametrize("left", ["all but five", "none"])
def test_a_device_that_lets_samples_go_while_it_is_cut_off_trains_on_with_what_remains(tmp_path, left):
    """Its parent's last knowledge is about a set of which it has a part, or nothing, any more."""

    def patient(node, table):
        if node.place.tier is Tier.DEVICE:
            table["rounds"]["idle"] = 0.2
            table["parent"]["lost_after"] = 0.5
            table["poll"] = 0.1
            table["retention"] = {"samples": len(node.private[1]) if left == "all but five" else 5}

    fleet = lay_out(experiment(rounds=100_000, devices=2), tmp_path / "fleet", change=patient)
    device = node_named(fleet, "device-000")
    count = len(device.private[1])
    kept = range(5, count + 5) if left == "all but five" else range(count + 15, count + 20)

    def passes():
        return [row for row in up.read_metrics(fleet, device) if "offline" in row]

    with proxied(fleet, lambda name, port: Proxy(port)) as proxies:
        try:
            started(fleet)
            wait_for(lambda: rounds_done(fleet) >= 2, fleet, "the first rounds")
            proxies["device-000"].partition()
            already = len(passes())
            wait_for(lambda: len(passes()) >= already + 2, fleet, "passes without a parent")
            drop(fleet, device, 0)
            wait_for(
                lambda: waiting(fleet, device) == 2, fleet, "new samples, and what forgets old ones, in the outbox"
            )
            since = len(passes())
            if left == "none":  # nothing to learn; it lives, and takes in what comes
                for number in (1, 2, 3):
                    drop(fleet, device, number)
                    wait_for(lambda n=2 + 2 * number: waiting(fleet, device) == n, fleet, "more samples")
                assert len(passes()) <= since + 1
            else:
                wait_for(lambda: len(passes()) >= since + 4, fleet, "passes with what remains")
                assert {row["rows"] for row in passes()[since + 1 :]} == {count - 5}
            stopped = rounds_done(fleet)
            proxies["device-000"].heal()
            wait_for(lambda: waiting(fleet, device) == 0, fleet, "an empty outbox")
            wait_for(lambda: rounds_done(fleet) >= stopped + 2, fleet, "rounds after it")
        finally:
            fleet.stop()
    found = state(fleet)
    for node in ("device-000", "edge-0"):
        assert found[node]["links"]["device-000"]["samples"]["device-000"] == list(kept)
    log = (fleet.home(device) / "log.txt").read_text()
    assert "pass_refused" not in log
    assert "turn_put_off" not in log


def waiting(fleet, node):
    ledger = ledger_of(fleet, node)
    found = len(ledger.pending())
    ledger.close()
    return found


def drop(fleet, device, number, rows=5):
    """A parcel of new private samples."""
    rng = np.random.default_rng(number)
    path = fleet.home(device) / "private" / f"more-{number}.npz"
    with path.with_suffix(".tmp").open("wb") as f:
        np.savez(f, x=rng.integers(0, 256, (rows, 1, 8, 8)).astype(np.uint8), y=rng.integers(0, 4, rows))
    path.with_suffix(".tmp").rename(path)
