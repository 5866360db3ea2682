"""Wall clocks that jump under running daemons: a board's is set long after its start, or never was; a server's by
minutes. They are for records, certificates and retention alone: the rounds are, to the last bit, the simulator's."""

import os
import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import Daemons, assert_as_simulated, experiment, is_over, lay_out, rounds_done, settled, tails

from fedagg_edge.records import Tier

HERE = Path(__file__).parent
COMPILER = shutil.which("cc")
HOUR, DAY = 3600, 86_400
DEVICES = (-50 * 365 * DAY, -2 * DAY, -HOUR, HOUR, 2 * DAY, 40 * DAY)  # certificates last seven days
SERVERS = (-240, -60, 60, 240)  # must be right, within the five minutes by which certificates begin early


class Clock:
    """How far a node's clock is from the machine's, in a file that its processes have mapped."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(struct.pack("=q", 0))

    def set(self, seconds):
        with self.path.open("r+b") as f:  # in place: eight bytes of one page
            f.write(struct.pack("=q", seconds))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if COMPILER is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler named cc, and Linux")
    made = tmp_path_factory.mktemp("clock") / "jumping_clock.so"
    subprocess.run(
        [COMPILER, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, HERE / "jumping_clock.c"], check=True
    )
    return made


def environment(library, clock):
    return {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(clock.path)}


def test_only_the_wall_clock_of_the_process_jumps(library, tmp_path):
    clock = Clock(tmp_path / "clock")
    clock.set(2 * DAY)
    code = "import time; print(time.time(), time.monotonic()); time.sleep(0.01)"
    there = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment(library, clock),
        capture_output=True,
        text=True,
        check=True,
    )
    wall, monotonic = map(float, there.stdout.split())
    assert abs(wall - time.time() - 2 * DAY) < HOUR
    assert abs(monotonic - time.monotonic()) < HOUR


def test_clocks_that_jump_change_nothing(library, tmp_path):
    config, rng = experiment(rounds=12), random.Random(7)
    fleet = lay_out(config, tmp_path / "fleet")
    clocks = {str(n.place.id): Clock(tmp_path / f"{n.place.id}.clock") for n in fleet.nodes}
    daemons = Daemons(fleet, environment=lambda name: environment(library, clocks[name.partition("/")[0]]))
    jumps = {n.place.id: DEVICES if n.place.tier is Tier.DEVICE else SERVERS for n in fleet.nodes}
    deadline, jumped = time.monotonic() + 300, dict.fromkeys(clocks, 0)
    try:
        daemons.start_all()
        while not (is_over(fleet) and settled(fleet, config.rounds)):
            done = {name for name, process in daemons.running.items() if process.poll() is not None}
            assert done == set(), tails(fleet)
            assert time.monotonic() < deadline, f"{rounds_done(fleet)} rounds{tails(fleet)}"
            name = rng.choice(list(clocks))
            clocks[name].set(by := rng.choice((0, *jumps[name])))
            jumped[name] += by != 0
            time.sleep(0.2)
    finally:
        daemons.stop()
    assert min(jumped.values()) >= 1, jumped
    assert_as_simulated(fleet, config, tmp_path / "sim")
