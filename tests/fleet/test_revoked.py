"""A device is revoked in the middle of a fleet's training: the others go on, without a quorum that would let them."""

import time

from harness import experiment, lay_out, rounds_done, wait_for

from fedagg_edge.fleet import up
from fedagg_edge.identity import operator


def test_a_round_goes_on_without_a_device_that_was_revoked(tmp_path):
    """`quorum` is 1 and the deadline ten minutes: only who is not waited for any more lets the rounds go on."""
    fleet = lay_out(experiment(rounds=100_000), tmp_path / "fleet", deadline=600.0, quorum=1.0)
    gone = next(n for n in fleet.nodes if n.place.id == "device-000")
    edge = next(n for n in fleet.nodes if n.place.id == gone.place.parent)
    try:
        for node in fleet.nodes:
            fleet.start(node)
        wait_for(lambda: rounds_done(fleet) >= 2, fleet, "the first rounds")
        operator.revoke(fleet.home(edge) / "state" / "identity", time.time(), node=str(gone.place.id))
        wait_for(lambda: rows(fleet, edge)[-1] < rows(fleet, edge)[0], fleet, "a round without it")
        seen = rounds_done(fleet)
        wait_for(lambda: rounds_done(fleet) >= seen + 3, fleet, "rounds without it")
    finally:
        fleet.stop()


def rows(fleet, node):
    """How many rows each of a node's rounds trained on."""
    return [row["rows"] for row in up.read_metrics(fleet, node)]
