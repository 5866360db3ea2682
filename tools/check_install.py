"""What a board gets: `python tools/check_install.py FILE` in an environment with ``fedagg-edge[litert]`` and no more.

Fails unless there is no torch, at most 14 distributions beside pip and setuptools, learner and runtime import in at
most 150 ms of CPU time beyond NumPy, and FILE, a training file made elsewhere, takes a step. Prints what it found, one
JSON object.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import sys
from pathlib import Path

MOST_DISTRIBUTIONS, MOST_MILLISECONDS = 14, 150.0
TOOLS = {"pip", "setuptools", "wheel"}

IMPORTING = """
import time
import numpy
began = time.process_time()
import ai_edge_litert.interpreter
import fedagg_edge.learners.tflite
print(1000 * (time.process_time() - began))
"""


def distributions() -> dict[str, float]:
    """Megabytes on disk of every installed distribution but pip's own."""
    found = {}
    for d in importlib.metadata.distributions():
        name = d.metadata["Name"]
        if name.lower() in TOOLS:
            continue
        places = [Path(str(d.locate_file(f))) for f in d.files or ()]
        found[name] = sum(p.stat().st_size for p in places if p.is_file()) / 1e6
    return found


def import_milliseconds() -> float:
    """CPU time of importing learner and runtime beyond NumPy's, the median of five fresh processes."""
    command = [sys.executable, "-c", IMPORTING]
    return statistics.median(float(subprocess.check_output(command, text=True)) for _ in range(5))


def train(file: str) -> float:
    """The loss of a step on noise."""
    import numpy as np  # noqa: PLC0415

    from fedagg_edge.config import Hyperparameters  # noqa: PLC0415
    from fedagg_edge.learners import tflite_file  # noqa: PLC0415
    from fedagg_edge.learners.base import Batch  # noqa: PLC0415
    from fedagg_edge.learners.tflite import TfliteLearner  # noqa: PLC0415

    opened = tflite_file.load(file)
    x_N = np.random.default_rng(0).random((4, *opened.sample_shape), np.float32)
    y_N = np.arange(4) % opened.classes
    return TfliteLearner(opened).step(Batch(x_N, y_N, None, x_N, y_N), Hyperparameters()).loss


def main() -> int:
    sizes = distributions()
    milliseconds = import_milliseconds()
    found = {
        "distributions": sorted(sizes),
        "megabytes": round(sum(sizes.values()), 1),
        "import_ms_beyond_numpy": round(milliseconds, 1),
        "loss": round(train(sys.argv[1]), 4),
        "torch": importlib.util.find_spec("torch") is not None,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return int(found["torch"] or len(sizes) > MOST_DISTRIBUTIONS or milliseconds > MOST_MILLISECONDS)


if __name__ == "__main__":
    sys.exit(main())
