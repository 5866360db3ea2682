"""A process that hangs in a running fleet is started again by its supervisor, and the rounds go on as if it had not."""

import os
import re
import signal
import subprocess
import sys

import pytest
from harness import assert_as_simulated, config_path, experiment, is_over, lay_out, rounds_done, settled, wait_for

# `fedagg edge` as it is, but for how long it waits for a sign of life
IMPATIENT = """
import sys
from fedagg_edge.cli import main, node
node.SILENCE, node.LOOP_SILENCE = 3.0, 6.0
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["gateway", "node_loop"])
def test_a_hung_process_is_started_again(tmp_path, name):
    config = experiment(rounds=5)
    fleet = lay_out(config, tmp_path / "fleet")
    edge = next(n for n in fleet.nodes if n.place.id == "edge-0")
    path = fleet.home(edge) / "log.txt"

    def started():
        return [int(pid) for pid in re.findall(rf"child_started.* child={name} pid=(\d+)", path.read_text())]

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
        os.kill(started()[-1], signal.SIGSTOP)
        before = len(started())
        wait_for(lambda: len(started()) > before, fleet, "another one")
        wait_for(lambda: is_over(fleet) and settled(fleet, config.rounds), fleet, "rounds after it")
    finally:
        fleet.stop()
    assert re.search(f"child_silent.* child={name}", path.read_text())
    assert_as_simulated(fleet, config, tmp_path / "sim")
