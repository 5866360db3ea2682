"""`fedagg simulate CONFIG.toml`: train a whole tree in this process."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fedagg_edge.cli import examples
from fedagg_edge.config import SimulationConfig, load_config, parse_config

if TYPE_CHECKING:
    from fedagg_edge.simulation.results import SimulationResults

__all__ = ["register", "run"]

_LATEST = -1


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser("simulate", help="train a whole tree in this process", description=__doc__)
    parser.add_argument(
        "config", metavar="CONFIG.toml", type=Path, help="an experiment's file, or the name of an example: digits, ..."
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where to write (default: runs/<name>)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        metavar="ROUND",
        type=int,
        nargs="?",
        const=_LATEST,
        help="go on from the last checkpoint, or from that of ROUND",
    )
    again.add_argument("--overwrite", action="store_true", help="replace a run that is there already")
    parser.add_argument("--data", metavar="FILE.npz", type=Path, help="instead of the configuration's data file")
    parser.add_argument("--method", metavar="NAME", help="fedagg or a baseline, instead of the configuration's method")
    parser.add_argument("--rounds", type=int, help="instead of the configuration's rounds")
    parser.add_argument("--seed", type=int, help="instead of the configuration's seed")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    config = _override(load_config(examples.find(args.config)), args)
    try:
        results = _simulate(config, args)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"; go on with: {_resume_command(args)}") from None
    from fedagg_edge.simulation import report  # noqa: PLC0415

    if args.json:
        print(json.dumps(report.as_json(results)))  # noqa: T201
    else:
        print(f"\n{report.table(results)}\n\neverything is in {results.folder}/")  # noqa: T201
    return 0


def _simulate(config: SimulationConfig, args: argparse.Namespace) -> SimulationResults:
    from fedagg_edge.simulation.progress import make_progress  # noqa: PLC0415  # torch loads after the arguments are read
    from fedagg_edge.simulation.run import Resume, simulate  # noqa: PLC0415

    resume = False if args.resume is None else Resume(None if args.resume == _LATEST else args.resume)
    progress = make_progress(quiet=args.quiet)
    return simulate(config, out=args.out, resume=resume, overwrite=args.overwrite, progress=progress)


def _override(config: SimulationConfig, args: argparse.Namespace) -> SimulationConfig:
    """Put the command line's values over the file's, under the same checks."""
    raw = msgspec.to_builtins(config)
    changes = {k: getattr(args, k) for k in ("method", "rounds", "seed") if getattr(args, k) is not None}
    if args.data is not None:
        source, options = raw["data"]["source"], raw["data"]["options"]
        kept = (
            options if source == "npz" or source.endswith(".npz") else {}
        )  # another source's options mean nothing here
        changes["data"] = {"source": "npz", "options": {**kept, "path": str(args.data.absolute())}}
    if not changes:
        return config
    base_dir = raw.pop("base_dir")
    return parse_config({**raw, **changes}, where="command line", base_dir=base_dir)


def _resume_command(args: argparse.Namespace) -> str:
    """The command that goes on with this run: all that decides where it is and what it computes, said again."""
    words = ["fedagg", "simulate", str(args.config), "--resume"]
    for flag in ("out", "data", "method", "rounds", "seed"):
        if getattr(args, flag) is not None:
            words += [f"--{flag}", str(getattr(args, flag))]
    return shlex.join(words)
