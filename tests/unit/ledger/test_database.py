import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedagg_edge.errors import StorageError, StorageFull
from fedagg_edge.ledger.database import Database


@pytest.fixture
def db(tmp_path):
    database = Database(tmp_path / "x", busy_seconds=0.05)
    yield database
    database.close()


def put(db, key, value=b"v"):
    db.execute("INSERT INTO facts VALUES (?, ?)", (key, value))


def keys(db):
    return [row[0] for row in db.all("SELECT key FROM facts ORDER BY key")]


def test_settings_that_durability_rests_on(db):
    found = {p: db.one(f"PRAGMA {p}")[0] for p in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    assert (db.one("PRAGMA auto_vacuum")[0], db.one("PRAGMA page_size")[0]) == (2, 4096)


def test_nobody_else_on_the_machine_may_read_it(tmp_path):
    before = os.umask(0)
    try:
        database = Database(tmp_path / "x")
        put(database, "a")
        modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("x", "x-wal", "x-shm", "x.lock"), 0o600)


def test_transactions_join_and_savepoints_undo_their_part(db):
    with db.transaction():
        put(db, "a")
        with db.transaction():
            put(db, "b")
        with pytest.raises(ZeroDivisionError):
            put_and_fail(db, "c", db.savepoint())
    with pytest.raises(ZeroDivisionError):
        put_and_fail(db, "d", db.transaction())
    assert keys(db) == ["a", "b"]


def test_a_rollback_drops_what_was_derived_inside(db):
    with pytest.raises(ZeroDivisionError):
        touch_and_fail(db)
    assert db.cache == {"y": 2}


def test_a_writer_that_holds_on_is_named(db, tmp_path):
    other = Database(tmp_path / "x", busy_seconds=0.05)
    with other.transaction(), pytest.raises(StorageError, match="locked by another process"), db.transaction():
        pass
    other.close()


def test_a_newer_schema_a_foreign_file_and_no_file_are_refused(tmp_path):
    Database(tmp_path / "new").close()
    raw = sqlite3.connect(tmp_path / "new")
    raw.execute("PRAGMA user_version=99")
    raw.close()
    with pytest.raises(StorageError, match="has schema 99, this version of fedagg-edge reads up to 1; upgrade"):
        Database(tmp_path / "new")
    raw = sqlite3.connect(tmp_path / "foreign")
    raw.execute("CREATE TABLE t (x)")
    raw.close()
    with pytest.raises(StorageError, match="not a ledger"):
        Database(tmp_path / "foreign")
    (tmp_path / "text").write_text("hello " * 1000)
    with pytest.raises(StorageError, match="damaged"):
        Database(tmp_path / "text")
    with pytest.raises(StorageError, match="no ledger here"):
        Database(tmp_path / "none", read_only=True)


def test_read_only_reads_beside_a_writer_and_writes_nothing(db, tmp_path):
    put(db, "a")
    reader = Database(tmp_path / "x", read_only=True)
    assert keys(reader) == ["a"]
    with pytest.raises(StorageError, match="readonly"):
        put(reader, "b")
    reader.close()


