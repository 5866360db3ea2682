import ctypes
import subprocess
import sys

import pytest

from fedagg_edge.fleet import memory


def test_what_the_heap_has_free_in_the_middle_is_given_back() -> None:
    """A thousand blocks, and one after them that stays: without it the C library would give back by itself."""
    program = """
import ctypes
from fedagg_edge.fleet import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

memory.one_arena()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [c.malloc(60_000) for _ in range(500)]
for block in blocks:
    ctypes.memset(block, 1, 60_000)
for block in blocks[:-1]:
    c.free(block)
before = resident()
memory.give_back()
print(before - resident())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        assert int(done.stdout) > 20_000_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.one_arena()
    memory.give_back()
