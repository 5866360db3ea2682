"""Wake-ups between the processes of one node: a Unix datagram a wake-up, which may be lost, as listeners poll too."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

__all__ = ["Listener", "Signal"]

_LONGEST = 107  # bytes of a Unix socket's path
_TOPIC_BYTES = 256


class Signal:
    """Sends wake-ups to whoever listens at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def notify(self, topic: str) -> bool:
        """Wake the listener with `topic` (a node id, say); False if there is none or its queue is full."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            self._socket.sendto(topic.encode()[:_TOPIC_BYTES], _address(self._path, folder))
        except OSError:
            return False
        finally:
            os.close(folder)
        return True

    def close(self) -> None:
        """Close; waking after that raises."""
        self._socket.close()


class Listener:
    """Receives wake-ups at `path`; the last one to listen there gets them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        path.unlink(missing_ok=True)  # left by one that was killed
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            self._socket.bind(_address(path, folder))
        finally:
            os.close(folder)
        path.chmod(0o600)

    def fileno(self) -> int:
        """For select, poll and asyncio's add_reader."""
        return self._socket.fileno()

    def topics(self) -> set[str]:
        """All topics since the last call; never waits."""
        found = set()
        with suppress(BlockingIOError):
            while True:
                found.add(self._socket.recv(_TOPIC_BYTES).decode(errors="replace"))
        return found

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _address(path: Path, folder: int) -> str:
    whole = str(path)
    return whole if len(os.fsencode(whole)) <= _LONGEST else f"/proc/self/fd/{folder}/{path.name}"