DIRTY = """
import os, signal, sys
from pathlib import Path
from fedagg_edge.ledger.database import Database
db = Database(Path(sys.argv[1]))
for i in range(200):
    db.execute("INSERT INTO facts VALUES (?, ?)", (str(i), bytes(500)))
db.one("PRAGMA wal_checkpoint(TRUNCATE)")
db.execute("INSERT INTO facts VALUES ('last', x'00')")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_the_file_is_checked_and_what_was_committed_is_there(tmp_path):
    path = tmp_path / "x"
    done = subprocess.run([sys.executable, "-c", DIRTY, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    copy = tmp_path / "damaged"
    data = bytearray(path.read_bytes())
    for page in range(len(data) // 4096 - 12, len(data) // 4096):  # leaves of the facts: a scrambled header
        data[page * 4096 : page * 4096 + 12] = b"\x07" * 12
    copy.write_bytes(data)
    copy.with_name("damaged-wal").write_bytes(path.with_name("x-wal").read_bytes())
    watched = []

    @contextmanager
    def watch():
        watched.append("begun")
        try:
            yield
        finally:
            watched.append("over")

    with pytest.raises(StorageError, match=r"damaged: .*move the file away"):
        Database(copy, watch=watch)
    assert watched == ["begun", "over"]
    db = Database(path, watch=watch)
    assert watched == ["begun", "over"] * 2
    assert len(keys(db)) == 201
    db.close()
    Database(path, watch=watch).close()  # closed as it should be: nothing to check
    assert watched == ["begun", "over"] * 2


def put_both(db, *pairs):
    with db.transaction():
        for key, value in pairs:
            put(db, key, value)


def put_and_fail(db, key, within):
    with within:
        put(db, key)
        raise ZeroDivisionError


def touch_and_fail(db):
    with db.transaction():
        db.cache["x"], db.cache["y"] = 1, 2
        db.touch("x")
        raise ZeroDivisionError


def lose_the_transaction(db):
    with db.transaction():
        put(db, "a")
        db._connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
        put(db, "b")


def fill(db):
    for i in range(10_000):
        put(db, f"fill-{i:05}", os.urandom(3000))


def test_full_refuses_keeps_reads_and_goes_on(db):
    put(db, "first")
    db.execute("PRAGMA max_page_count=60").fetchall()
    with pytest.raises(StorageFull, match=r"no room: .*free space on its disk"):
        fill(db)
    before = keys(db)
    assert "first" in before
    with pytest.raises(StorageFull):
        put_both(db, ("half-1", bytes(3000)), ("half-2", bytes(300_000)))
    assert keys(db) == before
    db.execute("PRAGMA max_page_count=10000").fetchall()
    put(db, "after", bytes(3000))
    assert "after" in keys(db)


def test_a_transaction_that_the_disk_undid_is_not_continued(db):
    with pytest.raises(StorageFull, match="whole transaction was undone"):
        lose_the_transaction(db)
    assert keys(db) == []
    put(db, "c")


TMPFS = """
set -e
mount -t tmpfs -o size=400k none "$1"
exec "$2" -c "$3" "$1"
"""
ON_TMPFS = """
import os, sys
from pathlib import Path
from fedagg_edge.errors import StorageFull
from fedagg_edge.ledger.database import Database
folder = Path(sys.argv[1])
(folder / "ballast").write_bytes(bytes(100_000))
db = Database(folder / "x")
written, refused = 0, False
try:
    for written in range(1000):
        db.execute("INSERT INTO facts VALUES (?, ?)", (f"{written:04}", os.urandom(3000)))
except StorageFull as e:
    refused = True
assert refused and written > 5, written
count = db.one("SELECT count(*) FROM facts")[0]
assert count == written, (count, written)
(folder / "ballast").unlink()
db.execute("INSERT INTO facts VALUES ('after', x'00')")
db.check()
db.close()
db = Database(folder / "x")
assert db.one("SELECT count(*) FROM facts")[0] == written + 1
print("held", written)
"""


def test_a_disk_that_is_really_full(tmp_path):
    command = ["unshare", "-rm", "sh", "-c", TMPFS, "sh", str(tmp_path), sys.executable, ON_TMPFS]
    trial = ["unshare", "-rm", "true"]
    possible = shutil.which("unshare") and not subprocess.run(trial, capture_output=True, check=False).returncode
    if not possible:
        pytest.skip("needs user namespaces and unshare; the test with max_page_count covers the rest")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("held"), done.stderr


BOUNDED = """
import os, signal, sys
from pathlib import Path
from fedagg_edge.errors import StorageError
from fedagg_edge.ledger.database import Database
db = Database(Path(sys.argv[1]))
try:
    for i in range(1000):
        db.execute("INSERT INTO facts VALUES (?, ?)", (f"{i:04}", os.urandom(3000)))
except StorageError as e:
    assert db.one("SELECT count(*) FROM facts")[0] == i
    print("refused", type(e).__name__)
