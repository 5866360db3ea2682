"""The service manager's notification protocol (sd_notify), without a library: lines in a datagram to a Unix socket.

The supervisor speaks it in both directions: to systemd, and with its own children, which call the same functions.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

__all__ = ["notify", "watchdog_seconds"]


def notify(*lines: str, environment: Mapping[str, str] | None = None) -> bool:
    """Send lines such as ``READY=1`` to the service manager, if there is one; return whether they were sent.

    Never raises and never waits: a service manager that does not listen must not stop the service.
    """
    address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.send("\n".join(lines).encode())
    except OSError:
        return False
    return True


def watchdog_seconds(environment: Mapping[str, str] | None = None) -> float | None:
    """How often to send ``WATCHDOG=1``: half of what the service manager allows; None if it does not watch us."""
    known = os.environ if environment is None else environment
    try:
        allowed = int(known.get("WATCHDOG_USEC", "")) / 1e6
        watched = int(known.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return allowed / 2 if allowed > 0 and watched == os.getpid() else None
