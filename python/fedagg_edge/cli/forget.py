"""`fedagg forget NODE`: remove a device's embeddings, and what is known about them, at every ancestor; with a receipt.

    fedagg forget device-17 --config cloud.toml --revoke

An operator's command on the cloud's host, while the cloud runs or not: whoever may write the cloud's state folder may
give it. The cloud forgets at once, and every edge as soon as it talks to its parent. Each one's receipt comes back to
the cloud; those that are there within --wait are in the receipt file, `fedagg status` shows them all.

A name that the cloud has never heard of is refused. What the node sends later is new: take --revoke to refuse it from
now on. Models that learnt from it keep what they learnt, and its own machine keeps its private samples.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fedagg_edge.errors import ConfigError
from fedagg_edge.failpoints import reach
from fedagg_edge.records import Tier, node_id

if TYPE_CHECKING:
    from fedagg_edge.fleet.config import FleetConfig

__all__ = ["register", "run"]


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "forget",
        help="remove a device's embeddings and knowledge at every ancestor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("node", metavar="NODE", help="the device's id")
    parser.add_argument("--config", metavar="FILE.toml", type=Path, required=True, help="the cloud's")
    parser.add_argument("--revoke", action="store_true", help="refuse its certificates from now on, too")
    parser.add_argument("--wait", type=float, default=150.0, metavar="SECONDS", help="for the edges' receipts (150)")
    parser.add_argument("--receipt", type=Path, metavar="FILE", help="default: <state>/receipts/<node>-<time>.json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb; 0 also if edges have not answered yet. Raises FedaggError."""
    from fedagg_edge.files import write_atomic  # noqa: PLC0415
    from fedagg_edge.fleet import forgetting, parts  # noqa: PLC0415
    from fedagg_edge.ledger.signal import Signal  # noqa: PLC0415

    node, config = node_id(args.node), _config(args.config)
    ledger = parts.open_ledger(config, Tier.CLOUD)
    try:
        forgetting.check_known(ledger, config.state / "identity", node)
        revoked = _revoke(config, node) if args.revoke else 0.0
        reach("forget.run.after-list")
        told = forgetting.give(ledger, node, revoked=revoked)
        reach("forget.run.after-order")
        bell = Signal(config.state / "gateway.sock")
        for edge in told.edges:
            bell.notify(edge)
        bell.close()
        _say(f"order {told.order.id}: {told.receipt.rows} rows of {node} forgotten at {told.receipt.node}")
        waited = forgetting.wait_for_receipts(ledger, told, args.wait)
    finally:
        ledger.close()
    reach("forget.run.after-receipts")
    path = args.receipt or config.state / "receipts" / f"{node}-{int(told.receipt.at)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"schema": 1, "order": told.order.id, "origin": node, "revoked": args.revoke, "receipts": waited.found,
               "waiting_for": waited.missing, "waiting_further_down": waited.further,
               "written": time.time()}  # fmt: skip
    write_atomic(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    for each in waited.found:
        where = "gone from its files" if each.scrubbed else "not yet gone from its files, as another process reads"
        _say(f"{each.node}: {each.rows} rows, {each.knowledge} records of knowledge changed; {where}")
    for edge in waited.missing:
        _say(f"{edge}: has not answered yet; `fedagg status` shows its receipt once it has")
    if waited.further:
        _say(
            f"{waited.further} further down have not answered yet; `fedagg status` shows their receipts once they have"
        )
    _say(f"receipt in {path}")
    if not args.revoke:
        _say(f"note: {node} is still let in, and what it sends from now on is kept; --revoke refuses it")
    return 0


def _config(path: Path) -> FleetConfig:
    from fedagg_edge.config import read_toml  # noqa: PLC0415
    from fedagg_edge.fleet.config import load_fleet_config  # noqa: PLC0415

    if "parent" in read_toml(path):
        raise ConfigError(
            f"{path}: forget: expected the cloud's file, on its host: from there it reaches every ancestor"
        )
    config = load_fleet_config(path, Tier.CLOUD)
    if not (config.state / "ledger.sqlite").is_file():
        raise ConfigError(f"{config.state}: no ledger here; run it on the cloud's host, once the cloud has run")
    return config


def _revoke(config: FleetConfig, node: str) -> float:
    from fedagg_edge.identity import revocation  # noqa: PLC0415

    now = time.time()
    revocation.update(config.state / "identity", lambda known: revocation.revoke(known, now, node=node))
    _say(f"revoked {node}; the edges refuse it before they forget it")
    return now


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
