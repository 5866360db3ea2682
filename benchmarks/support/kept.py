"""What a long benchmark has finished, one JSON list a line, so that the same command again goes on where it stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["keep", "kept"]


def kept(path: Path | None) -> Iterator[list[Any]]:
    """The lines of a file, none if there is no file; a last line that was cut off is none."""
    for line in path.read_text().splitlines() if path is not None and path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def keep(path: Path | None, line: list[Any]) -> None:
    """Append a line where there is a file for it, and show it on stderr."""
    text = json.dumps(line)
    if path is not None:
        with path.open("a") as f:
            f.write(text + "\n")
    print(text, file=sys.stderr, flush=True)
