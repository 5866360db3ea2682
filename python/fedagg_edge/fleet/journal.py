"""metrics.jsonl: a row a round, each once, whole lines only, also when its writer was killed in the middle of one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedagg_edge.failpoints import reach

__all__ = ["append"]

_TAIL = 65_536  # bytes at the end in which the last row lies


def append(path: Path, row: Mapping[str, Any]) -> bool:
    """Add `row` unless it is the last one; False if it was. What a killed writer left of a line is cut off first."""
    line = json.dumps(dict(row)).encode() + b"\n"
    with path.open("ab+") as f:
        end = f.seek(0, os.SEEK_END)
        f.seek(max(0, end - _TAIL))
        tail = f.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) < len(tail):
            f.truncate(end - len(tail) + len(whole))
        reach("journal.append.after-cut")
        if whole.endswith(line) and whole[: -len(line)][-1:] in (b"", b"\n"):
            return False
        f.write(line)
    reach("journal.append.after-row")
    return True
