"""Kills at every named place that some work comes to: forked runs, so that one costs milliseconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter

from fedagg_edge import failpoints


def fork(work, *args):
    """Run `work` in a process of its own; the signal that killed it, 0 if it ended well."""
    pid = os.fork()
    if not pid:
        try:
            work(*args)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0, "a run failed"
    return 0


def armed(run, folder, name, nth):
    failpoints.arm(name, nth)
    run(folder)


def counting(run, folder, out):
    seen = Counter()
    real = failpoints.reach

    def count(name):
        seen[name] += 1
        real(name)

    for module in list(sys.modules.values()):
        if getattr(module, "reach", None) is real:
            module.reach = count
    run(folder)
    out.write_text(json.dumps(seen))


def matrix(
    folder, budget, *, run, state, prepare=lambda here: None, audit=lambda here: None, look=lambda here, at: None
):
    """Kill `run` at every failpoint, at moments spread over all the times it is reached; the kills that happened.

    `run` goes on wherever an earlier, killed one stopped; what it leaves (`state`, as JSON) must be what it leaves
    undisturbed. `prepare` makes the folder that each begins with; `look` sees what a kill left, before the next run;
    `audit` sees the end.
    """

    def state_of(here):
        assert fork(lambda: (folder / "state").write_text(json.dumps(state(here)))) == 0
        return json.loads((folder / "state").read_text())

    seed = folder / "seed"
    seed.mkdir(parents=True)
    prepare(seed)
    calm = shutil.copytree(seed, folder / "calm")
    assert fork(counting, run, calm, folder / "seen") == 0
    seen = json.loads((folder / "seen").read_text())
    expected = state_of(calm)
    each = next((n for n in range(1, budget) if sum(min(n, times) for times in seen.values()) >= budget), budget)
    kills = Counter()
    for name, times in sorted(seen.items()):
        moments = min(each, times)
        for nth in (1 + i * times // moments for i in range(moments)):
            here = shutil.copytree(seed, folder / f"{name}-{nth}")
            killed = fork(armed, run, here, name, nth)
            assert killed == signal.SIGKILL, (name, nth, killed)
            assert fork(look, here, name) == 0, (name, nth)
            assert fork(run, here) == 0, (name, nth)
            got = state_of(here)
            assert got == expected, (name, nth, {k: (got[k], expected[k]) for k in got if got[k] != expected[k]})
            assert fork(audit, here) == 0, (name, nth)
            shutil.rmtree(here)
            kills[name] += 1
    return {"kills": sum(kills.values()), "failpoints": len(kills), "at": dict(kills)}
