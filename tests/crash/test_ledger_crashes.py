"""Real processes, really killed, at every named place in the ledger: nothing acknowledged is lost, nothing doubled."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tally

HERE = Path(__file__).parent
LEDGER = HERE.parents[1] / "python" / "fedagg_edge" / "ledger"


def kill(folder, budget, rounds=4):
    command = [sys.executable, str(HERE / "workload.py"), str(folder), str(budget)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "ROUNDS": str(rounds)}
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def named():
    sources = [path.read_text(encoding="utf-8") for path in LEDGER.glob("*.py")]
    return {name for source in sources for name in re.findall(r'reach\("([\w.-]+)"\)', source)}


def test_a_hundred_kills(folder):
    began = tally.begin()
    done = kill(folder / "k", 110)
    assert done["kills"] >= 100
    assert len(done["at"]) >= 18
    assert named() - set(done["at"]) == set()
    keep("ledgers, a hundred", done, began)


@pytest.mark.slow
def test_five_hundred_kills(folder):
    began = tally.begin()
    done = kill(folder / "k", 510, rounds=8)
    assert done["kills"] >= 500
    keep("ledgers, five hundred", done, began)


def keep(name, done, began):
    tally.keep(name, {("forked run", point): n for point, n in done["at"].items()}, began)
