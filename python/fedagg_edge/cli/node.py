"""`fedagg device`, `fedagg edge`, `fedagg cloud`: run one node of a fleet in the foreground until SIGTERM.

Exit codes: 0 stopped or finished, 64 configuration, 73 state folder in use, 74 disk, 75 passing, 77 identity, 78 state
of another node; docs/fleet.md says what each means.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fedagg_edge.errors import FedaggError
from fedagg_edge.records import Tier

__all__ = ["LOOP_SILENCE", "SILENCE", "START_SECONDS", "register", "run"]

SILENCE = 120.0
"""Seconds without a sign of life of its ledger's thread after which a gateway is started again: more than its longest
transaction (a link of a million rows taken in)."""
LOOP_SILENCE = 600.0
"""The same for a node loop, whose own thread has to get on: more than its longest wait for something that does not, as
a process that signs what is published."""
START_SECONDS = 240.0
"""The same until a process is ready: more than one try to enrol takes."""

_HELP = {
    Tier.DEVICE: "train beside private data and talk to a parent",
    Tier.EDGE: "serve devices and train a mid-size model",
    Tier.CLOUD: "serve edges and train the model that is the product",
}


def register(verbs: Any) -> None:
    """Add the three verbs."""
    for tier, text in _HELP.items():
        parser = verbs.add_parser(tier.value, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.add_argument("--config", metavar="FILE.toml", type=Path, required=True)
        parser.set_defaults(run=run, tier=tier)


def run(args: argparse.Namespace) -> int:
    """Run the node; what ends it before its processes do has its exit code, too."""
    from fedagg_edge.fleet.exits import Exit  # noqa: PLC0415
    from fedagg_edge.fleet.run import told  # noqa: PLC0415

    try:
        return _run(args)
    except (FedaggError, OSError) as error:
        return int(told(error))
    except KeyboardInterrupt:  # asked to stop before its processes were there to be told
        return int(Exit.DONE)


def _run(args: argparse.Namespace) -> int:
    from fedagg_edge.fleet.config import load_fleet_config  # noqa: PLC0415

    config = load_fleet_config(args.config, args.tier)
    if args.tier is Tier.DEVICE:
        from fedagg_edge.fleet.run import train  # noqa: PLC0415
        from fedagg_edge.lock import StateLock  # noqa: PLC0415

        config.state.mkdir(parents=True, exist_ok=True)
        with StateLock(config.state):
            return int(train(config, args.tier))
    from fedagg_edge.fleet import operating, parts  # noqa: PLC0415
    from fedagg_edge.fleet.supervisor import ChildSpec, supervise  # noqa: PLC0415

    config.state.mkdir(parents=True, exist_ok=True)
    ledger = parts.open_ledger(config, args.tier)
    operating.serve_again(ledger)
    ledger.close()
    command = [sys.executable, "-m", "fedagg_edge.fleet.run"]
    children = [
        ChildSpec(
            "gateway",
            [*command, "gateway", args.tier.value, str(args.config)],
            silence=SILENCE,
            start_seconds=START_SECONDS,
        ),
        ChildSpec(
            "node_loop",
            [*command, "train", args.tier.value, str(args.config)],
            silence=LOOP_SILENCE,
            start_seconds=START_SECONDS,
        ),
    ]
    return supervise(config.state, children, parts.make_log(config, args.tier))
