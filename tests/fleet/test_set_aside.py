"""An edge that takes less than a row: its device says so and keeps the rows; they go once the edge takes them."""

import subprocess
import sys

from harness import (
    Daemons,
    assert_as_simulated,
    edit,
    experiment,
    is_over,
    lay_out,
    ledger_of,
    settled,
    wait_for,
)

from fedagg_edge.records import Tier


def test_rows_that_an_edge_does_not_take_wait_until_it_does(tmp_path):
    config = experiment(rounds=2, devices=1)
    fleet = lay_out(config, tmp_path / "fleet")
    edge = next(n for n in fleet.nodes if n.place.tier is Tier.EDGE)
    device = next(n for n in fleet.nodes if n.place.tier is Tier.DEVICE)
    edit(fleet, edge, lambda table: table.setdefault("limits", {}).update(entry_bytes=16))
    count = len(device.private[1])
    log = fleet.home(device) / "train.txt"
    daemons = Daemons(fleet)
    try:
        daemons.start_all()
        wait_for(lambda: not daemons.reap() and "rows_set_aside" in log.read_text(), fleet, "nothing is said")
        state = str(fleet.home(device) / "state")
        said = subprocess.check_output([sys.executable, "-m", "fedagg_edge", "status", state], text=True, timeout=60)
        assert f"{count} rows that the parent does not take" in said
        ledger = ledger_of(fleet, device)
        assert sum(b.rows for b in ledger.pending(10_000)) == count
        assert ledger.acknowledged().entry == 0
        ledger.close()
        assert log.read_text().count("rows_set_aside") == 1
        edit(fleet, edge, lambda table: table.pop("limits"))
        for name in (f"{edge.place.id}/gateway", f"{edge.place.id}/train", str(device.place.id)):
            daemons.kill(name)
            daemons.start(name)
        wait_for(lambda: not daemons.reap() and is_over(fleet) and settled(fleet, 2), fleet, "rounds after it")
        assert "nothing_set_aside" in log.read_text()
    finally:
        daemons.stop()
    assert_as_simulated(fleet, config, tmp_path / "sim")
