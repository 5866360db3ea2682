"""`fedagg drain` on an edge of a running fleet: its device goes to its fallback, and every sample stays there once."""

import subprocess
import sys

from harness import Daemons, edit, experiment, held, lay_out, ledger_of, rounds_done, url_of, wait_for

from fedagg_edge.records import Tier


def drain(fleet, edge, *words):
    """The command as an operator gives it, from another process than the edge's; (exit code, what it said)."""
    command = [sys.executable, "-m", "fedagg_edge", "drain", "--state", str(fleet.home(edge) / "state"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    return done.returncode, done.stdout + done.stderr


def newcomer(fleet, edge, tmp_path):
    """Somebody enrols with a good token: (exit code, what the command said)."""
    fedagg = [sys.executable, "-m", "fedagg_edge"]
    identity = fleet.home(edge) / "state" / "identity"
    token = subprocess.check_output([*fedagg, "pki", "token", str(identity), "--node", "newcomer"], timeout=60)
    words = ["enroll", url_of(edge), "--token", "-", "--state", str(tmp_path / "newcomer"), "--node", "newcomer"]
    done = subprocess.run([*fedagg, *words], input=token, capture_output=True, timeout=120, check=False)
    return done.returncode, done.stderr.decode()


def arrived(fleet, device, edge):
    """Whether the device has taken over the log of its new parent, and that parent the cloud's."""
    ledger = ledger_of(fleet, device)
    moved = ledger.get("parent.url") == url_of(edge)
    ledger.close()
    return moved and str(device.place.id) in held(fleet, edge, edge.place.id)


def test_a_drained_edges_device_goes_to_its_fallback_and_no_sample_is_lost_or_doubled(tmp_path):
    fleet = lay_out(experiment(rounds=3, devices=1, edges=2), tmp_path / "fleet")
    old, new = (n for n in fleet.nodes if n.place.tier is Tier.EDGE)
    device = next(n for n in fleet.nodes if n.place.parent == old.place.id)
    other = next(n for n in fleet.nodes if n.place.parent == new.place.id)
    name, count = str(device.place.id), len(device.private[1])
    edit(fleet, device, lambda t: t["parent"].update(fallback=[url_of(new)]))
    daemons = Daemons(fleet)
    try:
        daemons.start_all()
        wait_for(lambda: not daemons.reap() and rounds_done(fleet) >= 1, fleet, "no round", seconds=120)
        code, said = drain(fleet, old, "--wait", "2m")
        assert (code, said.splitlines()[-1]) == (0, "all have gone; stop the edge now"), said
        assert held(fleet, old, name) == held(fleet, old, old.place.id) == {}
        assert not daemons.reap()  # the edge serves until somebody stops it
        code, said = newcomer(fleet, old, tmp_path)
        assert code == 69, said  # later: it may be started again and serve
        assert "this edge is drained and takes nobody in" in said
        wait_for(lambda: arrived(fleet, device, new), fleet, "the device has not arrived", seconds=120)
    finally:
        daemons.stop()
    mine = {name: list(range(count))}
    theirs = {str(other.place.id): list(range(len(other.private[1])))}
    assert held(fleet, new, name) == mine
    assert held(fleet, new, new.place.id) == held(fleet, fleet.cloud, new.place.id) == mine | theirs
    assert held(fleet, fleet.cloud, old.place.id) == {}
    ledger = ledger_of(fleet, device)
    assert (ledger.get("parent.url"), len(ledger.pending())) == (url_of(new), 0)
    ledger.close()
    ledger = ledger_of(fleet, new)
    assert [e.by for e in ledger.entries(name, 0)] == ["parent"]  # from above: the device sent nothing again
    ledger.close()
