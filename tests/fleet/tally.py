"""What runs of kills came to, kept in the file that ``FEDAGG_KILLS`` names: docs/kills.json, by `make test-full`.

Each test has a section of its own, so that one which is run alone leaves those of the others. A test that fails keeps
nothing: a section is of a run in which everything was compared. `lost` and `doubled` are there where they were counted.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedagg_edge.files import write_atomic

__all__ = ["Run", "begin", "keep", "merged", "section"]

ROOT = Path(__file__).parents[2]
_OTHERS = ("--", ".", ":!docs/kills.json")  # all but the file that is written here


@dataclass(frozen=True, slots=True)
class Run:
    """When a run began, on the monotonic clock, and what of."""

    at: float
    commit: str


def begin() -> Run:
    """Note at its start what a run is of: who works on meanwhile may have committed by its end."""
    return Run(time.monotonic(), commit() if os.environ.get("FEDAGG_KILLS") else "")


def section(
    kills: Mapping[tuple[str, str], int],
    seconds: float,
    *,
    lost: int | None = None,
    doubled: int | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """What is kept of a run: how often each process was killed at each place. None: it was not counted."""
    at: dict[str, dict[str, int]] = {}
    for (process, point), times in sorted(kills.items()):
        at.setdefault(process, {}).setdefault(point, 0)
        at[process][point] += times
    counted = {key: count for key, count in (("lost", lost), ("doubled", doubled)) if count is not None}
    return {**facts, "minutes": round(seconds / 60, 1), "kills": sum(kills.values()), **counted, "at": at}


def merged(known: Mapping[str, Any], name: str, new: Mapping[str, Any]) -> dict[str, Any]:
    """The whole file with one section in place of an older one."""
    runs = {**known.get("runs", {}), name: new}
    total = {key: sum(run.get(key, 0) for run in runs.values()) for key in ("kills", "lost", "doubled")}
    return {"schema": 1, "total": total, "runs": dict(sorted(runs.items()))}


def commit() -> str:
    """What is here; with a plus if it was changed since."""
    changed = _git("status", "--porcelain", "--untracked-files=no", *_OTHERS)
    return _git("rev-parse", "--short=8", "HEAD") + ("+" if changed else "")


def run_of(began: Run) -> str:
    """The commit that a run began with; with a plus if what was run was changed then or has been until now."""
    first = began.commit.rstrip("+")
    return first + ("+" if began.commit != first or _git("diff", "--name-only", first, *_OTHERS) else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def keep(
    name: str,
    kills: Mapping[tuple[str, str], int],
    began: Run,
    *,
    lost: int | None = None,
    doubled: int | None = None,
) -> None:
    """Write the section of the test `name`; nothing without a file."""
    if not (path := os.environ.get("FEDAGG_KILLS")):
        return
    found = Path(path)
    known = json.loads(found.read_bytes()) if found.exists() else {}
    facts = {"commit": run_of(began), "date": time.strftime("%Y-%m-%d", time.gmtime()),
             "machine": f"{platform.machine()}, {os.cpu_count()} cores"}  # fmt: skip
    new = section(Counter(kills), time.monotonic() - began.at, lost=lost, doubled=doubled, **facts)
    write_atomic(found, json.dumps(merged(known, name, new), indent=1).encode() + b"\n")
