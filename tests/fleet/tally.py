"""What runs of kills came to, kept in the file that ``FEDAGG_KILLS`` names: docs/kills.json, by `make test-full`.

Each test has a section of its own, so that one which is run alone leaves those of the others. A test that fails keeps
nothing: a section is of a run in which everything was compared.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedagg_edge.files import write_atomic

__all__ = ["keep", "merged", "section"]

ROOT = Path(__file__).parents[2]


def section(
    kills: Mapping[tuple[str, str], int], seconds: float, *, lost: int = 0, doubled: int = 0, **facts: Any
) -> dict[str, Any]:
    """What is kept of a run: how often each process was killed at each place."""
    at: dict[str, dict[str, int]] = {}
    for (process, point), times in sorted(kills.items()):
        at.setdefault(process, {}).setdefault(point, 0)
        at[process][point] += times
    return {**facts, "minutes": round(seconds / 60, 1), "kills": sum(kills.values()), "lost": lost, "doubled": doubled,
            "at": at}  # fmt: skip


def merged(known: Mapping[str, Any], name: str, new: Mapping[str, Any]) -> dict[str, Any]:
    """The whole file with one section in place of an older one."""
    runs = {**known.get("runs", {}), name: new}
    total = {key: sum(run[key] for run in runs.values()) for key in ("kills", "lost", "doubled")}
    return {"schema": 1, "total": total, "runs": dict(sorted(runs.items()))}


def commit() -> str:
    """What was run; with a plus if it was changed since, the file that is written here aside."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/kills.json")
    return git("rev-parse", "--short=8", "HEAD") + ("+" if changed else "")


def keep(name: str, kills: Mapping[tuple[str, str], int], began: float, *, lost: int = 0, doubled: int = 0) -> None:
    """Write the section of the test `name`, which began at `began` of the monotonic clock; nothing without a file."""
    if not (path := os.environ.get("FEDAGG_KILLS")):
        return
    found = Path(path)
    known = json.loads(found.read_bytes()) if found.exists() else {}
    facts = {"commit": commit(), "date": time.strftime("%Y-%m-%d", time.gmtime()),
             "machine": f"{platform.machine()}, {os.cpu_count()} cores"}  # fmt: skip
    new = section(Counter(kills), time.monotonic() - began, lost=lost, doubled=doubled, **facts)
    write_atomic(found, json.dumps(merged(known, name, new), indent=1).encode() + b"\n")
