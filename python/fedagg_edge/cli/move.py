"""`fedagg move NODE --to URL`: have a node change its parent while training goes on.

Run it where the node runs, or where its present parent does; --state names the folder of the one or the other. The node
keeps its weights and sends nothing again. Give --to again for addresses to try if the first does not answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedagg_edge.records import node_id

__all__ = ["register", "run"]


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser("move", help="have a node change its parent", description=__doc__)
    parser.add_argument("node", metavar="NODE", help="the id of the node that moves")
    parser.add_argument(
        "--to", required=True, action="append", metavar="URL", help="https://host:port of the new parent"
    )
    parser.add_argument(
        "--state", required=True, type=Path, metavar="FOLDER", help="the state of the node or its parent"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    from fedagg_edge.fleet import operating  # noqa: PLC0415

    ledger = operating.open_node(args.state)
    try:
        operating.tell_to_move(ledger, args.state, node_id(args.node), args.to)
    finally:
        ledger.close()
    print(f"{args.node} will move to {args.to[0]}; its log, or the parents', say when it has")  # noqa: T201
    return 0
