"""The command `fedagg`: reads the verb, runs it, and turns exceptions into messages and exit codes.

Exit codes: 0 done, 1 something the user can mend (the message says how), 2 wrong use of the command, 130 stopped by
Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from fedagg_edge import __version__, extras
from fedagg_edge.errors import FedaggError

__all__ = ["main", "make_parser"]

# in the order of `fedagg --help`; the modules are cli's
_MODULES = {
    "simulate": "simulate",
    "reproduce": "reproduce",
    "new": "new",
    "autoencoder": "autoencoder",
    "export": "export",
    "fleet": "fleet",
    "device": "node",
    "edge": "node",
    "cloud": "node",
    "status": "status",
    "pull": "pull",
    "move": "move",
    "drain": "drain",
    "forget": "forget",
    "pki": "pki",
    "enroll": "enroll",
    "doctor": "doctor",
}

_STOPS = (signal.SIGINT, signal.SIGTERM)


def make_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command, or, where it is one, of this verb alone: a device that runs for months would
    otherwise keep in memory what the others import."""
    parser = argparse.ArgumentParser(
        prog="fedagg", description="Train a large model together across devices, edges and a cloud (FedAgg)."
    )
    parser.add_argument("--version", action="version", version=f"fedagg-edge {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    wanted = _MODULES.values() if verb not in _MODULES else [_MODULES[verb]]
    for module in dict.fromkeys(wanted):
        importlib.import_module(f"fedagg_edge.cli.{module}").register(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fedagg` with `argv`; return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    args = make_parser(words[0] if words else None).parse_args(words)
    heeded = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup and `&` ask
    before = {number: signal.signal(number, _interrupt) for number in heeded}
    try:
        code: int = args.run(args)
        sys.stdout.flush()  # here, where a reader that left is noticed, and not while Python shuts down
        return code
    except FedaggError as e:
        print(f"fedagg: {e}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt as e:
        print(f"\nfedagg: stopped{e}", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:  # the reader of our output left, say `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:  # a folder that may not be written, a full disk
        print(f"fedagg: {e.filename or 'i/o error'}: {e.strerror or e}", file=sys.stderr)  # noqa: T201
        return 1
    except ImportError as e:  # of an extra's package, or by the extension for an instruction set that is not there
        wanted = extras.missing(e)
        if wanted is None and "FEDAGG_FORCE_ISA" not in str(e):
            raise
        print(f"fedagg: {wanted or e}", file=sys.stderr)  # noqa: T201
        return 1
    finally:  # a caller inside this process, and what it forks, is stopped as before
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop politely once; who asks again, while files are closed, ends the process at once and without a traceback."""
    for stop in _STOPS:
        if signal.getsignal(stop) is _interrupt:
            signal.signal(stop, signal.SIG_DFL)
    raise KeyboardInterrupt
