"""`fedagg reproduce TABLE --data FILE.npz`: run the paper's settings, or a part of them, and report beside its figures.

    fedagg reproduce table2 --data cifar10.npz --scale 0.1 --rounds 5
    fedagg reproduce table2 --data cifar10.npz --scale 0.1 --rounds 5 --columns 225/a3 --methods fedagg bridge-only

The file holds train_x, train_y, test_x, test_y (table3: train_coarse, test_coarse) and public_x, the open data that
autoencoders train on. Each simulation has its own folder and checkpoints below --runs: the same command goes on after a
kill and runs nothing again that is finished. Two of the same command share the work.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedagg_edge.errors import ConfigError
from fedagg_edge.reproduce.cells import Scale, cells_of, settings_of
from fedagg_edge.reproduce.tables import METHODS, PAPER_ROUNDS, PRESETS, TABLES, parse_variant, table_of

__all__ = ["register", "run"]

_SAID_AGAIN = (
    *("data", "out", "runs", "rounds", "scale", "test", "validation"),
    *("columns", "methods", "seeds", "workers"),
)
"""Flags of the command that goes on with a run."""


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "reproduce",
        help="run the paper's tables, or a part of them, and report beside its figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    titles = "; ".join(f"{name}: {table.title}" for name, table in TABLES.items())
    parser.add_argument("table", metavar="TABLE", help=titles.replace("%", "%%"))  # argparse formats what it is given
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="results.md, results.json, img/ (results)"
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/reproduce"),
        metavar="DIR",
        help="a folder a simulation (runs/reproduce)",
    )
    parser.add_argument(
        "--rounds", type=int, default=PAPER_ROUNDS, help=f"rounds of each ({PAPER_ROUNDS}, the paper's)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="share of the paper's devices and training data (1)"
    )
    parser.add_argument("--test", type=int, default=0, metavar="N", help="test images, drawn with the seed (0: all)")
    parser.add_argument(
        "--validation",
        type=int,
        default=0,
        metavar="N",
        help="training images that no device gets and the cloud's view is chosen on (0)",
    )
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="some of the table's settings, such as 225/a3 (all of them)"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD[:PRESET]",
        help=f"some rows (the table's): of {', '.join(METHODS)}; presets {', '.join(PRESETS)} (default)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="seeds (0)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="nodes that train at the same time (1)")
    parser.add_argument("--keep-checkpoints", action="store_true", help="leave those of finished simulations")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb. Raises FedaggError."""
    table = table_of(args.table)
    if any(seed < 0 for seed in args.seeds):
        raise ConfigError(f"--seeds: got {min(args.seeds)}, expected 0 or more")
    if not 1 <= args.workers <= 256:
        raise ConfigError(f"--workers: got {args.workers}, expected 1 to 256")
    scale = Scale(args.rounds, args.scale, args.test, args.validation)
    variants = None if args.methods is None else tuple(map(parse_variant, args.methods))
    cells = cells_of(table, scale, args.seeds, settings_of(table, args.columns), variants)
    from fedagg_edge.reproduce.run import Bench, commit_of, run_cells  # noqa: PLC0415  # torch loads after the arguments are read
    from fedagg_edge.simulation.progress import make_progress  # noqa: PLC0415

    bench = Bench(
        data=args.data,
        runs=args.runs,
        out=args.out,
        progress=lambda: make_progress(quiet=args.quiet),
        commit=commit_of(),
        keep=args.keep_checkpoints,
        workers=args.workers,
    )
    try:
        elsewhere = run_cells(cells, bench)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"; go on with: {_command(args)}") from None
    for cell in elsewhere:
        sys.stdout.write(f"left to the process that is at it: {cell.key}\n")
    sys.stdout.write(f"{len(cells) - len(elsewhere)} of {len(cells)} simulations are in {args.out / 'results.md'}\n")
    return 0


def _command(args: argparse.Namespace) -> str:
    """The same command again."""
    words = ["fedagg", "reproduce", args.table]
    for flag in _SAID_AGAIN:
        value = getattr(args, flag)
        if value is not None:
            many: Sequence[Any] = value if isinstance(value, list) else [value]
            words += [f"--{flag}", *map(str, many)]
    words += ["--keep-checkpoints"] if args.keep_checkpoints else []
    return shlex.join(words)
