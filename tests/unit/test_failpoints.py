import signal
import subprocess
import sys

PROGRAM = """
from fedagg_edge.failpoints import reach
for i in range(4):
    reach("a.b.c")
    reach("other")
    print(i, flush=True)
"""


def run(env):
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, check=False)


def test_a_process_dies_at_the_nth_reach():
    done = run({"FEDAGG_FAILPOINT": "a.b.c:3"})
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1"])


def test_nothing_happens_unarmed():
    assert run({}).returncode == 0
    assert run({"FEDAGG_FAILPOINT": "a.b"}).returncode == 0
