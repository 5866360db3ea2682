"""`fedagg doctor`: what this machine has, which instruction set the kernels chose and why, what is missing."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from importlib import metadata
from typing import Any

from fedagg_edge import __version__, extras

__all__ = ["register", "run"]


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
        *(
            (p.distribution, _version(p.distribution) or f"not installed; for {p.use}: {p.remedy}")
            for p in extras.PACKAGES
        ),
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
