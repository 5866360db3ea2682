"""The child's end of a link: says what to send next, and takes what came back. No socket, file or clock.

A request may be lost, sent twice, answered late or not at all: everything it does is repeatable, and what must survive
a restart is in the state, never here. The order is always the same:

    adopt     -> if this node has moved: take me in, and get my rows from your own parent
    hello     -> who are you, where does my log end at yours
    rebase    -> after a move: the new parent's log from its beginning, in place of the old one's
    sync      -> fetch the entries that this end lacks, then append the own batches, one at a time
    exchange  -> give knowledge that the parent lacks; else wait for news; whatever comes may lead back to sync

`_STEPS` draws it; docs/protocol.md shows the same picture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fedagg_edge.errors import DataError, RemoteProtocolError, StorageError
from fedagg_edge.records import Link, LogitsFormat, NodeId, Tier, node_id
from fedagg_edge.wire.child_state import Batch, ChildState, TakenEntry
from fedagg_edge.wire.chunks import digest_of, payload_of
from fedagg_edge.wire.events import (
    ArtefactArrived,
    EntriesTaken,
    EntryCommitted,
    Event,
    Finished,
    KnowledgeAccepted,
    KnowledgeArrived,
    Moved,
    NoticeArrived,
    ReceiptsTaken,
    Refused,
    Settled,
    Welcomed,
)
from fedagg_edge.wire.http import Request, Response
from fedagg_edge.wire.knowledge import knowledge_of, wire_knowledge
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import (
    NOT_COMPUTED,
    PROTOCOL,
    Adopt,
    Adopted,
    Append,
    Appended,
    Artefact,
    Behind,
    Entry,
    Exchange,
    Exchanged,
    Hello,
    Message,
    Missing,
    Payload,
    Problem,
    Welcome,
    WireKnowledge,
    decode,
    encode,
)
from fedagg_edge.wire.origins import is_part, last_of, part
from fedagg_edge.wire.problems import of_response
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import EMPTY_DIGEST
from fedagg_edge.wire.transfer import ArtefactDownload, Download

__all__ = ["ChildEnd", "Idle", "Step"]


class Step(StrEnum):
    """What the child end is about."""

    HELLO = "hello"
    REBASE = "rebase"
    SYNC = "sync"
    EXCHANGE = "exchange"
    REFUSED = "refused"


_STEPS: dict[Step, frozenset[Step]] = {
    Step.HELLO: frozenset({Step.HELLO, Step.REBASE, Step.SYNC, Step.REFUSED}),
    Step.REBASE: frozenset({Step.SYNC, Step.HELLO, Step.REFUSED}),
    Step.SYNC: frozenset({Step.SYNC, Step.EXCHANGE, Step.HELLO, Step.REFUSED}),
    Step.EXCHANGE: frozenset({Step.EXCHANGE, Step.SYNC, Step.HELLO, Step.REFUSED}),
    Step.REFUSED: frozenset({Step.HELLO}),
}
"""From which step to which: the state diagram."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0  # seconds of the first and the longest backoff
_SPREAD = 0.5  # of a wait that the parent asked for: over how much longer its children come back
_REFUSED_WAIT = {401: 30.0, 403: 30.0, 426: 600.0}  # seconds before the next try; the rest: _LONGEST_WAIT
_ASK_AGAIN = 600.0  # seconds until a batch that was refused is asked for again
_LARGEST_ARTEFACT = 1 << 30
_OWN = Limits()  # what this end takes, however little the parent does
_NO_NEWS = 1 << 62  # a version and a notice that no parent has a newer one of
_OWED_WAIT = 15.0  # seconds between polls while this node owes its parent an answer


class _LogTooLong(Refusal):
    """Raised where a new parent's log is longer than this end takes."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to ask before `until`, on the clock that `next` was given: seconds that never jump."""

    until: float


