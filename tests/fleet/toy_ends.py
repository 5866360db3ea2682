"""The smallest ledger, handler and talker that could work, obvious enough to judge the shells by."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedagg_edge.errors import StorageFull
from fedagg_edge.wire.http import Request, Response


class ToyLedger:
    """What nodes appended, in order, and a counter of news for each."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE IF NOT EXISTS log (node TEXT, key INTEGER, body BLOB, PRIMARY KEY (node, key))",
            "CREATE TABLE IF NOT EXISTS news (node TEXT PRIMARY KEY, number INTEGER)",
        ):
            self.db.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException as error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                raise StorageFull("disk full") from error
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        self.db.execute("SAVEPOINT one")
        try:
            yield
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK TO one")
                self.db.execute("RELEASE one")
            raise
        self.db.execute("RELEASE one")

    def rows(self, node: str) -> list[tuple[int, bytes]]:
        return self.db.execute("SELECT key, body FROM log WHERE node = ? ORDER BY key", (node,)).fetchall()

    def news(self, node: str) -> int:
        row = self.db.execute("SELECT number FROM news WHERE node = ?", (node,)).fetchone()
        return int(row[0]) if row else 0

    def tell(self, node: str) -> None:
        self.db.execute("INSERT INTO news VALUES (?, 1) ON CONFLICT DO UPDATE SET number = number + 1", (node,))

    def close(self) -> None:
        self.db.close()


@dataclass(frozen=True, slots=True)
class ToyLater:
    node: str
    have: int
    until: float


class ToyHandler:
    """``/v1/append``: {key, text}, once a key. ``/v1/exchange``: {have, wait} waits for news. ``/v1/chunks`` fails."""

    def handle(self, ledger: ToyLedger, peer: Any, request: Request, now: float) -> Response | ToyLater:
        if request.path == "/v1/append":
            asked = json.loads(request.body)
            ledger.db.execute(
                "INSERT OR IGNORE INTO log VALUES (?, ?, ?)", (peer.node, asked["key"], asked["text"].encode())
            )
            return Response(200, json.dumps({"rows": len(ledger.rows(peer.node))}).encode())
        if request.path == "/v1/exchange":
            asked = json.loads(request.body)
            later = ToyLater(peer.node, asked["have"], now + asked["wait"])
            return later if ledger.news(peer.node) == asked["have"] else self._news(ledger, peer)
        if request.path.startswith("/v1/chunks"):
            raise RuntimeError("a secret in an error's text")
        return Response(404)

    def resume(self, ledger: ToyLedger, peer: Any, later: ToyLater, now: float) -> Response | ToyLater:
        if ledger.news(peer.node) == later.have and now < later.until:
            return later
        return self._news(ledger, peer)

    def _news(self, ledger: ToyLedger, peer: Any) -> Response:
        return Response(200, json.dumps({"news": ledger.news(peer.node)}).encode())


@dataclass(frozen=True, slots=True)
class ToyIdle:
    until: float


class ToyTalker:
    """Appends `total` texts, each until it is acknowledged, then is idle; or polls for ever if `wait` is given."""

    def __init__(self, total: int, *, pause: float = 0.01, wait: float | None = None) -> None:
        self.total, self.pause, self.wait = total, pause, wait
        self.acknowledged = 0
        self.failures = 0
        self.statuses: list[int] = []
        self._not_before = 0.0

    def next(self, now: float) -> Request | ToyIdle:
        if now < self._not_before:
            return ToyIdle(self._not_before)
        if self.wait is not None:
            return Request("POST", "/v1/exchange", json.dumps({"have": 0, "wait": self.wait}).encode())
        if self.acknowledged == self.total:
            return ToyIdle(now + 3600)
        return Request("POST", "/v1/append", json.dumps({"key": self.acknowledged, "text": "x" * 300}).encode())

    def receive(self, request: Request, response: Response, now: float) -> tuple[object, ...]:
        self.statuses.append(response.status)
        if response.status != 200:
            self._not_before = now + (response.retry_after or self.pause)
            return ()
        self.acknowledged += 1
        return (self.acknowledged,)

    def failed(self, request: Request, now: float) -> None:
        self.failures += 1
        self._not_before = now + self.pause