"""


def test_a_write_that_the_system_refuses(tmp_path):
    def bound():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    command = [sys.executable, "-B", "-c", BOUNDED, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=bound, check=False)
    assert done.stdout == "refused StorageFailed\n", done.stderr  # not what a person must mend: another start may work


# a part of a transaction: what it does in order, put a number or enter another part; and whether it fails at its end
PARTS = st.recursive(
    st.integers(0, 999),
    lambda inner: st.tuples(st.lists(inner, max_size=4), st.booleans()),
    max_leaves=25,
)


class Undone(Exception):
    """Raised at the end of a part that fails."""


def perform(db, part, kept):
    """Do a part in a savepoint; `kept` is what a list that is copied at each savepoint would hold."""
    before = list(kept)
    try:
        with db.savepoint():
            for step in part[0]:
                if isinstance(step, tuple):
                    perform(db, step, kept)
                else:
                    key, late = f"{len(kept)}:{step}", step % 2
                    (db.execute_late if late else db.execute)("INSERT INTO facts VALUES (?, ?)", (key, b"v"))
                    kept.append(key)
            if part[1]:
                raise Undone
    except Undone:
        kept[:] = before


@settings(max_examples=60)
@given(st.lists(st.tuples(st.lists(PARTS, max_size=4), st.booleans()), max_size=5))
def test_savepoints_undo_what_they_hold_and_nothing_else(tmp_path_factory, parts):
    db = Database(tmp_path_factory.mktemp("db") / "x")
    kept = []
    with db.transaction():
        for part in parts:
            perform(db, part, kept)
            assert sorted(keys(db)) == sorted(kept)
    assert sorted(keys(db)) == sorted(kept)
    db.close()


def test_sqlite_hears_of_savepoints_that_write_and_of_one_for_those_that_begin_together(db):
    said = []
    db._connection.set_trace_callback(said.append)
    with db.transaction(), db.savepoint():
        keys(db)
        with db.savepoint():
            put(db, "a")
        with db.savepoint():
            keys(db)
    assert [s.split()[0] for s in said] == ["BEGIN", "SELECT", "SAVEPOINT", "INSERT", "SELECT", "RELEASE", "COMMIT"]


def within(db, *steps):
    with db.savepoint():
        for step in steps:
            step()


def fail():
    raise ZeroDivisionError


def late(db, key):
    db.execute_late("INSERT INTO facts VALUES (?, ?)", (key, b"v"))


def test_a_late_write_alone_needs_no_savepoint_and_is_there_for_whoever_looks(db):
    said = []
    db._connection.set_trace_callback(said.append)
    with db.transaction():
        with db.savepoint(), db.savepoint():
            late(db, "a")
        with pytest.raises(ZeroDivisionError):
            within(db, lambda: within(db, lambda: late(db, "b")), fail)
        with db.savepoint():
            late(db, "c")
            assert keys(db) == ["a", "c"]
        late(db, "d")  # in no savepoint: at once
    kinds = ["BEGIN", "INSERT", "SAVEPOINT", "INSERT", "SELECT", "RELEASE", "INSERT", "COMMIT"]
    assert [s.split()[0] for s in said] == kinds
    assert keys(db) == ["a", "c", "d"]


def test_a_late_write_that_fails_undoes_its_operation_and_no_other(db):
    with db.transaction():
        with db.savepoint():
            put(db, "a")
        with pytest.raises(StorageError, match="CONSTRAINT"):
            within(db, lambda: put(db, "b"), lambda: within(db, lambda: late(db, "a")))
        with pytest.raises(StorageError, match="CONSTRAINT"):
            within(db, lambda: late(db, "a"))
        with pytest.raises(ZeroDivisionError):
            within(db, lambda: late(db, "c"), lambda: within(db, lambda: put(db, "d"), fail))
        with db.savepoint():
            put(db, "e")
    assert keys(db) == ["a", "e"]


def test_how_much_of_the_file_is_kept_in_memory(tmp_path):
    for size, kilobytes in ((None, -2000), (8 << 20, -8192)):
        db = Database(tmp_path / "x.ledger", page_bytes=size)
        assert db.one("PRAGMA cache_size") == (kilobytes,)
        db.close()
