"""`fedagg fleet up EXPERIMENT.toml`: an experiment's tree as real processes on this machine, over TLS on loopback.

Without a file it is the example `fleet` that comes with fedagg-edge.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedagg_edge.cli import examples
from fedagg_edge.config import load_config
from fedagg_edge.errors import ConfigError
from fedagg_edge.records import LogitsFormat, Tier

__all__ = ["register", "run"]


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser("fleet", help="run a whole fleet on this machine", description=__doc__)
    inner = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    up = inner.add_parser("up", help="start a fleet, train until the target round, stop it", description=__doc__)
    up.add_argument(
        "config",
        metavar="EXPERIMENT.toml",
        type=Path,
        nargs="?",
        default=Path("fleet"),
        help="an experiment's file, or the name of an example (default: fleet)",
    )
    up.add_argument("--rounds", type=int, help="the target, instead of the experiment's rounds")
    up.add_argument("--mode", choices=["sync", "async"], default="sync")
    up.add_argument("--knowledge", choices=[f.value for f in LogitsFormat], help="how logits travel")
    up.add_argument("--out", metavar="FOLDER", type=Path, help="where everything lies (default: runs/<name>-fleet)")
    up.add_argument("--overwrite", action="store_true", help="replace a fleet that is there already")
    up.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    try:
        from fedagg_edge.fleet import up  # noqa: PLC0415  torch and the servers' packages
    except ModuleNotFoundError as e:
        raise ConfigError(f"fleet up needs {e.name}; run: pip install 'fedagg-edge[fleet]'") from None
    from fedagg_edge.simulation.progress import make_progress  # noqa: PLC0415

    config = load_config(examples.find(args.config))
    target = args.rounds or config.rounds
    folder = args.out or Path("runs") / f"{config.name}-fleet"
    progress = make_progress(quiet=False)
    rounds = {"mode": args.mode, "target": target}
    fleet = up.lay_out(
        config, folder, rounds=rounds, progress=progress, knowledge=args.knowledge, overwrite=args.overwrite
    )
    progress.close()
    began = time.monotonic()
    print(f"starting {len(fleet.nodes)} nodes; logs in {folder}/<node>/log.txt", flush=True)  # noqa: T201

    moves = up.make_moves(fleet, config)

    def show(row: Mapping[str, Any]) -> None:
        accuracy = "" if row["accuracy"] is None else f"  cloud {100 * row['accuracy']:5.1f} %"
        late = f"  {row['late']} late" if row["late"] else ""
        print(f"round {row['version']:>3}{accuracy}  {time.monotonic() - began:6.1f} s{late}", flush=True)  # noqa: T201
        if told := moves(row["version"]):
            print(f"          {len(told)} devices move", flush=True)  # noqa: T201

    up.run_fleet(fleet, show)
    for tier in (Tier.EDGE, Tier.CLOUD):
        score = up.tier_accuracy(fleet, tier)
        if score is not None:
            print(f"average {tier.value}: {100 * score:.1f} % on the test set")  # noqa: T201
    print(f"\neverything is in {folder}/")  # noqa: T201
    return 0
