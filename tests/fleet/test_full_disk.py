"""A parent whose disk is full: new work is refused with a reason, reading goes on, what was committed is kept, and
once there is room everything goes on by itself."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
from harness import assert_as_simulated, experiment, is_over, lay_out, rounds_done, settled, wait_for
from real_parent import CLASSES, PARENT, ask, hello, real_parent

from fedagg_edge.records import Embeddings, NodeId, SampleSet
from fedagg_edge.wire.chunks import digest_of, split
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import (
    APPEND,
    NOT_COMPUTED,
    Append,
    Appended,
    Exchange,
    Exchanged,
    Missing,
    Payload,
    Problem,
    Welcome,
    decode,
    encode,
)
from fedagg_edge.wire.tensors import dump_embeddings


def rows(device, start, count=200, width=400):
    samples = SampleSet.of(NodeId(device), np.arange(start, start + count, dtype=np.uint64))
    code_NB = np.random.default_rng(start).integers(0, 256, (count, width), np.uint8)
    return Embeddings(samples, code_NB, np.arange(count) % CLASSES)


def append(connection, key, after, found):
    """Send rows as a client would: their chunks, then the entry that names them."""
    data = dump_embeddings(found)
    chunks = split(data, Limits().chunk)
    digests = tuple(map(digest_of, chunks))
    for chunk, digest in zip(chunks, digests, strict=True):
        answer = ask(connection, f"chunks/{digest.hex()}", chunk, "PUT")
        if answer[0] != 204:
            return answer
    payload = Payload(len(data), digest_of(data), b"", digests)
    return ask(connection, "append", encode(Append(key, after, APPEND, len(found), NOT_COMPUTED, payload, 0)))


def pages(gateway, more=None):
    """Let the ledger's file grow by `more` pages at most; None: as it likes."""

    def set_limit(view):
        db = view.ledger.db
        most = 2**30 if more is None else db.one("PRAGMA page_count")[0] + more
        db.execute(f"PRAGMA max_page_count={most}")

    gateway.ask(set_limit)


def test_new_work_is_refused_reading_goes_on_and_with_room_it_is_taken(tmp_path):
    limits = Limits()
    with real_parent(tmp_path, ["device-1", "device-2"]) as gateway:
        one, two = gateway.connect("device-1"), gateway.connect("device-2")
        assert ask(one, "hello", hello("device-1"))[0] == 200
        assert decode(Appended, append(one, 1, 0, rows("device-1", 0))[2], limits).entry == 1
        assert ask(two, "hello", hello("device-2"))[0] == 200
        pages(gateway, more=2)
        for _ in range(3):  # as often as it is tried
            status, headers, body = append(one, 2, 1, rows("device-1", 200))
            problem = decode(Problem, body, limits)
            assert (status, problem.code, float(headers["Retry-After"])) == (503, "disk_full", 30.0)
            assert "disk is full" in problem.message
        # reading: a session, polls, statuses, entries, for the one that was refused and for others
        for device, connection in (("device-1", one), ("device-2", two)):
            status, _, body = ask(connection, "hello", hello(device))
            assert (status, decode(Welcome, body, limits).node) == (200, PARENT)
            poll = encode(Exchange(-1, 0, 0, 0.0, 0, None, ()))
            status, _, body = ask(connection, "exchange", poll)
            assert status == 200
            assert decode(Exchanged, body, limits).head == (1 if device == "device-1" else 0)
            assert ask(connection, "missing", encode(Missing((bytes(32),))))[0] == 200
        status, _, piece = ask(one, "entries/1/0", b"", "GET")
        assert (status, piece) == (200, dump_embeddings(rows("device-1", 0))[: limits.chunk])
        pages(gateway)
        assert decode(Appended, append(one, 2, 1, rows("device-1", 200))[2], limits).entry == 2
        assert not decode(Appended, append(two, 1, 0, rows("device-2", 0))[2], limits).already
        assert decode(Appended, append(one, 2, 1, rows("device-1", 200))[2], limits).already
        assert gateway.ask(lambda view: len(view.samples(NodeId("device-1"), None))) == 400


def test_who_reads_is_served_in_the_group_of_one_that_is_refused(tmp_path):
    """Requests that arrive together share a transaction; one that finds no room must not take the others with it."""
    import threading

    with real_parent(tmp_path, ["device-1", "device-2"], linger=0.3) as gateway:
        one, two = gateway.connect("device-1"), gateway.connect("device-2")
        for name, connection in (("device-1", one), ("device-2", two)):
            assert ask(connection, "hello", hello(name))[0] == 200
        pages(gateway, more=1)
        answers = {}

        def write():
            chunk = os.urandom(60_000)
            answers["write"] = ask(one, f"chunks/{digest_of(chunk).hex()}", chunk, "PUT")[0]

        def read():
            answers["read"] = ask(two, "missing", encode(Missing((bytes(32),))))[0]

        threads = [threading.Thread(target=work) for work in (write, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert answers == {"write": 503, "read": 200}


@contextmanager
def small_disk(folder, size):
    """`folder` on a file system of its own of `size` bytes."""
    keep = folder.with_name(folder.name + ".before")
    folder.rename(keep)
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("may not mount a file system here; the test above does it with SQLite's own limit")
    try:
        shutil.copytree(keep, folder, dirs_exist_ok=True)
        yield
        shutil.rmtree(keep)
        shutil.copytree(folder, keep, ignore=shutil.ignore_patterns("*.sock"))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
        keep.rename(folder)


def fill(folder):
    """Take all the room there is."""
    with (folder / "ballast").open("wb", buffering=0) as f:
        piece = b"\0" * 65_536
        while piece:
            try:
                while True:
                    f.write(piece)
            except OSError:
                piece = piece[: len(piece) // 2]


def test_an_edge_whose_disk_fills_up_goes_on_when_there_is_room(tmp_path):
    """Real processes on a real file system without room: nothing is lost, nothing counted twice, nobody starts it."""
    config = experiment(rounds=6)
    fleet = lay_out(config, tmp_path / "fleet")
    edge = next(n for n in fleet.nodes if n.place.id == "edge-0")
    disk = fleet.home(edge) / "state"
    with small_disk(disk, 4 << 20):
        try:
            for node in fleet.nodes:
                fleet.start(node)
            wait_for(lambda: rounds_done(fleet) >= 2, fleet, "the first rounds")
            fill(disk)
            log = fleet.home(edge) / "log.txt"

            def tries():  # by the node loop, started again, by its link, which waits, or by devices: whoever is first
                return sum(log.read_text().count(word) for word in ("exit=74", "answer_not_kept", "disk_full"))

            wait_for(lambda: tries() >= 3, fleet, "it says that there is no room, and tries again")
            stuck = rounds_done(fleet)
            assert stuck < config.rounds
            (disk / "ballast").unlink()
            wait_for(lambda: is_over(fleet) and settled(fleet, config.rounds), fleet, "rounds once there is room")
        finally:
            fleet.stop()
    assert_as_simulated(fleet, config, tmp_path / "sim")
