"""`fedagg pull URL`: fetch the trained model from the cloud, check that the cloud signed it, put it in place.

    fedagg pull https://fed.example:9443 --identity /var/lib/fedagg/identity --out model.safetensors

The server gives it to whoever shows a certificate of its federation; a machine that only pulls is enrolled as a device.
Run it again to get a newer one; an interrupted one goes on where it was. Beside the model lies a .pin.json that keeps
an older model from being passed off as the newest.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["register", "run"]


def register(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "pull",
        help="fetch the trained model, checked against the cloud's signature",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="https://host:port of the cloud")
    parser.add_argument("--identity", type=Path, required=True, metavar="DIR", help="a node's <state>/identity")
    parser.add_argument("--out", type=Path, default=Path("model.safetensors"), metavar="FILE")
    parser.add_argument("--name", default="model", help="another artefact that the server has: autoencoder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb. Raises FedaggError."""
    from fedagg_edge.fleet.pull import pull  # noqa: PLC0415  TLS: only when it is used

    done = pull(args.url, args.identity, args.out, name=args.name)
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(done.pin.made))
    had = "it was here already" if done.fetched == 0 else f"{done.fetched} bytes fetched"
    sys.stdout.write(
        f"{args.out}: {done.pin.name} version {done.pin.version}, {done.size} bytes\n"
        f"signed by {done.signer} on {made}\n"
        f"sha256 {done.pin.digest}; {had}\n"
    )
    return 0
