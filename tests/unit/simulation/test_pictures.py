import struct

import numpy as np
import pytest
from simulation.worlds import some_results

from fedagg_edge.records import Tier
from fedagg_edge.simulation.pictures import draw_bridge, draw_curves


def size_of(path):
    """Width and height of a PNG."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"alone": None, "centralised": None},
        {"tiers": (Tier.CLOUD, Tier.DEVICE, Tier.DEVICE, Tier.DEVICE)},
        {"round_R": np.array([0]), "accuracy_RV": np.full((1, 4), 0.5)},
    ],
)
def test_curves(tmp_path, changes):
    draw_curves(some_results(**changes), tmp_path / "curves.png")
    assert size_of(tmp_path / "curves.png") == (910, 546)


def test_curves_show_the_data(tmp_path):
    draw_curves(some_results(), tmp_path / "a.png")
    draw_curves(some_results(), tmp_path / "b.png")
    draw_curves(some_results(centralised=0.7), tmp_path / "c.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (2, 8, 8), (6, 16), (30,)])
def test_bridge_samples_of_any_kind(tmp_path, shape):
    private, bridge = np.random.default_rng(0).random((2, 3, *shape)).astype(np.float32)
    draw_bridge(private, bridge, tmp_path / "bridge.png")
    width, height = size_of(tmp_path / "bridge.png")
    assert width > height
    draw_bridge(private[:1], bridge[:1], tmp_path / "one.png")
    assert size_of(tmp_path / "one.png")[0] < width


def test_no_display_and_no_global_state_is_touched(tmp_path):
    import subprocess
    import sys

    program = (
        "import sys, numpy as np, pathlib; from fedagg_edge.simulation.pictures import draw_bridge;"
        "x = np.zeros((1, 1, 4, 4), np.float32); draw_bridge(x, x, pathlib.Path(sys.argv[1]));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "b.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
