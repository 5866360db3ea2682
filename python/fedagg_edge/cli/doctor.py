"""`fedagg doctor`: what this machine has, which instruction set the kernels chose and why, what is missing."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from importlib import metadata
from typing import Any

from fedagg_edge import __version__

__all__ = ["register", "run"]

_OPTIONAL = {
    "torch": "edges, the cloud and simulate: pip install 'fedagg-edge[torch]'",
    "ai-edge-litert": "devices without torch: pip install 'fedagg-edge[litert]'",
    "tflite-runtime": "the same with numpy < 2: pip install 'fedagg-edge[tflite]'",
    "executorch": "devices on ExecuTorch: pip install 'fedagg-edge[executorch]'",
    "flatbuffers": "fedagg export: pip install 'fedagg-edge[export]'",
    "httptools": "an edge's or the cloud's gateway: pip install 'fedagg-edge[edge]'",
    "tomli-w": "fedagg fleet up: pip install 'fedagg-edge[fleet]'",
    "cryptography": "certificates of a fleet: pip install 'fedagg-edge[enroll]'",
    "scikit-learn": "the digits data set: pip install 'fedagg-edge[sim]'",
    "matplotlib": "pictures of a run: pip install 'fedagg-edge[sim]'",
    "rich": "progress bars: pip install 'fedagg-edge[sim]'",
}


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser("doctor", help="show what this machine has and what is missing", description=__doc__)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    rows = [
        ("fedagg-edge", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("cores", str(os.cpu_count())),
        ("kernels", _kernels()),
        ("numpy", metadata.version("numpy")),
        *((name, _version(name) or f"not installed; for {use}") for name, use in _OPTIONAL.items()),
    ]
    width = max(len(left) for left, _ in rows)
    print("\n".join(f"{left:<{width}}  {right}" for left, right in rows))  # noqa: T201
    return 0


def _kernels() -> str:
    if importlib.util.find_spec("fedagg_edge._core") is None:
        return "not built; install the package again: pip install ."
    from fedagg_edge import kernels  # noqa: PLC0415  # a wrong FEDAGG_FORCE_ISA must show here, not at start

    return kernels.active_isa_reason()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
