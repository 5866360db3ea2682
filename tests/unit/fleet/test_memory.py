import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from fedagg_edge.fleet import memory


def test_what_the_heap_has_free_in_the_middle_is_given_back() -> None:
    """Hundreds of blocks, and one after them that stays: without it the C library would give back by itself."""
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


def test_threads_share_one_heap(tmp_path: Path) -> None:
    program = """
import ctypes, sys, threading
from fedagg_edge.fleet import memory

memory.one_arena()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
for _ in range(3):
    thread = threading.Thread(target=c.malloc, args=(60_000,))
    thread.start()
    thread.join()
if hasattr(c, "malloc_info"):
    c.fopen.restype, c.fclose.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    c.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    file = c.fopen(sys.argv[1].encode(), b"w")
    c.malloc_info(0, file)
    c.fclose(file)
"""
    told = tmp_path / "told"
    subprocess.run([sys.executable, "-c", program, str(told)], check=True)
    if hasattr(ctypes.CDLL(None), "malloc_info"):
        assert told.read_text().count("<heap nr=") == 1


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.one_arena()
    memory.give_back()