@dataclass(slots=True)
class ChildEnd:
    """One child's end. `state` is durable; everything else may be lost.

    `ready`: whether to exchange already; an inner node is, once its own children are there. `rng` spreads retries.
    `labels`: how far up this node's labels may go, "all" or "first-edge".
    """

    state: ChildState
    node: NodeId
    role: Tier
    federation: str
    software: str
    rng: random.Random
    limits: Limits = field(default_factory=Limits)
    wait: float = 25.0
    ready: bool = True
    fence: int = 0  # as the state says at each beginning
    labels: str = "all"
    step: Step = Step.HELLO
    parent: NodeId | None = None
    aside: tuple[Batch, ...] = ()  # own batches that the parent does not take: one row of each is too long, or unfit
    _sent: Request | None = None
    _about: object = None  # what the request that is out is about
    _wake: float = 0.0
    _failures: int = 0
    _given: int = -1  # version of the own knowledge that the parent has
    _unfit: int = -1  # version of the own knowledge that the parent refused
    _refused_sizes: dict[int, int] = field(default_factory=dict)  # of batches that the parent refused, by key
    _needed: list[bytes] | None = None  # chunks to send before the next append or exchange; None: not asked
    _download: Download | ArtefactDownload | None = None
    _wanted: list[Artefact] = field(default_factory=list)
    _known_finished: bool = False
    _greet: bool = False
    _again: float = math.inf  # when to say hello again, as something is set aside
    _rest: float = 0.0  # when to ask for news again, as the parent said; what this node has to say goes at once
    _told: tuple[bytes, ...] = ()  # receipts of the last exchange that was answered
    _look: float = 0.0  # when to ask for news although this node owes an answer
    _adopted: bool = False  # whether the parent has taken this node in since its move
    _noted: tuple[NodeId, int, NodeId] | None = None  # (node, fence, the last of its origins that the parent has noted)
    _log: list[TakenEntry] = field(default_factory=list)  # the new parent's, as far as it has come
    _came: dict[bytes, bytes] = field(default_factory=dict)  # its payloads, by SHA-256: each is kept once
    _foreign: int = 0  # bytes of those that were not here before
    _welcome: Welcome | None = None  # told when the log is here: a new parent's, or what the node has lost
    _briefly: bool = False  # the parent does not know a message's later fields
    _behind: int = 0  # the entry that has to come before a node that moved here can be settled

    def fetch(self, artefact: Artefact) -> None:
        """Download an artefact that a welcome has listed, after what is under way."""
        if artefact not in self._wanted:
            self._wanted.append(artefact)

    def greet(self) -> None:
        """Say hello again before the next exchange: what the parent said in Welcome may have changed."""
        self._greet = True

    def restart(self, wake: float = 0.0) -> None:
        """The state says that this node changes its parent, or again another one: begin with that at `wake`."""
        self._sent = self._download = self._needed = self._noted = None
        self._wake, self._failures, self._unfit, self._adopted = wake, 0, -1, False
        self._rest, self._briefly = 0.0, False
        self._forget_log()
        self._wanted.clear()
        self.step = Step.HELLO

    # what to send

    def next(self, now: float) -> Request | Idle:
        """The next request, or when to ask again."""
        if now < self._wake:
            return Idle(self._wake)
        if self.step is Step.REFUSED:
            self._go(Step.HELLO)
        if (self._greet or now >= self._again) and self._download is None and self.step in (Step.SYNC, Step.EXCHANGE):
            self._go(Step.HELLO)
        if self.step is Step.HELLO:
            self._greet, self._again = False, math.inf
            return self._introduction()
        if self._welcome is not None:
            return self._ask_log()
        if self._download is None and self._wanted:
            self._download = ArtefactDownload(self._wanted[0], self.limits.chunk, _LARGEST_ARTEFACT)
        if self._download is not None:
            self._back_to_sync()
            return self._send(Request("GET", self._download.path))
        if owed := self._next_write(now):
            self._back_to_sync()
            return owed
        if self.step is Step.SYNC:
            self._go(Step.EXCHANGE)
        return self._exchange(now)

    def failed(self, request: Request, now: float) -> None:
        """No answer came: try again later, at a random moment of a window that doubles."""
        if request is not self._sent:
            return
        self._sent = None
        self._back_off(now)
        self._adopted = False
        if self.step in (Step.REBASE, Step.SYNC, Step.EXCHANGE):
            self._go(Step.HELLO)  # whoever answers next may be another process, with other limits

    def _back_off(self, now: float, least: float = 0.0) -> None:
        """Wait for `least` seconds and a random part of a window that doubles, of `_SPREAD` of them at least: all
        children of a parent may have been told the same, and must not come back in one second."""
        window = max(min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**self._failures), _SPREAD * least)
        self._failures = min(self._failures + 1, 16)
        self._wake = now + least + window * self.rng.random()

    def _back_to_sync(self) -> None:
        if self.step is Step.EXCHANGE:
            self._go(Step.SYNC)

    def _introduction(self) -> Request:
        moving, self._behind = self.state.moving(), 0
        self.fence = self.state.fence() if moving is None else moving
        if moving is not None and not self._adopted:
            return self._post("adopt", self._adopt(self.node, self.state.origins(), moving, self._former()))
        return self._post("hello", self._hello(fresh=moving is not None))

    def _ask_log(self) -> Request:
        """More of the parent's log, and nothing else."""
        if self._download is not None:
            return self._send(Request("GET", self._download.path))
        head = len(self._log) if self.step is Step.REBASE else self.state.acknowledged().entry
        return self._post("exchange", Exchange(_NO_NEWS, head, _NO_NEWS, 0.0, self.fence))

    def _next_adoption(self) -> Adopt | None:
        if self.state.acknowledged().entry < self._behind:
            return None  # the rows first: the next exchange has them
        found = self.state.adoptions()
        return self._adopt(found[0].node, found[0].origins, found[0].fence, found[0].former) if found else None

    def _former(self) -> str:
        """Where this node has been. An edge's list of origins may be old, and who left it is told by where it was; a
        device is its only origin, whose link every ancestor knows."""
        return "" if self.role is Tier.DEVICE else self.state.parent() or ""

    def _adopt(self, node: NodeId, origins: Sequence[NodeId], fence: int, former: str) -> Adopt:
        """The question, with the origins that follow those which the parent has noted."""
        after = self._noted[2] if self._noted is not None and self._noted[:2] == (node, fence) else None
        return Adopt(node, part(origins, after), fence, "" if self._briefly else former)

    def _hello(self, *, fresh: bool) -> Hello:
        """`fresh`: this node knows nothing of the parent's log yet."""
        last = self.state.acknowledged()
        return Hello(
            oldest=PROTOCOL,
            newest=PROTOCOL,
            software=self.software,
            node=self.node,
            role=self.role,
            federation=self.federation,
            formats=tuple(str(f) for f in LogitsFormat),
            fence=self.fence,
            head=0 if fresh else last.entry,
            digest=bytes.fromhex(EMPTY_DIGEST if fresh else last.digest),
            labels=self.labels,
        )

    def _next_write(self, now: float) -> Request | None:
        """A node that moved to below this one comes first: it cannot work until it is taken in."""
        asked = self._next_adoption()
        if asked is not None:
            return self._post("adopt", asked)
        found = self._next_batch()
        if self.aside and math.isinf(self._again):  # its limits and its room may have changed: Welcome tells
            wait = _ASK_AGAIN if self._refused_sizes else _LONGEST_WAIT
            self._again = now + wait * (0.5 + self.rng.random())
        return None if found is None else self._offer(found)

    def _next_batch(self) -> Batch | None:
        """The first own batch that the parent takes. Those before it stay where they are, and `aside` names them once
        all have been looked at: they go when the parent takes more, or when their rows have been erased."""
        passed: dict[int, Batch] = {}
        looked, cut = 1, False
        while True:
            found = self.state.pending(looked)
            if not cut and any(map(self._is_over, found)):
                self._needed, cut = None, True
                self.state.split(*self._room())
                continue
            for batch in found:
                if not self._is_unfit(batch):
                    return batch
                passed[batch.key] = batch
            if len(found) < looked:
                self.aside = tuple(passed.values())
                return None
            looked *= 4

    def _room(self) -> tuple[int, int]:
        """Rows and bytes of an entry that the parent takes: of its chunks, no more may be staged."""
        return self.limits.entry_rows, min(self.limits.entry_bytes, self.limits.staged)

    def _is_over(self, batch: Batch) -> bool:
        """Whether the parent would refuse a batch for good that could be shorter."""
        rows, size = self._room()
        return batch.rows > rows or (batch.size > size and batch.rows > 1)

    def _is_unfit(self, batch: Batch) -> bool:
        """Whether the parent would refuse, or has refused since its last Welcome, what cannot be cut."""
        return batch.size > self._room()[1] or self._refused_sizes.get(batch.key) == batch.size

    def _offer(self, batch: Batch) -> Request:
        """Append the batch; what is too long for a message goes ahead in chunks."""
        data = self.state.batch_bytes(batch.key)
        payload = payload_of(data, self.limits)
        if (chunk := self._chunk_first(payload, data)) is not None:
            return chunk
        after = self.state.acknowledged().entry
        asked = Append(batch.key, after, batch.kind, batch.rows, NOT_COMPUTED, payload, self.fence)
        return self._post("append", asked)

    def _chunk_first(self, payload: Payload, data: bytes) -> Request | None:
        """What must go before a message with this payload: which chunks are missing, then each of them."""
        if not payload.chunks:
            return None
        if self._needed is None:
            return self._post("missing", Missing(payload.chunks))
        if not self._needed:
            return None
        wanted = self._needed[0]
        size = self.limits.chunk
        for i, digest in enumerate(payload.chunks):
            if digest == wanted:
                return self._send(Request("PUT", f"/v1/chunks/{digest.hex()}", data[i * size : (i + 1) * size]))
        self._needed = None  # they were another payload's
        return self._post("missing", Missing(payload.chunks))

    def _exchange(self, now: float) -> Request | Idle:
        behind = self.state.acknowledged().entry < self._behind  # a node that moved here waits for these rows
        if not self.ready and not behind:
            return Idle(min(now + _LONGEST_WAIT, self._again))
        given = self._knowledge_to_give()
        if given is not None and given.payload.chunks:
            stored = self.state.newest(self._link(), self.node)
            data = b"" if stored is None else self.state.logits_bytes(stored)
            if (chunk := self._chunk_first(given.payload, data)) is not None:
                return chunk
        have = self._have()
        owes = given is None and self._owes(have)
        if owes and not behind and now < self._look:
            return Idle(self._look)
        receipts = tuple(self.state.receipts())
        if given is None and now < self._rest and not set(receipts) - set(self._told):
            return Idle(min(self._rest, self._again))
        self._look = now + _OWED_WAIT
        asked = Exchange(
            have=have,
            head=self.state.acknowledged().entry,
            noticed=self._noticed(),
            wait=0.0 if owes or behind else min(self.wait, self.limits.wait),
            fence=self.fence,
            knowledge=given,
            receipts=receipts,
        )
        return self._post("exchange", asked)

    def _owes(self, have: int) -> bool:
        """Whether the parent waits for this node: then a long poll would only keep the answer from going out."""
        own = self.state.newest(self._link(), self.node)
        return have >= 0 and (own is None or own.basis < have) and not self._known_finished

    def _knowledge_to_give(self) -> WireKnowledge | None:
        stored = self.state.newest(self._link(), self.node)
        if stored is None or stored.knowledge.version <= max(self._given, self._unfit):
            return None
        return wire_knowledge(stored, self.limits)

    def _have(self) -> int:
        if self.parent is None:
            return -1
        stored = self.state.newest(self._link(), self.parent)
        return -1 if stored is None else stored.knowledge.version

    def _noticed(self) -> int:
        known = self.state.get("noticed")
        return known if isinstance(known, int) else 0

    def _link(self) -> Link:
        if self.parent is None:
            raise RemoteProtocolError("the parent has not said who it is")
        return Link(self.node, self.parent)

    def _post(self, name: str, message: Message) -> Request:
        return self._send(Request("POST", f"/v1/{name}", encode(message)), message)

    def _send(self, request: Request, about: object = None) -> Request:
        self._sent, self._about = request, about
        return request

    def _go(self, step: Step) -> None:
        if step not in _STEPS[self.step]:
            raise AssertionError(f"from {self.step} to {step}")
        self.step = step

    # what came back

    def receive(self, request: Request, response: Response, now: float) -> tuple[Event, ...]:
        """Take an answer; an answer to a request that was given up changes nothing. What cannot be read counts as no
        answer. Raises StorageError if it could not be kept; `failed` then has it asked for again."""
        if request is not self._sent:
            return ()
        about, self._sent = self._about, None
        try:
            with self.state.transaction():
                events = self._take(request, about, response, now)
        except _LogTooLong as error:
            return self._give_log_up(error, now)
        except (RemoteProtocolError, DataError) as error:
            self._sent = request
            self.failed(request, now)
            self._download = None
            return (Refused(0, Problem("malformed", str(error)[:1024], None)),)
        except StorageError:
            self._sent, self._download = request, None  # it was not kept: `failed` asks again
            raise
        if response.status < 400:
            self._failures = 0
        return events

    def _take(self, request: Request, about: object, response: Response, now: float) -> tuple[Event, ...]:
        if response.status >= 400:
            return self._refused(request, about, response, now)
        if response.status not in (200, 204):
            raise RemoteProtocolError(f"{request.method} {request.path}: got status {response.status}, expected 200")
        self._wake = 0.0
        if self._download is not None and request.method == "GET":
            return self._piece(response.body)
        return self._answered(about, response, now)

    def _answered(self, about: object, response: Response, now: float) -> tuple[Event, ...]:
        match about:
            case Hello():
                return self._welcomed(decode(Welcome, response.body, self.limits))
            case Adopt():
                return self._taken_in(about, decode(Adopted, response.body, self.limits))
            case Exchange() if self._welcome is not None:
                news = decode(Exchanged, response.body, self.limits)
                return self._log_came(news) if self.step is Step.REBASE else self._caught_up(news)
            case Append():
                return self._appended(about, decode(Appended, response.body, self.limits))
            case Missing():
                self._needed = list(decode(Missing, response.body, self.limits).chunks)
            case Exchange():
                return self._exchanged(about, decode(Exchanged, response.body, self.limits), now)
            case _:  # a chunk arrived
                self._needed = (self._needed or [])[1:]
        return ()

    def _welcomed(self, welcome: Welcome) -> tuple[Event, ...]:
        if welcome.federation != self.federation:
            raise RemoteProtocolError(f"welcome.federation: got {welcome.federation!r}, expected {self.federation!r}")
        limits, parent = _OWN.narrowed(welcome.limits), node_id(welcome.node)
        for artefact in welcome.artefacts:
            ArtefactDownload(artefact, limits.chunk, _LARGEST_ARTEFACT)
        self.limits, self.parent = limits, parent
        self._refused_sizes.clear()
        self._welcome = None
        self._given, self._rest, self._briefly = welcome.version, 0.0, False
        if self.state.moving() is not None:
            self._log, self._welcome = [], welcome  # what came of it before the line broke is not fetched again
            self._go(Step.REBASE)
            return ()
        if welcome.fence > self.fence and not self.state.acknowledged().entry:
            self.state.set_fence(welcome.fence)
            self.fence = welcome.fence
        self._go(Step.SYNC)
        if not self.state.joined() and self.state.acknowledged().entry < welcome.head:
            self._welcome = welcome  # this node has lost its state: nothing begins before it knows what it had given
            return ()
        return self._joined(welcome)

    def _joined(self, welcome: Welcome) -> tuple[Event, ...]:
        if not self.state.joined():
            self.state.join()
        return self._begun(welcome)

    def _begun(self, welcome: Welcome) -> tuple[Event, ...]:
        if self.state.parent() != welcome.node:
            self.state.set_parent(node_id(welcome.node))
        finished = (Finished(),) if welcome.finished and not self._known_finished else ()
        self._known_finished = welcome.finished
        return (Welcomed(welcome), *finished)

    def _taken_in(self, asked: Adopt, done: Adopted) -> tuple[Event, ...]:
        """This node, or one that moved to below it, belongs to the parent now."""
        if asked.node == self.node:
            self._adopted = True
            return ()
        self._behind, self._rest = done.head, 0.0
        found = [a for a in self.state.adoptions() if (a.node, a.fence) == (asked.node, asked.fence)]
        if self.state.acknowledged().entry < done.head or not found:
            return ()  # asked again once the rows are here
        self.state.settle(found[0])
        return (Settled(found[0].node),)

    def _log_came(self, news: Exchanged) -> tuple[Event, ...]:
        for entry in news.entries:
            if entry.number != len(self._log) + 1:
                continue
            data = self._came.get(entry.payload.digest)
            data = self.state.find(entry.payload.digest) if data is None else data  # own rows do not travel
            if data is None and entry.payload.chunks:
                base = f"/v1/entries/{entry.number}"
                self._fetch(Download(base, entry.payload, entry, self.limits, _OWN.entry_bytes))
                return ()
            self._keep_entry(entry, entry.payload.inline if data is None else data, foreign=data is None)
        return self._rebase() if len(self._log) >= news.head else ()

    def _keep_entry(self, entry: Entry, data: bytes, *, foreign: bool) -> None:
        if digest_of(data) != entry.payload.digest:
            raise RemoteProtocolError(f"entry {entry.number}: got {len(data)} bytes of another digest")
        if foreign:  # cut otherwise, the own rows travel: so as much as they are, and what memory may be taken beside
            self._foreign += len(data)
            over = self._foreign > _OWN.staged  # else the own log, which is long, is not summed up for each entry
            if over and self._foreign > (most := _OWN.staged + self.state.log_size()):
                raise _LogTooLong(413, "too_large", f"log: got {self._foreign} bytes, expected at most {most}")
        data = self._came.setdefault(entry.payload.digest, data)
        self._log.append(_taken(entry, data))

    def _forget_log(self) -> None:
        self._log, self._welcome, self._foreign = [], None, 0
        self._came.clear()

    def _give_log_up(self, error: Refusal, now: float) -> tuple[Event, ...]:
        """It would be the same the next time: for whoever moves a node it is a new parent that does not take it in."""
        self._forget_log()
        self._download, self._adopted = None, False
        self._wake = now + _ASK_AGAIN * (0.5 + self.rng.random())
        self._go(Step.REFUSED)
        return (Refused(error.status, Problem(error.code, str(error), None)),)

    def _rebase(self) -> tuple[Event, ...]:
        welcome, fence = self._welcome, self.fence
        if welcome is None or self.state.moving() != fence:
            raise RemoteProtocolError(f"{self.node}: the move {fence} was given up")
        self.state.rebase(self._log, fence)
        self._forget_log()
        self._go(Step.SYNC)
        return (Moved(fence), *self._begun(welcome))

    def _appended(self, asked: Append, done: Appended) -> tuple[Event, ...]:
        self._needed = None
        if done.entry > self.state.acknowledged().entry + 1:
            return ()  # committed before, with entries between that this end has not seen: the next exchange tells
        self.state.set_acknowledged(asked.key, done.entry, done.digest.hex())
        return (EntryCommitted(asked.key, done.entry),)

    def _exchanged(self, asked: Exchange, news: Exchanged, now: float) -> tuple[Event, ...]:
        events: list[Event] = []
        if asked.knowledge is not None and news.version >= asked.knowledge.version:
            self._needed = None
            events.append(KnowledgeAccepted(news.version))
        self._given = max(self._given, news.version)
        self._told = asked.receipts
        if asked.receipts:
            events.append(ReceiptsTaken(asked.receipts))
        events += self._entries(news.entries)
        if news.knowledge is not None:
            events += self._knowledge(news.knowledge)
        events += [NoticeArrived(n) for n in news.notices]
        if news.finished and not self._known_finished:
            events.append(Finished())
        self._known_finished = news.finished
        if news.retry_after > 0 or news.finished:
            until = now + news.retry_after + max(2.0, _SPREAD * news.retry_after) * self.rng.random()
            if news.finished:
                self._rest = until
            else:  # a parent that is about to stop takes nothing either
                self._wake = until
        return tuple(events)

    def _entries(self, entries: Sequence[Entry]) -> list[Event]:
        """Take over entries in order; a long one is downloaded first, and those behind it come again."""
        events: list[Event] = []
        for entry in entries:
            last = self.state.acknowledged().entry
            if entry.number <= last:
                continue
            # an own batch whose answer was lost; before a node has joined, it has asked for none
            if entry.key >= 0 and self._welcome is None and self.state.batch_bytes(entry.key):
                self.state.set_acknowledged(entry.key, entry.number, entry.digest.hex())
                events.append(EntryCommitted(entry.key, entry.number))
                continue
            if entry.payload.chunks:
                base = f"/v1/entries/{entry.number}"
                self._fetch(Download(base, entry.payload, entry, self.limits, _OWN.entry_bytes))
                break
            events += self._follow(entry, entry.payload.inline)
        return events

    def _follow(self, entry: Entry, data: bytes) -> list[Event]:
        if digest_of(data) != entry.payload.digest:
            raise RemoteProtocolError(f"entry {entry.number}: got {len(data)} bytes of another digest")
        self.state.follow([_taken(entry, data)])
        welcome = self._welcome
        if welcome is None or entry.number < welcome.head:
            return [EntriesTaken(1)]
        self._welcome = None
        return [EntriesTaken(1), *self._joined(welcome)]

    def _knowledge(self, given: WireKnowledge) -> list[Event]:
        if given.payload.chunks:
            base = f"/v1/knowledge/{given.version}"
            self._fetch(Download(base, given.payload, given, self.limits, _OWN.staged))
            return []
        return self._keep(given, given.payload.inline)

    def _keep(self, given: WireKnowledge, data: bytes) -> list[Event]:
        if digest_of(data) != given.payload.digest or self.parent is None:
            raise RemoteProtocolError(f"knowledge {given.version}: got {len(data)} bytes of another digest")
        knowledge = knowledge_of(given, data, self.federation, self._link(), self.parent)
        self.state.put_knowledge(knowledge, given.basis)
        return [KnowledgeArrived(given.version)]

    def _fetch(self, download: Download) -> None:
        if self._download is None:
            self._download = download

    def _piece(self, body: bytes) -> tuple[Event, ...]:
        download = self._download
        if download is None or not download.add(body):
            return ()
        self._download = None
        subject, data = download.subject, download.whole()
        if self.step is Step.REBASE and isinstance(subject, Entry):
            self._keep_entry(subject, data, foreign=True)
            return ()
        if isinstance(subject, Artefact):
            self._wanted.remove(subject)
            return (ArtefactArrived(subject, data),)
        return tuple(self._follow(subject, data) if isinstance(subject, Entry) else self._keep(subject, data))

    def _refused(self, request: Request, about: object, response: Response, now: float) -> tuple[Event, ...]:
        download, self._download = self._download, None
        if isinstance(about, Append) and response.status == 409:
            try:
                behind = decode(Behind, response.body, self.limits)
            except RemoteProtocolError:
                pass
            else:
                return self._caught_up(behind)
        problem = of_response(response, self.limits)
        if self._lacks(about, problem, now):
            return ()
        if download is not None and request.method == "GET" and problem.code == "not_found":
            return self._gone(download, response.status, problem, now)
        if self._gives_up(about, response.status, problem):
            return (Refused(response.status, problem),)
        if _may_pass(response.status, problem):
            self._back_off(now, problem.retry_after or 0.0)
            return ()
        self._wake = now + _REFUSED_WAIT.get(response.status, _LONGEST_WAIT) * (0.5 + self.rng.random())
        self.step = Step.REFUSED
        return (Refused(response.status, problem),)

    def _lacks(self, about: object, problem: Problem, now: float) -> bool:
        """Whether the parent only lacks what goes before, or behind (chunks, other parts of a list of origins), or does
        not know all of the question."""
        if problem.code == "missing":  # swept in between: ask again which
            self._needed = self._noted = None
            self._back_off(now)
            return True
        if isinstance(about, Adopt) and problem.code == "adopting" and is_part(about.origins):
            self._noted, self._failures = (NodeId(about.node), about.fence, NodeId(last_of(about.origins))), 0
            return True
        if isinstance(about, Adopt) and about.former and problem.code == "malformed":
            self._briefly = True  # older software: it is asked as that asks
            return True
        return False

    def _gives_up(self, about: object, status: int, problem: Problem) -> bool:
        """Whether only what the request was about is refused: then all else goes on."""
        if isinstance(about, Exchange) and about.knowledge is not None and problem.code in _KNOWLEDGE_CODES:
            self._unfit = about.knowledge.version
            return True
        if isinstance(about, Append) and problem.code in _BATCH_CODES and not _may_pass(status, problem):
            self._refused_sizes[about.key], self._needed = about.payload.size, None
            return True
        if not isinstance(about, Adopt) or about.node == self.node or _may_pass(status, problem):
            return False
        for asked in self.state.adoptions():
            if (asked.node, asked.fence) == (about.node, about.fence):
                self.state.refuse(asked)
        return True

    def _caught_up(self, behind: Behind | Exchanged) -> tuple[Event, ...]:
        events = self._entries(behind.entries)
        if not events and self._download is None:
            raise RemoteProtocolError(f"behind: got {len(behind.entries)} entries, none of which this end lacks")
        self._failures = 0
        return tuple(events)

    def _gone(
        self, download: Download | ArtefactDownload, status: int, problem: Problem, now: float
    ) -> tuple[Event, ...]:
        """What was being fetched is there no more: newer knowledge took its place, which the next exchange tells."""
        self._back_off(now)
        if isinstance(download, Download):
            return ()
        self._wanted.remove(download.subject)
        return (Refused(status, problem),)


def _taken(entry: Entry, data: bytes) -> TakenEntry:
    return TakenEntry(entry.number, entry.kind, entry.rows, entry.digest.hex(), data, entry.key)


def _may_pass(status: int, problem: Problem) -> bool:
    """Whether the same request may be answered otherwise after some time."""
    return problem.retry_after is not None or status >= 500 or status == 429


_KNOWLEDGE_CODES = ("unfit", "unknown_digest", "conflict", "too_large")
"""The parent will never take this version: the next one may do better."""

_BATCH_CODES = ("too_large", "unfit")
"""The parent does not take this batch as it is and as its limits are: those behind it may do better."""
