"""One SQLite connection: opened, checked and migrated; transactions that nest; SQLite's errors as ours.

WAL with synchronous=FULL: what a transaction committed is on the disk when it returns. Several processes may have the
file open, each thread its own connection. Whoever opens it first after a crash checks it before anybody uses it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from fedagg_edge.errors import StorageBusy, StorageError, StorageFailed, StorageFull
from fedagg_edge.failpoints import reach
from fedagg_edge.files import sync_folder
from fedagg_edge.ledger.schema import APPLICATION_ID, MIGRATIONS

__all__ = ["Database"]

_BUSY_SECONDS = 10.0
_PAGE_BYTES = 4096
_PRAGMAS = ("foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY", "trusted_schema=OFF")
_OLDEST = (3, 37, 0)  # STRICT tables
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}  # the second: no room for the shared index of the WAL
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """A connection to the file at `path`; belongs to the thread that opened it.

    `writes` grows with whatever may change what a statement reads. `cache` keeps what was derived from rows that this
    connection read; who derives it from rows of the running transaction calls `touch`, so that a rollback drops it.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_seconds: float = _BUSY_SECONDS,
        read_only: bool = False,
        page_bytes: int | None = None,
        watch: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Open `path`, making it if there is none; raise StorageError if that cannot be done. `page_bytes`: of the
        file's pages in memory, None: SQLite's 2 MB. `watch` is entered for as long as the check after a crash takes,
        which is as long as reading the whole file."""
        self.path = path
        self._watch = watch
        self.cache: dict[Hashable, Any] = {}
        self.fold_bytes: int | None = None  # of logs in memory (log.py); None: all that were asked for
        self.writes = 0
        self._touched: set[Hashable] = set()
        self._depth = 0
        self._points: list[str | None] = []  # of the savepoints entered: SQLite's name once something was written
        self._savepoint = _Savepoint(self)
        self._late: tuple[str, tuple[Any, ...]] | None = None  # a statement that was put off
        self._read_only = read_only
        self._page_bytes = page_bytes
        self._lock = -1
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StorageError(f"sqlite: got {sqlite3.sqlite_version}, expected 3.37 or newer; upgrade the system's")
        if read_only and not path.is_file():
            raise StorageError(f"{path}: no ledger here")
        if not read_only:  # for its owner alone, whatever the umask: it has samples in it; SQLite's other files follow
            with suppress(OSError):  # what is wrong, SQLite says below
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        mode = "ro" if read_only else "rwc"
        try:
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=busy_seconds
            )
        except sqlite3.Error as e:
            raise self._error(e) from e
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        if self._read_only:
            self._check_header()
            return
        first, unclean = self._take_lock()
        if not self.one("PRAGMA page_count")[0]:  # a new file; setting them again writes, which a full disk refuses
            self.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            self.execute("PRAGMA auto_vacuum=INCREMENTAL")
        for pragma in ("journal_mode=WAL", "synchronous=FULL", *_PRAGMAS):
            self.execute(f"PRAGMA {pragma}")
        if self._page_bytes is not None:
            self.execute(f"PRAGMA cache_size=-{self._page_bytes // 1024}")
        self._check_header()
        if first and unclean:
            with self._watch():
                self.check()
        self._migrate()
        if first:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _take_lock(self) -> tuple[bool, bool]:
        """(nobody else has it open, the last one to have it died). The WAL goes when the last one closes."""
        log = self.path.with_name(self.path.name + "-wal")
        unclean = log.is_file() and log.stat().st_size > 0
        self._lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._lock, fcntl.LOCK_SH)  # waits while the first one checks
            return False, False
        return True, unclean

    def _check_header(self) -> None:
        application, version = self.one("PRAGMA application_id")[0], self.one("PRAGMA user_version")[0]
        if (application, version) == (0, 0) and not self.one("SELECT count(*) FROM sqlite_master")[0]:
            return  # new
        if application != APPLICATION_ID:
            raise StorageError(f"{self.path}: not a ledger of fedagg-edge; give another path or move the file away")
        if version > len(MIGRATIONS):
            raise StorageError(
                f"{self.path}: has schema {version}, this version of fedagg-edge reads up to {len(MIGRATIONS)}; "
                "upgrade fedagg-edge on this machine"
            )

    def _migrate(self) -> None:
        if self.one("PRAGMA user_version")[0] >= len(MIGRATIONS):
            return
        with self.transaction():
            for number in range(self.one("PRAGMA user_version")[0], len(MIGRATIONS)):
                for statement in filter(str.strip, MIGRATIONS[number].split(";\n")):
                    self.execute(statement)
                reach("database.migrate.after-statements")
                self.execute(f"PRAGMA user_version={number + 1}")
            self.execute(f"PRAGMA application_id={APPLICATION_ID}")
        sync_folder(self.path.parent)

    def check(self) -> None:
        """Read the whole file; raise StorageError, naming the first fault, if it is damaged."""
        found = self.one("PRAGMA quick_check(1)")[0]
        if found != "ok":
            raise self._damaged(" ".join(found.split()))

    def close(self) -> None:
        """Close; what was not committed is undone. Closing again does nothing."""
        with suppress(AttributeError, sqlite3.Error):
            self._connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # statements

    def execute(self, sql: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Run one statement; whatever writes comes through here."""
        self.writes += 1
        if self._depth:
            self._prepare()
        try:
            if self._points and self._points[-1] is None:
                self._set_point()
            return self._connection.execute(sql, tuple(values))
        except sqlite3.Error as e:
            raise self._error(e) from e

    def execute_late(self, sql: str, values: Iterable[Any]) -> None:
        """`execute` for a write whose outcome is not looked at: it is run before whatever else is asked of the
        database, at the latest at the end of the outermost savepoint, which raises what it raises. The only write of
        an operation needs no savepoint in SQLite then, as a statement fails whole."""
        if not self._points:
            self.execute(sql, values)
            return
        self._prepare()
        self.writes += 1
        self._late = (sql, tuple(values))

    def one(self, sql: str, values: Iterable[Any] = ()) -> Any:
        """The first row, or None."""
        if self._depth:
            self._prepare()
        try:
            return self._connection.execute(sql, tuple(values)).fetchone()
        except sqlite3.Error as e:
            raise self._error(e) from e

    def all(self, sql: str, values: Iterable[Any] = ()) -> list[Any]:
        """All rows."""
        if self._depth:
            self._prepare()
        try:
            return self._connection.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as e:
            raise self._error(e) from e

    def _prepare(self) -> None:
        """Before a statement inside a transaction."""
        self._check_running()
        if self._late is not None:
            late, self._late = self._late, None
            self.execute(*late)

    def _check_running(self) -> None:
        # a full disk may undo the whole transaction: whoever catches that must not go on statement by statement
        if not self._connection.in_transaction:
            raise StorageFull(f"{self.path}: the disk failed and the whole transaction was undone; try again")

    # transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed or nothing; joins the one that is running."""
        if self._depth:
            yield
            return
        self.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            reach("database.commit.before")
            self.execute("COMMIT")
            reach("database.commit.after")
        except BaseException:
            with suppress(StorageError):  # SQLite has undone it itself when the disk was full
                self.execute("ROLLBACK")
            self._drop_touched()
            raise
        finally:
            self._depth = 0
            self._touched.clear()

    def savepoint(self) -> AbstractContextManager[None]:
        """As `transaction`, but inside a running one an exception undoes this part alone.

        SQLite hears of it when something is written: those who only read cost nothing, and savepoints entered with
        nothing written in between are one.
        """
        return self._savepoint if self._depth else self.transaction()

    def enter_point(self) -> None:
        """Begin a savepoint; `_Savepoint` does."""
        if self._late is not None:  # it is not to be undone with what comes now
            self._prepare()
        self._points.append(None)
        self._depth += 1

    def leave_point(self, failed: bool) -> None:
        """End it, undoing what was done since if it has failed."""
        try:
            point = self._points.pop()
            if failed:
                self._undo(point)
                return
            if self._late is not None:
                self._pass_on(point)
            if point is not None:
                self._release(point)
        finally:
            self._depth -= 1

    def _undo(self, point: str | None) -> None:
        self.writes += 1
        self._late = None  # nothing that it does not belong to has been entered since
        if point is not None:
            with suppress(StorageError):
                self._run(f"ROLLBACK TO {point}")
                self._release(point)
        self._drop_touched()

    def _pass_on(self, point: str | None) -> None:
        """The late statement belongs to the next savepoint now; after the outermost it is run."""
        if self._points:
            return
        try:
            self._prepare()
        except BaseException:
            self._undo(point)
            raise

    def _set_point(self) -> None:
        """Tell SQLite of all savepoints entered since the last write, as one."""
        first = len(self._points)
        while first and self._points[first - 1] is None:
            first -= 1
        name = f"s{first}"
        self._connection.execute(f"SAVEPOINT {name}")
        self._points[first:] = [name] * (len(self._points) - first)

    def _release(self, point: str) -> None:
        """Unless an outer savepoint is the same one."""
        if not (self._points and self._points[-1] == point):
            self._run(f"RELEASE {point}")

    def _run(self, sql: str) -> None:
        self._check_running()
        try:
            self._connection.execute(sql)
        except sqlite3.Error as e:
            raise self._error(e) from e

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state."""
        if self._connection.in_transaction:
            yield
            return
        self.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(StorageError):
                self.execute("COMMIT")

    def touch(self, key: Hashable) -> None:
        """`cache[key]` now rests on rows that may be undone."""
        if self._depth:
            self._touched.add(key)

    def _drop_touched(self) -> None:
        for key in self._touched:
            self.cache.pop(key, None)

    # room

    def scrub(self) -> bool:
        """Give freed pages back and empty the WAL: erased bytes are then in no file. False if a reader holds it up."""
        self.execute("PRAGMA incremental_vacuum").fetchall()
        reach("database.scrub.before-checkpoint")
        return bool(self.one("PRAGMA wal_checkpoint(TRUNCATE)")[0] == 0)

    # errors

    def _error(self, e: sqlite3.Error) -> StorageError:
        code = getattr(e, "sqlite_errorcode", 0)
        if code in _FULL:
            return StorageFull(f"{self.path}: no room: {e}; nothing was changed, free space on its disk and try again")
        if code & 0xFF in _DAMAGED:
            return self._damaged(str(e))
        if code & 0xFF == sqlite3.SQLITE_BUSY:
            return StorageBusy(f"{self.path}: locked by another process for too long; find it with fuser")
        if code & 0xFF == sqlite3.SQLITE_IOERR:
            name = getattr(e, "sqlite_errorname", type(e).__name__)
            return StorageFailed(
                f"{self.path}: its disk failed ({name}); nothing was changed, look at the system's log"
            )
        return StorageError(f"{self.path}: {getattr(e, 'sqlite_errorname', type(e).__name__)}: {e}")

    def _damaged(self, fault: str) -> StorageError:
        return StorageError(
            f"{self.path}: damaged: {fault}; move the file away and start: embeddings come back from the neighbours"
        )


class _Savepoint:
    """`Database.savepoint` inside a transaction, the same for all: it keeps nothing. A generator for each costs an
    exchange several us."""

    __slots__ = ("_db",)

    def __init__(self, db: Database) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.enter_point()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._db.leave_point(kind is not None)
