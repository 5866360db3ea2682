"""Files that are there whole or not at all, also across a power cut: written beside, synced, renamed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_folder", "write_atomic"]


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path`. One writer at a time: what a killed one left beside is overwritten.

    Raises OSError, and then `path` is as it was.
    """
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
