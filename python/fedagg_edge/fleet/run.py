"""One process of a node: ``python -m fedagg_edge.fleet.run gateway|train device|edge|cloud CONFIG``.

The supervisor starts an edge's and the cloud's two so; `fedagg device` calls `train` in its own process.
"""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from fedagg_edge import extras
from fedagg_edge.errors import (
    ConfigError,
    FedaggError,
    IdentityBusy,
    IdentityError,
    StateInUse,
    StorageBusy,
    StorageError,
    StorageFailed,
    StorageFull,
)
from fedagg_edge.fleet.config import FleetConfig, load_fleet_config
from fedagg_edge.fleet.exits import Exit
from fedagg_edge.fleet.node_loop import Stopped
from fedagg_edge.records import Tier

__all__ = ["exit_of", "gateway", "main", "told", "train"]


def train(config: FleetConfig, tier: Tier) -> Exit:
    """Train until SIGTERM or SIGINT; a batch under way is cut off, its round is run again at the next start."""
    from fedagg_edge.fleet import memory, parts  # noqa: PLC0415
    from fedagg_edge.fleet.member import run_member  # noqa: PLC0415
    from fedagg_edge.fleet.notify import signs_of_life  # noqa: PLC0415

    stop = threading.Event()
    settle = None
    if tier is Tier.DEVICE:
        memory.one_arena()
        settle = memory.Settling()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        raise Stopped

    log = parts.make_log(config, tier)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
        with signs_of_life():
            run_member(config, tier, log, stop, settle=settle)
    except Stopped:
        pass
    except FedaggError as error:
        return told(error)
    except Exception as error:
        log.failure("ended_by_an_error", error)
        return exit_of(error)
    return Exit.DONE


def gateway(config: FleetConfig, tier: Tier) -> Exit:
    """Serve until SIGTERM or SIGINT."""
    from fedagg_edge.fleet import parts  # noqa: PLC0415
    from fedagg_edge.fleet.member import enrol_if_needed  # noqa: PLC0415

    log = parts.make_log(config, tier)
    try:
        with extras.named():
            from fedagg_edge.fleet.server import run_gateway  # noqa: PLC0415
        enrol_if_needed(config, tier)
        return run_gateway(config, tier, log)
    except FedaggError as error:
        return told(error)
    except Exception as error:
        log.failure("ended_by_an_error", error)
        return exit_of(error)


def exit_of(error: Exception) -> Exit:
    """The exit code for what ended a process. Only what a person must mend is permanent: a disk that has no room, a
    ledger locked for too long or an error of ours may pass, and whoever watches the process starts it again."""
    if isinstance(error, OSError):
        return Exit.STORAGE if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else Exit.TEMPORARY
    kinds: tuple[tuple[type[Exception], Exit], ...] = (
        (ConfigError, Exit.CONFIG),
        (IdentityBusy, Exit.TEMPORARY),
        (IdentityError, Exit.IDENTITY),
        (StateInUse, Exit.IN_USE),
        (StorageFull, Exit.STORAGE),
        (StorageFailed, Exit.STORAGE),
        (StorageBusy, Exit.TEMPORARY),
        (StorageError, Exit.STATE),
        (FedaggError, Exit.USER),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), Exit.SOFTWARE)


def told(error: FedaggError | OSError) -> Exit:
    """Say what ended a process, and with which code."""
    sys.stderr.write(f"fedagg: {error}\n")
    return exit_of(error)


def main(argv: Sequence[str]) -> int:
    """Run one process; its exit code."""
    what, tier, path = argv
    try:
        config = load_fleet_config(path, Tier(tier))
    except FedaggError as error:
        return told(error)
    return int({"gateway": gateway, "train": train}[what](config, Tier(tier)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
