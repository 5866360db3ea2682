"""Real processes whose requests come twice, late, after newer ones, cut or not at all: what they compute stays."""

from collections import Counter
from contextlib import closing

from harness import (
    assert_as_simulated,
    edit,
    experiment,
    held,
    is_over,
    lay_out,
    ledger_of,
    moved,
    proxied,
    rounds_done,
    settled,
    wait_for,
)
from meddler import FATES, Meddler

from fedagg_edge.fleet import operating
from fedagg_edge.records import NodeId, Tier


def meddled(fleet, faults):
    """What makes a proxy for each link of `fleet`, with the certificates of its two ends."""
    node_of = {str(n.place.id): n for n in fleet.nodes}

    def identity(name):
        return fleet.home(node_of[name]) / "state" / "identity"

    def make(name, port):
        parent = str(node_of[name].place.parent)
        return Meddler(port, parent=identity(parent), child=identity(name), seed=sum(name.encode()), faults=faults)

    return make


def test_requests_doubled_late_out_of_order_cut_and_lost_change_nothing(tmp_path):
    config = experiment(rounds=12)
    fleet = lay_out(config, tmp_path / "fleet")
    with proxied(fleet, meddled(fleet, 16)) as proxies:
        try:
            for node in fleet.nodes:
                fleet.start(node)
            wait_for(lambda: is_over(fleet) and settled(fleet, config.rounds), fleet, "rounds over meddled lines")
            for proxy in proxies.values():
                proxy.deliver_rest()
        finally:
            fleet.stop()
        assert [p.problems for p in proxies.values()] == [[]] * len(proxies)
        happened = sum((p.happened for p in proxies.values()), Counter())
        late = Counter(path for p in proxies.values() for path in p.late)
    assert set(happened) == set(FATES), happened
    assert sum(late.values()) >= 3, late
    assert_as_simulated(fleet, config, tmp_path / "sim")


def test_a_move_over_such_lines_loses_and_doubles_no_sample_and_the_old_parents_late_messages_change_nothing(tmp_path):
    fleet = lay_out(experiment(rounds=100_000, devices=1, edges=2), tmp_path / "fleet")
    old, new = (n for n in fleet.nodes if n.place.tier is Tier.EDGE)
    device = next(n for n in fleet.nodes if n.place.parent == old.place.id)
    other = next(n for n in fleet.nodes if n.place.parent == new.place.id)
    name, count = str(device.place.id), len(device.private[1])
    edit(fleet, device, lambda t: t["parent"].update(lost_after=3600.0))
    identity = fleet.home(new) / "state" / "identity", fleet.home(device) / "state" / "identity"
    port = new.table["listen"]["port"]
    with (
        proxied(fleet, meddled(fleet, 24)) as proxies,
        closing(Meddler(port, parent=identity[0], child=identity[1], seed=7, faults=24)) as there,
    ):
        try:
            for node in fleet.nodes:
                fleet.start(node)
            wait_for(lambda: rounds_done(fleet) >= 2, fleet, "the first rounds")
            url = f"https://127.0.0.1:{there.port}"
            ledger = operating.open_node(fleet.home(device) / "state")
            operating.tell_to_move(ledger, fleet.home(device) / "state", device.place.id, [url])
            ledger.close()
            wait_for(lambda: moved(fleet, device, url, 1), fleet, "the move")
            before = rounds_done(fleet, device)
            for proxy in (*proxies.values(), there):
                proxy.deliver_rest()  # what the old parent hears now is of before the move
            wait_for(lambda: rounds_done(fleet, device) >= before + 2, fleet, "rounds with the new parent")
            wait_for(lambda: held(fleet, old, old.place.id) == {}, fleet, "the old parent has let it go")
            wait_for(lambda: sum(there.happened.values()) >= 4, fleet, "something on the new line, too")
            assert moved(fleet, device, url, 1)  # and it did not go back
        finally:
            fleet.stop()
        assert [p.problems for p in (*proxies.values(), there)] == [[]] * (len(proxies) + 1)
    mine, theirs = {name: list(range(count))}, {str(other.place.id): list(range(len(other.private[1])))}
    assert held(fleet, device, name) == held(fleet, new, name) == mine
    assert held(fleet, new, new.place.id) == held(fleet, fleet.cloud, new.place.id) == mine | theirs
    assert held(fleet, old, name) == held(fleet, fleet.cloud, old.place.id) == {}
    ledger = ledger_of(fleet, new)
    assert [e.by for e in ledger.entries(NodeId(name), 0)] == ["parent"]  # it sent nothing again
    ledger.close()
