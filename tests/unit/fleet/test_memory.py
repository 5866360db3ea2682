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


def test_pages_that_only_loading_has_touched_are_unmapped_once() -> None:
    """What is used again is there, stays, and goes only after something else was loaded."""
    program = """
import decimal, numpy, ssl
from fedagg_edge.fleet import memory

def of_files():  # not from status: its counters lag
    with open("/proc/self/smaps_rollup") as file:
        found = {line.split(":")[0]: line.split()[1] for line in file if line.endswith("kB\\n")}
    return int(found["Rss"]) - int(found["Anonymous"])

def use():
    ssl.create_default_context()
    decimal.Decimal(2).sqrt()
    return float(numpy.linalg.inv(2 * numpy.eye(50)).sum())

told = [use(), of_files()]
settle = memory.Settling()
settle()
told += [of_files(), use(), of_files()]
settle()
told.append(of_files())
import _lzma
settle()
print(*told, of_files(), use())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result, before, unmapped, again, used, kept, loaded, last = map(float, done.stdout.split())
    assert result == again == last == 25.0
    assert unmapped < 0.6 * before
    assert used > unmapped
    assert kept > used - 200
    assert loaded < 0.9 * kept


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.one_arena()
    memory.give_back()
    memory.Settling()()
