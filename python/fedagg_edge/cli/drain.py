"""`fedagg drain --state FOLDER`: send an edge's children to their fallbacks, before it is stopped for good.

Run it where the edge runs. It goes on serving while they move, takes nobody in, and ends when all have gone and its own
parent has everything: then stop the edge. Exit code 75: some were still there after --wait. An edge that is started
again takes children again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedagg_edge.cli.pki import seconds

__all__ = ["register", "run"]


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser("drain", help="send an edge's children elsewhere", description=__doc__)
    parser.add_argument("--state", required=True, type=Path, metavar="FOLDER", help="the edge's state folder")
    parser.add_argument("--to", default=[], action="append", metavar="URL", help="where to, instead of their fallbacks")
    parser.add_argument("--wait", default="30m", metavar="TIME", help="how long to wait for them, 30m, 2h (30m)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    from fedagg_edge.fleet import operating  # noqa: PLC0415
    from fedagg_edge.fleet.exits import Exit  # noqa: PLC0415

    def show(left: operating.Remaining) -> None:
        names = ", ".join(left.children[:5]) + (", ..." if len(left.children) > 5 else "")
        print(f"{len(left.children)} children and {left.batches} batches are still here {names}", flush=True)  # noqa: T201

    wait = seconds(args.wait)
    ledger = operating.open_node(args.state)
    try:
        operating.drain(ledger, args.state, args.to)
        left = operating.drain_until_empty(ledger, wait, show)
    finally:
        ledger.close()
    if left:
        print(f"not all have gone after {args.wait}; they need parent.fallback, or --to")  # noqa: T201
        return int(Exit.TEMPORARY)
    print("all have gone; stop the edge now")  # noqa: T201
    return 0
