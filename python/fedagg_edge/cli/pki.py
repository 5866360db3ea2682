"""`fedagg pki`: the federation's authority, servers' identities, enrolment tokens, revocation.

Everything lies in folders, described in docs/identity.md; keys are files of mode 0600 and are never printed.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from fedagg_edge.errors import ConfigError
from fedagg_edge.identity.renewal import DAY, LIFETIME
from fedagg_edge.records import Tier

__all__ = ["needing_extra", "register", "run", "seconds"]

_UNITS = {"m": 60.0, "h": 3600.0, "d": DAY}


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser("pki", help="make a federation's authority, identities and tokens", description=__doc__)
    inner = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    init = _verb(inner, "init", "found a federation: its root key and certificate", _init)
    init.add_argument("--federation", required=True, metavar="NAME", help="name of the federation")
    server = _verb(inner, "server", "make the identity folder of the cloud or an edge", _server)
    server.add_argument("out", type=Path, metavar="OUT", help="folder to make, the server's <state>/identity")
    server.add_argument("--node", required=True, metavar="ID", help="the server's node id")
    server.add_argument("--role", required=True, choices=[Tier.EDGE.value, Tier.CLOUD.value])
    server.add_argument(
        "--host", required=True, action="append", metavar="NAME", help="DNS name or address; repeatable"
    )
    server.add_argument("--lifetime", default=f"{LIFETIME / DAY:g}d", metavar="TIME", help="of the certificate (7d)")
    token = _verb(inner, "token", "make a one-time enrolment token and print it", _token)
    token.add_argument("--node", required=True, metavar="ID", help="who may use it")
    token.add_argument("--role", default=Tier.DEVICE.value, choices=[Tier.DEVICE.value, Tier.EDGE.value])
    token.add_argument("--host", default=[], action="append", metavar="NAME", help="of an edge: DNS name or address")
    token.add_argument("--expires", default="24h", metavar="TIME", help="how long it may be used, 30m, 24h, 7d (24h)")
    revoke = _verb(inner, "revoke", "refuse a node, or one certificate, from now on", _revoke)
    revoke.add_argument("--node", metavar="ID", help="every certificate of it made so far")
    revoke.add_argument("--serial", metavar="HEX", help="one certificate, or all that one signing certificate signed")


def run(args: argparse.Namespace) -> int:
    """Run the verb. Raises FedaggError for what the user can mend."""
    try:
        args.act(args)
    except ModuleNotFoundError as error:
        raise needing_extra(error) from error
    return 0


def seconds(text: str) -> float:
    """A span such as 30m, 24h or 7d. Raises ConfigError."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if not found:
        raise ConfigError(f"time span: got {text!r}, expected a number with m, h or d, for example 24h")
    return int(found[1]) * _UNITS[found[2]]


def needing_extra(error: ModuleNotFoundError) -> Exception:
    """What to raise for a missing module: how to install it, if it is one of the extra's."""
    if (error.name or "").partition(".")[0] != "cryptography":
        return error
    return ConfigError(f"this needs {error.name}; run: pip install 'fedagg-edge[enroll]'")


def _verb(inner: Any, name: str, text: str, act: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = inner.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the operator's, or a server's identity folder")
    parser.set_defaults(run=run, act=act)
    return parser


def _init(args: argparse.Namespace) -> None:
    from fedagg_edge.identity import operator  # noqa: PLC0415  cryptography: only when it is used

    digest = operator.found(args.folder, args.federation, time.time())
    _say(
        f"federation  {args.federation}\nauthority   {digest.hex()}\nkeep {args.folder} off the network, with a backup"
    )


def _server(args: argparse.Namespace) -> None:
    from fedagg_edge.identity import operator  # noqa: PLC0415

    done = operator.make_server(
        args.folder,
        args.out,
        node=args.node,
        role=Tier(args.role),
        hosts=args.host,
        now=time.time(),
        lifetime=seconds(args.lifetime),
    )
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(done.not_after))
    _say(f"wrote   {args.out}\nserial  {done.serial}\nuntil   {until}")


def _token(args: argparse.Namespace) -> None:
    from fedagg_edge.identity import operator  # noqa: PLC0415

    expires = time.time() + seconds(args.expires)
    token = operator.grant(args.folder, node=args.node, role=Tier(args.role), expires=expires, hosts=args.host)
    if Tier(args.role) is Tier.EDGE:
        sys.stderr.write(
            "fedagg: this edge will have no signing key: it enrols no device and hands renewals on; "
            "`fedagg pki server` makes one that has\n"
        )
    _say(token.text)


def _revoke(args: argparse.Namespace) -> None:
    from fedagg_edge.identity import operator  # noqa: PLC0415

    if args.node is None and args.serial is None:
        raise ConfigError("revoke: expected --node, --serial or both")
    known = operator.revoke(args.folder, time.time(), node=args.node, serial=args.serial)
    _say(f"revoked; the list has version {known.version}, {len(known.nodes)} nodes, {len(known.serials)} serials")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
