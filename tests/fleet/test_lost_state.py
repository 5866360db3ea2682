"""A device whose ledger is lost while its certificate and its files are not: it adds to what its edge has of it."""

import numpy as np
from harness import Daemons, experiment, held, lay_out, ledger_of, rounds_done, wait_for

from fedagg_edge.records import Tier


def test_a_device_that_lost_its_ledger_takes_in_and_sends_new_samples(tmp_path):
    fleet = lay_out(experiment(rounds=100_000), tmp_path / "fleet")
    edge = next(n for n in fleet.nodes if n.place.tier is Tier.EDGE)
    device = next(n for n in fleet.nodes if n.place.tier is Tier.DEVICE)
    name, home = str(device.place.id), fleet.home(device)
    x_N, y_N = device.private
    daemons = Daemons(fleet)
    try:
        daemons.start_all()
        wait_for(lambda: not daemons.reap() and rounds_done(fleet) >= 2, fleet, "the first rounds")
        daemons.kill(name)
        for path in (home / "state").glob("ledger.sqlite*"):
            path.unlink()
        np.savez(home / "private" / "another.npz", x=x_N[:4], y=y_N[:4])  # before first.npz, which had the numbers
        daemons.start(name)
        due = {name: list(range(len(y_N) + 4 + len(y_N)))}
        there = lambda: not daemons.reap() and held(fleet, edge, name) == due  # noqa: E731
        wait_for(there, fleet, "the samples at the edge")
        wait_for(lambda: held(fleet, fleet.cloud, edge.place.id)[name] == due[name], fleet, "the samples at the cloud")
    finally:
        daemons.stop()
    log = (home / "train.txt").read_text()
    assert "parcel_refused" not in log
    assert "refused" not in log
    ledger = ledger_of(fleet, device)
    assert ledger.joined()
    assert not ledger.pending()
    ledger.close()
