"""The cloud-side trainer's entry point: ``python -m fedagg_edge.cloud --config cloud.toml``, as `fedagg cloud`."""

from __future__ import annotations

import sys

from fedagg_edge.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(["cloud", *sys.argv[1:]]))
