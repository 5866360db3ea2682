"""`fedagg status URL`: what an edge or the cloud says of itself and, to servers' identities, of its children; with a
state folder in the URL's place, what a node on this machine, also a device, has noted there.

    fedagg status https://fed.example:9443 --identity /var/lib/fedagg/identity
    fedagg status https://127.0.0.1:40123 --identity runs/digits-fleet/cloud/state/identity
    fedagg status /var/lib/fedagg

A server answers whoever shows a certificate of its federation. Without --identity only its health is asked for, and
nothing that it says is checked.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from fedagg_edge.errors import ConfigError, RemoteProtocolError

__all__ = ["register", "render", "run"]

_BIG = 1 << 20


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "status",
        help="show how a running edge or cloud is doing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="https://host:port of an edge or the cloud; or a state folder here")
    parser.add_argument("--identity", type=Path, metavar="DIR", help="a node's <state>/identity: a server's shows all")
    parser.add_argument("--json", action="store_true", help="print the answer as it came, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb. Raises FedaggError."""
    if "://" not in args.url:
        if not Path(args.url).is_dir():
            raise ConfigError(f"got {args.url!r}, expected https://host:port, or a state folder that is there")
        return _print(args, _local(Path(args.url)))
    from fedagg_edge.fleet.visitor import Visitor  # noqa: PLC0415  TLS: only when it is used

    with Visitor(args.url, args.identity) as visitor:
        if args.identity is None:
            told = _read(visitor.answer("/readyz").body) | {"verified": False}
        else:
            told = _read(visitor.get("/v1/status").body) | {"verified": True}
        told.setdefault("certificate_until", visitor.until)
    return _print(args, told)


def _local(state: Path) -> dict[str, Any]:
    """What the ledger in a state folder says of its node. Raises ConfigError, StorageError."""
    from fedagg_edge.fleet.commons import certificate_until, status  # noqa: PLC0415  the ledger: only when it is used
    from fedagg_edge.fleet.operating import open_node  # noqa: PLC0415
    from fedagg_edge.fleet.views import ParentView  # noqa: PLC0415

    ledger = open_node(state, read_only=True)
    try:
        told = status(ParentView(ledger), ledger.federation, ledger.node, ledger.options.tier)
    finally:
        ledger.close()
    return told | {"verified": True, "certificate_until": certificate_until(state / "identity")}


def _print(args: argparse.Namespace, told: dict[str, Any]) -> int:
    text = json.dumps(told, indent=1) if args.json else render(told, time.time())
    sys.stdout.write(f"{text}\n")
    return 0


def _read(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise RemoteProtocolError(f"status: got {len(body)} bytes that are no status; is this an edge or the cloud?")
    return told


def render(told: dict[str, Any], now: float) -> str:
    """A status for people; ages are counted from `now`, Unix seconds."""
    rows = list(_facts(told, now))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    if told.get("children"):
        lines += ["", *_table(told["children"], now)]
    if told.get("receipts"):
        lines += ["", "forgotten"]
        lines += [f"  {_receipt(each, now)}" for each in told["receipts"]]
    return "\n".join(lines)


def _facts(told: dict[str, Any], now: float) -> Any:
    if not told["verified"]:
        yield "ready", "yes" if told.get("ready") else "no"
        yield "certificate", f"until {_time(told.get('certificate_until'))}"
        yield "note", "nothing of this was checked; take --identity DIR to see more"
        return
    yield "node", f"{told.get('node')} ({told.get('role')} of federation {told.get('federation')})"
    yield "software", f"{told.get('software')}, protocol {told.get('protocol')}"
    if told.get("parent"):
        yield "parent", told["parent"]
    yield "state", _state(told)
    yield "round", _round(told, now)
    if told.get("accuracy") is not None:
        yield "accuracy", f"{100 * told['accuracy']:.1f} %"
    if told.get("model"):
        model = told["model"]
        yield "model", f"version {model['version']}, {_bytes(model['size'])}, sha256 {model['digest'][:12]}"
    yield "certificate", f"until {_time(told.get('certificate_until'))}"
    if told.get("waiting"):
        yield "waiting", f"{told['waiting']} batches for the parent"
    if told.get("aside"):
        yield "set aside", _aside(told["aside"])
    if (told.get("parcels_refused") or {}).get("total"):
        yield "private data", "{now} parcels refused at the last look, {total} so far".format(**told["parcels_refused"])
    if "children" in told:
        present = sum(bool(c["present"]) for c in told["children"])
        yield "children", f"{present} of {len(told['children'])} present"


def _state(told: dict[str, Any]) -> str:
    if told.get("finished"):
        return "finished"
    if told.get("draining"):
        return "draining"
    target = f", target {told['target']}" if told.get("target") else ""
    return f"training, {told.get('mode')}{target}" if told.get("mode") else "waits for its parent"


def _aside(aside: dict[str, Any]) -> str:
    """What the parent does not take, and what to do."""
    said = f"{aside['rows']} rows that the parent does not take: up to {aside['bytes']} bytes each, it takes"
    return f"{said} {aside['limit']} (its limits.entry_bytes and .staged), or it holds limits.samples already"


def _round(told: dict[str, Any], now: float) -> str:
    if told.get("round", -1) < 0:
        return "none yet"
    loss = "" if told.get("loss") is None else f", loss {told['loss']:.4f}"
    return f"{told['round']}, {_age(told.get('round_at'), now)}, {told.get('rows')} rows{loss}"


def _table(children: list[dict[str, Any]], now: float) -> list[str]:
    head = ("child", "role", "present", "connected", "samples", "round", "heard")
    rows = [
        (
            str(c["node"]), str(c["role"]), _yes(c["present"]), _yes(c["connected"]), str(c["samples"]),
            "-" if c["round"] < 0 else str(c["round"]), _age(c["heard"], now),
        )
        for c in children
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]


def _receipt(each: dict[str, Any], now: float) -> str:
    if "origin" not in each:
        return f"{each.get('via')}: a receipt that this version cannot read"
    gone = "gone from its files" if each["scrubbed"] else "not yet gone from its files"
    return f"{each['origin']} at {each['node']}: {each['rows']} rows, {_age(each['at'], now)}, {gone}"


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def _time(at: Any) -> str:
    return "unknown" if at is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _age(at: Any, now: float) -> str:
    if at is None:
        return "never"
    seconds = max(0.0, now - at)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _bytes(size: int) -> str:
    return f"{size / _BIG:.1f} MiB" if size >= _BIG else f"{size / 1024:.1f} KiB"
