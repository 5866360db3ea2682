"""A board of arm64 in a fleet: its agent runs in the root under qemu, a cloud and an edge natively beside it, over TLS.

Without FEDAGG_ARM64_ROOT, the root that tests/arm64/userland.sh made, there is nothing to test. The root shares this
machine's network, so the edge's 127.0.0.1 is the board's. FEDAGG_ARM64_ROUNDS (2) says how many rounds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("torch", reason="the cloud and the edge train with torch")

from fedagg_edge.config import parse_config  # noqa: E402
from fedagg_edge.fleet import up, weights  # noqa: E402
from fedagg_edge.learners import tflite_file  # noqa: E402
from fedagg_edge.records import Tier  # noqa: E402
from fedagg_edge.simulation.progress import Silent  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from support.board import board_config, equip_board  # noqa: E402

ROOT = os.environ.get("FEDAGG_ARM64_ROOT")
ROUNDS = int(os.environ.get("FEDAGG_ARM64_ROUNDS") or "2")
SAMPLES, PATIENCE = 40, 420.0  # rows; seconds: importing the agent alone takes several under qemu
INSIDE = str(Path(__file__).with_name("inside.sh"))
BOARD = """
import importlib.util, platform
assert importlib.util.find_spec("torch") is None, "this board has torch"
print(platform.machine())
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ROOT is None, reason="FEDAGG_ARM64_ROOT: make test-arm64 makes the root and says where it is"),
]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that both sides see: the host's path of one in the root's /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-", dir=Path(ROOT or "") / "tmp"))
    yield folder
    shutil.rmtree(folder)


def start_board(home: Path) -> subprocess.Popen[bytes]:
    """The agent on a file system that is read-only but for its state folder."""
    (home / "state").mkdir(exist_ok=True)
    inner = Path("/") / home.resolve().relative_to(Path(ROOT or "").resolve())
    command = [INSIDE, str(ROOT), "fedagg", "device", "--config", str(inner / "device.toml")]
    around = os.environ | {"WRITABLE": str(inner / "state")}
    with (home / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=around, start_new_session=True
        )


def stop_board(board: subprocess.Popen[bytes]) -> int:
    """SIGTERM to all of it; its exit code."""
    if board.poll() is None:
        os.killpg(board.pid, signal.SIGTERM)
    try:
        return board.wait(120)
    except subprocess.TimeoutExpired:
        os.killpg(board.pid, signal.SIGKILL)
        return board.wait()


def await_end(fleet: up.Fleet, board: subprocess.Popen[bytes], log: Path) -> list[int]:
    """The versions of the cloud's rounds, once it says that the training is over."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        rows = up.read_metrics(fleet, fleet.cloud)
        if rows and rows[-1]["finished"]:
            return [row["version"] for row in rows]
        fleet.check()
        assert board.poll() is None, f"the board's agent ended: {log.read_text()}"
        time.sleep(0.2)
    pytest.fail(f"no end after {PATIENCE:.0f} s; the board said: {log.read_text()}")


def test_its_agent_enrols_trains_on_tflite_and_completes_rounds(shared: Path) -> None:
    done = subprocess.run(
        [INSIDE, str(ROOT), "python", "-c", BOARD], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "aarch64\n"), done.stderr
    fleet = up.lay_out(
        parse_config(board_config(ROUNDS, 8)),
        shared / "fleet",
        rounds={"target": ROUNDS, "deadline": PATIENCE},
        progress=Silent(),
    )
    (device,) = (node for node in fleet.nodes if node.place.tier is Tier.DEVICE)
    home = fleet.home(device)
    equip_board(fleet, home, 8, samples=SAMPLES, modules=".")
    assert not (home / "state" / "identity").exists()  # it has a token, nothing else
    try:
        for node in fleet.nodes:
            if node is not device:
                fleet.start(node)
        board = start_board(home)
        try:
            versions = await_end(fleet, board, home / "log.txt")
        finally:
            code = stop_board(board)
    finally:
        fleet.stop()
    assert code == 0, (home / "log.txt").read_text()
    assert versions == list(range(ROUNDS))
    assert (home / "state" / "identity" / "certificate.pem").is_file()
    saved, problems = weights.load_newest(home / "state" / "weights")
    assert saved is not None
    assert (saved.version, problems) == (ROUNDS - 1, [])
    first = tflite_file.load(home / "model.tflite").weights
    assert saved.state.weights.shape == first.shape
    assert np.abs(saved.state.weights - first).max() > 1e-3
    (edge,) = (node for node in fleet.nodes if node.place.tier is Tier.EDGE)
    assert [row["version"] for row in up.read_metrics(fleet, edge)] == versions
