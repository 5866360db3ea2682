"""A gateway that hangs in a running fleet is started again by its supervisor, and the rounds go on as if it had not."""

import os
import re
import signal
import subprocess
import sys

from harness import assert_as_simulated, config_path, experiment, is_over, lay_out, rounds_done, settled, wait_for

# `fedagg edge` as it is, but for how long it waits for a sign of life
IMPATIENT = "import sys; from fedagg_edge.cli import main, node; node.SILENCE = 3.0; sys.exit(main.main(sys.argv[1:]))"


def test_a_hung_gateway_is_started_again(tmp_path):
    config = experiment(rounds=5)
    fleet = lay_out(config, tmp_path / "fleet")
    edge = next(n for n in fleet.nodes if n.place.id == "edge-0")
    path = fleet.home(edge) / "log.txt"

    def gateways():
        return [int(pid) for pid in re.findall(r"child_started.* child=gateway pid=(\d+)", path.read_text())]

    try:
        for node in fleet.nodes:
            if node is not edge:
                fleet.start(node)
        with path.open("ab") as log:
            fleet.processes[edge.place.id] = subprocess.Popen(
                [sys.executable, "-c", IMPATIENT, "edge", "--config", str(config_path(fleet, edge))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: rounds_done(fleet, edge) >= 1, fleet, "a first round")
        os.kill(gateways()[-1], signal.SIGSTOP)
        before = len(gateways())
        wait_for(lambda: len(gateways()) > before, fleet, "another gateway")
        wait_for(lambda: is_over(fleet) and settled(fleet, config.rounds), fleet, "rounds after it")
    finally:
        fleet.stop()
    assert re.search("child_silent.* child=gateway", path.read_text())
    assert_as_simulated(fleet, config, tmp_path / "sim")
