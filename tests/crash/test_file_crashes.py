"""Real kills at every named place of every write that is not in a ledger, and of `fedagg forget`.

Nothing is torn, lost, doubled or left behind."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tally

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "python" / "fedagg_edge"
SCENARIOS = (
    "rounds", "jumps", "shelf", "upgrades", "renewal", "device's renewal", "enrolment", "administration",
    "publication", "pull", "samples",
)  # fmt: skip
WRITERS = (
    "files", "checkpoint", "identity/enrolment", "fleet/shelf", "fleet/pull", "fleet/publish", "fleet/renewal",
    "fleet/journal", "fleet/forgetting", "cli/forget",
)  # fmt: skip


def kill(folder, program, budget, *words):
    command = [sys.executable, str(HERE / program), str(folder), str(budget), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return Counter(json.loads(done.stdout)["at"])


def named(*modules):
    """The places in some modules."""
    sources = [(PACKAGE / f"{module}.py").read_text(encoding="utf-8") for module in modules]
    return {name for source in sources for name in re.findall(r'reach\("([\w.-]+)"\)', source)}


def test_every_write_of_several_steps_is_killed_at_every_step(folder):
    """Each moment of each, as they are short: over 300."""
    began = tally.begin()
    killed = sum((kill(folder / name, "writes.py", 1000, name) for name in SCENARIOS), Counter())
    killed += kill(folder / "orders", "orders.py", 60)
    assert named(*WRITERS) - set(killed) == set()
    assert killed.total() >= 300
    keep("files and orders", killed, began)


@pytest.mark.slow
def test_an_order_to_forget_is_killed_at_every_commit(folder):
    began = tally.begin()
    killed = kill(folder / "orders", "orders.py", 400)
    assert killed.total() >= 300
    keep("orders, every commit", killed, began)


def keep(name, killed, began):
    tally.keep(name, {("forked run", point): times for point, times in killed.items()}, began)
