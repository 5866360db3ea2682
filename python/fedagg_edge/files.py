"""Files that are there whole or not at all, also across a power cut: written beside, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from fedagg_edge.failpoints import reach

__all__ = ["sync_folder", "write_atomic"]


def _create(beside: Path) -> BinaryIO:
    return beside.open("wb")


def write_atomic(path: Path, content: bytes, *, create: Callable[[Path], BinaryIO] = _create) -> None:
    """Write `content` to `path`. One writer at a time: what a killed one left beside is overwritten. `create` makes the
    file beside.

    Raises OSError, and then `path` is as it was.
    """
    beside = path.with_name(path.name + ".tmp")
    try:
        with create(beside) as f:
            reach("files.write.after-create")
            f.write(content)
            f.flush()
            reach("files.write.after-content")
            os.fsync(f.fileno())
        reach("files.write.after-sync")
        beside.replace(path)
        reach("files.write.after-rename")
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
