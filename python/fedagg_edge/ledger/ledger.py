"""`Ledger`: the durable state of one node, whatever its tier. One a thread; see docs/fleet.md.

A facade: each method is one function of this package in one transaction (or in the caller's), with the node's options
filled in. What an entry sets in motion is put together here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from fedagg_edge.errors import DataError, StorageError
from fedagg_edge.failpoints import reach
from fedagg_edge.ledger import (
    chunks,
    erase,
    knowledge,
    log,
    moves,
    nodes,
    notices,
    numbering,
    outbox,
    payloads,
    relay,
    uptime,
)
from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.erase import Receipt
from fedagg_edge.ledger.fold import EMPTY, union, without
from fedagg_edge.ledger.knowledge import Packed, Stored
from fedagg_edge.ledger.log import By, Kind, LogEntry, Position
from fedagg_edge.ledger.outbox import Batch, Bounds
from fedagg_edge.records import Embeddings, Knowledge, Link, NodeId, SampleSet, Tier
from fedagg_edge.wire.tensors import OWN, dump_embeddings, load_embeddings, load_release, load_samples
from fedagg_edge.wire.terms import CHILD

__all__ = ["Ledger", "Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """`hold_labels`: no label goes to the own parent, whatever the child it came from said. `staged`: bytes of chunks
    per node. `fold_bytes`: of logs kept in memory, None: all. `page_bytes`: of the file's pages, None: 2 MB. `clock`:
    seconds since 1970. `boot_clock`: seconds since the machine's start. `watch`: entered while the file is checked
    after a crash."""

    tier: Tier = Tier.DEVICE
    hold_labels: bool = False
    outbox: Bounds = field(default_factory=Bounds)
    staged: int = 256 << 20
    fold_bytes: int | None = None
    page_bytes: int | None = None
    busy_seconds: float = 10.0
    clock: Callable[[], float] = time.time
    boot_clock: Callable[[], float] = time.monotonic
    watch: Callable[[], AbstractContextManager[object]] = nullcontext


class Ledger:
    """See the module; `open` makes one."""

    def __init__(self, db: Database, node: NodeId, federation: str, options: Options) -> None:
        self.db, self.node, self.federation, self.options = db, node, federation, options

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        node: NodeId,
        federation: str,
        options: Options | None = None,
        read_only: bool = False,
    ) -> Ledger:
        """Open the file at `path`, making it if it is not there; StorageError if it cannot be `node`'s."""
        options = options or Options()
        db = Database(
            path,
            busy_seconds=options.busy_seconds,
            read_only=read_only,
            page_bytes=options.page_bytes,
            watch=options.watch,
        )
        db.fold_bytes = options.fold_bytes
        ledger = cls(db, node, federation, options)
        try:
            ledger._introduce()
        except BaseException:
            db.close()
            raise
        return ledger

    def _introduce(self) -> None:
        mine = {"node": str(self.node), "federation": self.federation, "tier": str(self.options.tier)}
        known = self.get("ledger.identity") or self._begin(mine)
        if known != mine:
            raise StorageError(f"{self.db.path}: is the ledger of {known}, this is {mine}; give each its own path")

    def _begin(self, mine: dict[str, str]) -> Any:
        """Write whose ledger this is, unless another process just has; whose it is."""
        with self.transaction():
            known = self.get("ledger.identity")
            if known is None:
                self.put("ledger.identity", mine)
                if self.options.tier is not Tier.CLOUD:
                    numbering.begin(self.db)
        return known or mine

    @property
    def relays(self) -> bool:
        """Whether children's entries go on to a parent."""
        return self.options.tier is Tier.EDGE

    def close(self) -> None:
        """Close; again does nothing."""
        self.db.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing; joins a running one."""
        return self.db.transaction()

    def savepoint(self) -> AbstractContextManager[None]:
        """One operation of a group: its failure undoes it alone."""
        return self.db.savepoint()

    # facts

    def get(self, key: str) -> Any:
        """The value of a fact, None if there is none."""
        value = self.raw(key)
        return None if value is None else msgspec.msgpack.decode(value)

    def raw(self, key: str) -> bytes | None:
        """The same as msgpack."""
        row = self.db.one("SELECT value FROM facts WHERE key = ?", (key,))
        return None if row is None else row[0]

    def put(self, key: str, value: Any) -> None:
        """Set a fact to a value that msgpack can say."""
        self.db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, msgspec.msgpack.encode(value)))

    def find(self, prefix: str) -> dict[str, Any]:
        """All facts whose names begin with `prefix`, in the order of their names."""
        rows = self.db.all(
            "SELECT key, value FROM facts WHERE key >= ? AND key < ? ORDER BY key", (prefix, prefix + "\x7f")
        )
        return {key: msgspec.msgpack.decode(value) for key, value in rows}

    # logs: the parent's end

    def head(self, child: NodeId) -> Position:
        """See `log.head`."""
        return log.head(self.db, child)

    def append(self, child: NodeId, kind: int, payload: bytes, *, key: int | None, by: By) -> Position:
        """Commit an entry on a child's link with all that it sets in motion; see `log.append`.

        The same key again is answered with the same entry. Raises Conflict, DataError, OutboxFull, StorageFull.
        """
        if child == self.node:
            raise DataError(f"link {child}: the parent leads the own log; use send, accept and follow")
        with self.db.savepoint():
            before = self.head(child).entry
            done = log.append(self.db, child, Kind(kind), payload, key=key, by=by, at=self._now())
            if not done.already:
                reach("ledger.append.after-entry")
                if kind == Kind.APPEND:
                    moves.redirect(self.db, child, payload, self._now())
                else:
                    self._erase(child, payload)
                self._relay(child, before)
                reach("ledger.append.after-relay")
        return done

    def _relay(self, child: NodeId, after: int) -> None:
        if not self.relays:
            return
        bounds, hold = self.options.outbox, self.options.hold_labels or self._asked_to_hold(child)
        for entry in log.entries(self.db, child, after, 1 << 30, inline=1 << 30):
            relay.up(self.db, self.node, entry.kind, entry.payload or b"", hold_labels=hold, bounds=bounds,
                     now=self._ran())  # fmt: skip

    def _asked_to_hold(self, child: NodeId) -> bool:
        """Whether `child` said that its labels are for this node alone."""
        said = self.get(CHILD + child)
        return isinstance(said, dict) and said.get("labels") == "first-edge"

    def _erase(self, child: NodeId, payload: bytes) -> None:
        gone = load_samples(payload, OWN)
        erase.erase_rows(self.db, child, gone)
        knowledge.blank_erased(self.db, child)  # rows may have come after the order by which this node forgot them
        if self.relays:
            gone = relay.nowhere(self.db, self.node, gone)
            erase.erase_rows(self.db, self.node, gone)
            erase.erase_waiting(self.db, gone)
            knowledge.blank_erased(self.db, self.node)

    def entries(self, child: NodeId, after: int, limit: int = 256, inline: int = log.INLINE) -> list[LogEntry]:
        """See `log.entries`."""
        return log.entries(self.db, child, after, limit, inline)

    def fence(self, child: NodeId) -> int:
        """See `log.fence`."""
        return log.fence(self.db, child)

    def entry_bytes(self, child: NodeId, number: int, start: int = 0, size: int | None = None) -> bytes:
        """See `log.entry_bytes`."""
        return log.entry_bytes(self.db, child, number, start, size)

    def samples(self, child: NodeId, digest: str | None = None) -> SampleSet:
        """See `log.samples`."""
        return log.samples(self.db, child, digest)

    def rows(self, child: NodeId, digest: str, *, left: bool = False) -> int:
        """See `log.rows`."""
        return log.rows(self.db, child, digest, left=left)

    def embeddings(self, child: NodeId, digest: str | None = None) -> Embeddings:
        """See `log.embeddings`; on the own link, labels that were held back from the parent are filled in."""
        found = log.embeddings(self.db, child, digest)
        return relay.with_labels(self.db, self.node, found) if child == self.node and self.relays else found

    def remaining(self, child: NodeId, digest: str) -> tuple[Embeddings, NDArray[Any]]:
        """See `log.remaining`."""
        return log.remaining(self.db, child, digest)

    # the own log: the child's end

    def send(self, embeddings: Embeddings) -> int | None:
        """Put rows into the outbox; the last batch's key, None if the parent has or will get all. Raises OutboxFull."""
        with self.db.savepoint():
            return outbox.put_rows(self.db, self.node, embeddings, self.options.outbox, self._ran())

    def pending(self, limit: int = 256, inline: int = log.INLINE) -> list[Batch]:
        """See `outbox.pending`."""
        return outbox.pending(self.db, limit, inline)

    def batch_bytes(self, key: int, start: int = 0, size: int | None = None) -> bytes:
        """See `outbox.batch_bytes`."""
        return outbox.batch_bytes(self.db, key, start, size)

    def split(self, rows: int, size: int) -> None:
        """See `outbox.split`."""
        with self.db.savepoint():
            outbox.split(self.db, rows, size)

    def set_aside(self, keys: Iterable[int]) -> None:
        """See `outbox.set_aside`."""
        outbox.set_aside(self.db, keys)

    def acknowledged(self) -> Position:
        """The last entry of the own log that is known to be committed by the parent."""
        return log.head(self.db, self.node)

    def set_acknowledged(self, key: int, entry: int, digest: str) -> Position:
        """The parent committed batch `key`; see `outbox.accept`."""
        return outbox.accept(self.db, self.node, key, entry, digest)

    def joined(self) -> bool:
        """Whether this node has seen all that its parent had of it when the two first met; see `join`."""
        return not numbering.is_fresh(self.db)

    def joined_at(self) -> int:
        """See `numbering.joined_at`."""
        return numbering.joined_at(self.db)

    def join(self) -> None:
        """It has; see `outbox.join`."""
        outbox.join(self.db, self.node)

    def follow(self, news: Iterable[LogEntry]) -> Position:
        """Apply the parent's entries and hand them down to the children; see `outbox.follow`."""
        with self.db.savepoint():
            done = self.acknowledged()
            for entry in news:  # one by one: rows that were released may come again behind that
                before, done = done, outbox.follow(self.db, self.node, [entry])
                if entry.number > before.entry:
                    if entry.kind is Kind.APPEND:  # an old parent hands on late what this node has forgotten since
                        outbox.forget_late(self.db, self.node, EMPTY, self._ran())
                    late = self._forget_again(entry)
                    relay.down(self.db, self.node, [entry], self._now(), late)
                    self._follow_up(entry)
        return done

    def _forget_again(self, entry: LogEntry) -> SampleSet:
        """Erase rows that came with `entry` and wait to be forgotten by the parent: their samples.

        A batch whose answer was lost comes back as the parent committed it, with rows that left this node since.
        """
        if entry.kind is not Kind.APPEND or not len(waiting := outbox.forgotten(self.db)):
            return EMPTY
        named = load_embeddings(entry.payload or b"", OWN).samples
        late = without(named, without(named, waiting))
        if len(late):
            erase.erase_rows(self.db, self.node, late)
        return late

    def _follow_up(self, entry: LogEntry) -> None:
        if entry.kind is not Kind.APPEND:
            gone = log.removed(entry.kind, entry.payload or b"")
            erase.erase_everywhere(self.db, gone)
            if entry.kind is Kind.FORGET:
                for child in log.links(self.db):
                    knowledge.blank_samples(self.db, child, gone)
            if entry.kind is Kind.RELEASE:
                moves.overtaken(self.db, load_release(entry.payload or b"", OWN))
        elif self.options.tier is Tier.DEVICE:
            gone = outbox.forget_late(self.db, self.node, EMPTY, self._ran())
            if len(gone):
                erase.erase_everywhere(self.db, gone)

    def rebase(self, news: Iterable[LogEntry], fence: int) -> Position:
        """Change parents; see `outbox.rebase`. Rows that came with its log and wait to be forgotten are erased here."""
        with self.db.savepoint():
            done = outbox.rebase(self.db, self.node, news, fence, self._ran())
            if len(gone := outbox.forgotten(self.db)):
                erase.erase_rows(self.db, self.node, gone)
            return done

    def set_fence(self, fence: int) -> None:
        """The parent knows of moves that this node has forgotten."""
        log.open_link(self.db, self.node, fence)

    def log_size(self) -> int:
        """Bytes of the payloads of the own log, each once."""
        return log.size(self.db, self.node)

    def find_payload(self, digest: bytes) -> bytes | None:
        """A payload of this SHA-256 that is here already: one that is kept, or all rows of the own log as one."""
        known = payloads.find(self.db, digest)
        if known is None:
            whole = dump_embeddings(outbox.held(self.db, self.node))
            known = whole if payloads.content_of(whole) == digest else None
        return known

    def origins(self) -> tuple[NodeId, ...]:
        """Whose samples come through this node."""
        return tuple(dict.fromkeys((self.node, *outbox.expected(self.db, self.node).origins)))

    def retire(self, samples: SampleSet) -> bool:
        """Retention on a device: erase own samples here and have every ancestor forget them; whether it is scrubbed."""
        self.retire_rows(samples)
        return self.db.scrub()

    def retire_rows(self, samples: SampleSet) -> None:
        """`retire` as a part of a larger transaction; the bytes stay in freed pages until the next scrub."""
        with self.db.savepoint():
            outbox.put_forget(self.db, self.node, samples, self._ran())
            erase.erase_everywhere(self.db, samples)
            knowledge.blank_erased(self.db, self.node)

    def scrub(self) -> bool:
        """See `Database.scrub`."""
        return self.db.scrub()

    # moves

    def owner(self, origin: NodeId) -> moves.Owner | None:
        """See `moves.owner`."""
        return moves.owner(self.db, origin)

    def adoption(self, node: NodeId) -> moves.Adoption | None:
        """See `moves.adoption`."""
        return moves.adoption(self.db, node)

    def adoptions(self) -> list[moves.Adoption]:
        """See `moves.waiting`."""
        return moves.waiting(self.db)

    def adopt(self, asked: moves.Adoption) -> moves.Adoption:
        """Take in a node that moved once its origins are known: at the root at once, else when the own parent has."""
        with self.db.savepoint():
            moves.want(self.db, asked)
            return self.settle(asked) if self.options.tier is Tier.CLOUD and not asked.more else asked

    def settle(self, asked: moves.Adoption) -> moves.Adoption:
        """See `moves.settle`; at an edge, rows that its parent lacks go on to it."""
        with self.db.savepoint():
            before = self.head(asked.child).entry
            done = moves.settle(self.db, asked, node=self.node, now=self._now())
            self._relay(asked.child, before)
        return done

    def refuse(self, asked: moves.Adoption) -> None:
        """The own parent knows a newer move of the node."""
        moves.want(self.db, msgspec.structs.replace(asked, refused=True))

    def move_in(self, child: NodeId, embeddings: Embeddings, fence: int) -> Position:
        """See `moves.move_in`; at an edge the rows go on to the parent unless it has them."""
        with self.db.savepoint():
            before = self.head(child).entry
            done = moves.move_in(self.db, child, embeddings, fence, node=self.node, now=self._now())
            self._relay(child, before)
        return done

    def forget(
        self,
        origin: NodeId,
        within: Callable[[Receipt, dict[NodeId, int]], None] = lambda receipt, entries: None,
        *,
        entry: int = 0,
        past: bool = False,
    ) -> Receipt:
        """Remove every row of `origin`, the knowledge that was about its rows, and all that is staged; the receipt.

        Who had chunks here hears that they are missing, and sends them again if it still needs to.

        Not inside a transaction: the receipt says whether the bytes are gone from the files. `within` is called in the
        transaction, with a receipt that cannot say so yet and, per child, the entry that tells it. `entry`: the one of
        the own log by which the parent told this node; its rows count, also if they have been erased since it came.
        `past`: the order is older than this ledger (`joined_at`); what is here of `origin` came later, and stays.
        """
        with self.db.transaction():
            gone, emptied, freed = EMPTY, 0, 0
            entries: dict[NodeId, int] = {}
            if not past:
                gone = erase.of_origin(self.db, origin)
                emptied = erase.erase_knowledge(self.db, self.node, origin)
                for child in log.links(self.db):
                    if child != self.node and relay.forget_rows(self.db, child, gone, self._now()):
                        entries[child] = self.head(child).entry
                if self.options.tier is not Tier.CLOUD:
                    outbox.put_forget(self.db, self.node, gone, self._ran())
                freed = erase.erase_everywhere(self.db, gone)
                reach("ledger.forget.after-erase")
                chunks.drop_all(self.db)  # of whose rows it is nobody knows before all of it is here
            digests = {str(child): self.head(child).digest for child in log.links(self.db)}
            rows = len(union(gone, self._told(origin, entry)))
            done = Receipt(node=self.node, origin=origin, rows=rows, knowledge=emptied, freed=freed,
                           digests=digests, at=self._now(), scrubbed=False)  # fmt: skip
            within(done, entries)
            reach("ledger.forget.after-receipt")
        return msgspec.structs.replace(done, scrubbed=self.db.scrub())

    def _told(self, origin: NodeId, entry: int) -> SampleSet:
        """The samples of `origin` that entry `entry` of the own log has forgotten here; none if it has not come yet, or
        forgot nothing."""
        if not 0 < entry <= self.acknowledged().entry:
            return EMPTY
        if self.entries(self.node, entry - 1, 1)[0].kind is not Kind.FORGET:
            return EMPTY
        named = load_samples(self.entry_bytes(self.node, entry), OWN)
        return SampleSet.of(origin, named.counters[named.origins.index(origin)]) if origin in named.origins else EMPTY

    # chunks

    def stage(self, node: NodeId, digest: bytes, content: bytes) -> None:
        """See `chunks.stage`."""
        chunks.stage(self.db, node, digest, content, quota=self.options.staged, now=self._now())

    def staged(self, node: NodeId) -> int:
        """See `chunks.staged`."""
        return chunks.staged(self.db, node)

    def missing(self, node: NodeId, digests: Iterable[bytes]) -> tuple[bytes, ...]:
        """See `chunks.missing`."""
        return chunks.missing(self.db, node, digests)

    def take(self, node: NodeId, digests: Iterable[bytes]) -> bytes:
        """The staged chunks joined; they are staged no more once the transaction commits."""
        digests = tuple(digests)
        with self.db.savepoint():
            whole = chunks.take(self.db, node, digests)
            chunks.drop(self.db, node, digests)
        return whole

    def drop(self, node: NodeId, digests: Iterable[bytes] | None = None) -> None:
        """See `chunks.drop`."""
        chunks.drop(self.db, node, digests)

    def drop_staged(self, older_than: float) -> int:
        """See `chunks.sweep`."""
        return chunks.sweep(self.db, older_than)

    # knowledge

    def put_knowledge(self, known: Knowledge, basis: int, at: float | None = None) -> bool:
        """See `knowledge.put`."""
        own = known.publisher == self.node
        return knowledge.put(self.db, known, basis, self._now() if at is None else at, own=own)

    def put_packed(
        self,
        federation: str,
        link: Link,
        publisher: NodeId,
        packed: Packed,
        *,
        at: float,
        kept: Sequence[int] | None = None,
        current: bool = False,
    ) -> bool:
        """See `knowledge.put_packed`."""
        own = publisher == self.node
        return knowledge.put_packed(
            self.db, federation, link, publisher, packed, at=at, own=own, kept=kept, current=current
        )

    def newest(self, link: Link, publisher: NodeId) -> Stored | None:
        """See `knowledge.newest`."""
        return knowledge.newest(self.db, link, publisher)

    def packed(self, link: Link, publisher: NodeId) -> Packed | None:
        """See `knowledge.packed`."""
        return knowledge.packed(self.db, link, publisher)

    def version(self, link: Link, publisher: NodeId) -> int:
        """See `knowledge.version`."""
        return knowledge.version(self.db, link, publisher)

    def knowledge(self, link: Link, publisher: NodeId, version: int) -> Stored | None:
        """See `knowledge.get`."""
        return knowledge.get(self.db, link, publisher, version)

    # nodes and notices

    def enrol(self, node: NodeId, role: Tier, serial: str) -> None:
        """See `nodes.enrol`."""
        nodes.enrol(self.db, node, role, serial, self._now())

    def introduce(self, node: NodeId, role: Tier, serial: str) -> None:
        """See `nodes.introduce`."""
        nodes.introduce(self.db, node, role, serial, self._now())

    def leave(self, node: NodeId) -> None:
        """See `nodes.leave`."""
        nodes.leave(self.db, node)

    def revoke(self, node: NodeId) -> int:
        """See `nodes.revoke`."""
        return nodes.revoke(self.db, node, self._now())

    def revocations(self) -> int:
        """See `nodes.revocations`."""
        return nodes.revocations(self.db)

    def revoked_serials(self) -> list[str]:
        """See `nodes.revoked_serials`."""
        return nodes.revoked_serials(self.db)

    def knows_serial(self, serial: str) -> bool:
        """See `nodes.knows_serial`."""
        return nodes.knows_serial(self.db, serial)

    def facts_of(self, node: NodeId) -> nodes.NodeFacts | None:
        """See `nodes.node`."""
        return nodes.node(self.db, node)

    def certified(self, node: NodeId) -> float | None:
        """See `nodes.certified`."""
        return nodes.certified(self.db, node)

    def children(self) -> list[NodeId]:
        """See `nodes.children`."""
        return nodes.children(self.db)

    def put_token(self, digest: bytes, node: NodeId | None, role: Tier, expires: float) -> None:
        """See `nodes.put_token`."""
        nodes.put_token(self.db, digest, node, role, expires)

    def spend_token(self, digest: bytes, now: float) -> nodes.Token | None:
        """See `nodes.spend_token`."""
        return nodes.spend_token(self.db, digest, now)

    def notify(self, child: NodeId | None, kind: str, body: bytes) -> int:
        """See `notices.put`."""
        return notices.put(self.db, child, kind, body, self._now())

    def notices(self, child: NodeId, after: int) -> list[notices.Notice]:
        """See `notices.after`."""
        return notices.after(self.db, child, after)

    def count_usage(self, node: NodeId, requests: int, size: int) -> None:
        """See `nodes.count_usage`."""
        nodes.count_usage(self.db, node, requests, size)

    def usage(self, node: NodeId) -> nodes.Usage:
        """See `nodes.usage`."""
        return nodes.usage(self.db, node)

    def _now(self) -> float:
        return self.options.clock()

    def _ran(self) -> float:
        """Seconds that this node has run: what ages in the outbox are counted in."""
        return uptime.count(self.db, self.options.boot_clock())
