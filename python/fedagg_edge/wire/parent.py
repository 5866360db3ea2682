"""The parent's end of a link: a request and a ledger in, a response out. No socket, file or clock."""

from __future__ import annotations

import re
from collections.abc import Callable

from fedagg_edge.errors import DataError, RemoteProtocolError
from fedagg_edge.wire import parent_exchange as exchange
from fedagg_edge.wire import parent_log as log
from fedagg_edge.wire.http import RAW_TYPE, Request, Response
from fedagg_edge.wire.messages import (
    PROTOCOL,
    Adopt,
    Append,
    Behind,
    Exchange,
    Hello,
    Leave,
    Left,
    Message,
    Missing,
    Versions,
    Welcome,
    decode,
    encode,
)
from fedagg_edge.wire.parent_adopt import adopt
from fedagg_edge.wire.parent_exchange import Later
from fedagg_edge.wire.problems import answer
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import ParentLedger, Peer
from fedagg_edge.wire.tensors import dump_logits
from fedagg_edge.wire.terms import (
    CHILD,
    LABELS,
    PRESENT,
    Terms,
    admit,
    check_child,
    check_fence,
    finished,
    refuse_while_draining,
)

__all__ = ["Later", "ParentEnd", "ParentLedger", "Peer"]

_PATH = re.compile(r"/v(?P<version>[0-9]{1,4})/(?P<rest>[a-z0-9/]{1,120})")
_CHUNK = re.compile(r"chunks/([0-9a-f]{64})")
_NOTED = 3600.0  # seconds
_PIECE = re.compile(r"(entries|knowledge|artefacts)/([0-9a-f]{1,64})/([0-9]{1,9})")


class ParentEnd:
    """Answers the children of one parent. It keeps nothing between calls: all state is in the ledger.

    `handle` and `resume` are called inside a transaction; what a refused request did to the ledger is undone through
    its savepoint. Errors of this node (a full disk, a broken ledger) are raised, not answered.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    def handle(self, ledger: ParentLedger, peer: Peer, request: Request, now: float) -> Response | Later:
        """The answer to `request`, or `Later` for a poll without news. `now` is Unix time."""
        try:
            with ledger.savepoint():
                return self._route(ledger, peer, request, now)
        except (RemoteProtocolError, DataError) as error:
            return answer(error)

    def resume(self, ledger: ParentLedger, peer: Peer, later: Later, now: float) -> Response | Later:
        """The answer to a poll that waited: news, an empty one from `until` on, `later` itself after a false alarm."""
        try:
            admit(ledger, peer)
            check_child(ledger, peer.node)
        except Refusal as refusal:
            return answer(refusal)
        return self._news(ledger, later, now)

    def _news(self, ledger: ParentLedger, later: Later, now: float) -> Response | Later:
        if now < later.until and not exchange.has_news(self.terms, ledger, later):
            return later
        return _ok(exchange.exchanged(self.terms, ledger, later))

    def _route(self, ledger: ParentLedger, peer: Peer, request: Request, now: float) -> Response | Later:
        post = _POST.get(request.path) if request.method == "POST" else None
        if post is not None:
            admit(ledger, peer)
            return post(self, ledger, peer, request.body, now)
        path = _PATH.fullmatch(request.path)
        if path is None:
            raise _not_found(request)
        if int(path["version"]) != PROTOCOL:
            raise _versions("the path", int(path["version"]), int(path["version"]), self.terms.software)
        rest = path["rest"]
        if rest == "adopt" and request.method == "POST":  # of a node that is not a child yet, too
            return adopt(ledger, peer, decode(Adopt, request.body, self.terms.limits))
        admit(ledger, peer)
        check_child(ledger, peer.node)
        if request.method == "PUT" and (chunk := _CHUNK.fullmatch(rest)):
            refuse_while_draining(ledger)
            log.stage(self.terms, ledger, peer, bytes.fromhex(chunk[1]), request.body)
            return Response(204)
        if request.method == "GET" and (piece := _PIECE.fullmatch(rest)):
            return self._piece(ledger, peer, request, piece)
        raise _not_found(request)

    def _hello(self, ledger: ParentLedger, peer: Peer, body: bytes, now: float) -> Response:
        spoken = decode(Versions, body, self.terms.limits)
        if not spoken.oldest <= PROTOCOL <= spoken.newest:
            raise _versions(spoken.software, spoken.oldest, spoken.newest, self.terms.software)
        hello = decode(Hello, body, self.terms.limits)
        self._check_hello(peer, hello)
        fence = hello.fence if hello.head or hello.fence else ledger.fence(peer.node)  # it may have lost its state
        check_fence(ledger, peer, fence)
        head = ledger.head(peer.node)
        log.check_known(ledger, peer.node, hello.head, hello.digest)
        said = {"software": hello.software, "formats": list(hello.formats), "labels": hello.labels}
        self._note(ledger, peer, {**said, "left": None}, now)
        shelf = self.terms.shelf
        return _ok(
            Welcome(
                protocol=PROTOCOL,
                software=self.terms.software,
                node=self.terms.node,
                federation=self.terms.federation,
                classes=self.terms.classes,
                time=now,
                fence=fence,
                head=head.entry,
                digest=bytes.fromhex(head.digest),
                version=exchange.committed(self.terms, ledger, peer.node),
                mode=self.terms.mode,
                target=self.terms.target,
                finished=finished(ledger),
                limits=self.terms.limits,
                artefacts=() if shelf is None else shelf.listing(),
            )
        )

    def _note(self, ledger: ParentLedger, peer: Peer, fact: dict[str, object], now: float) -> None:
        """Keep what a child says of itself, and when, to the hour: a session that tells nothing new writes nothing, so
        that on a full disk whoever only reads is served."""
        known = ledger.get(CHILD + peer.node)
        at = known.get("at") if isinstance(known, dict) else None
        if known != {**fact, "at": at} or not isinstance(at, float) or abs(now - at) >= _NOTED:
            ledger.put(CHILD + peer.node, {**fact, "at": now})

    def _check_hello(self, peer: Peer, hello: Hello) -> None:
        if hello.node != peer.node or hello.role != peer.role:
            claimed = f"{hello.role} {hello.node!r}"
            raise Refusal(403, "role", f"hello: got {claimed}, the certificate says {peer.role} {peer.node!r}")
        if hello.federation != self.terms.federation:
            text = f"hello.federation: got {hello.federation!r}, expected {self.terms.federation!r}"
            raise Refusal(422, "unfit", text)
        if hello.labels not in LABELS:
            raise Refusal(422, "unfit", f"hello.labels: got {hello.labels!r}, expected one of {', '.join(LABELS)}")
        if not set(hello.formats) & set(self.terms.formats):
            text = f"hello.formats: got {', '.join(hello.formats)}, expected one of {', '.join(self.terms.formats)}"
            raise Refusal(422, "unfit", text)

    def _append(self, ledger: ParentLedger, peer: Peer, body: bytes, _now: float) -> Response:
        asked = decode(Append, body, self.terms.limits)
        check_fence(ledger, peer, asked.fence)
        refuse_while_draining(ledger)
        done = log.append(self.terms, ledger, peer, asked)
        return Response(409, encode(done)) if isinstance(done, Behind) else _ok(done)

    def _exchange(self, ledger: ParentLedger, peer: Peer, body: bytes, now: float) -> Response | Later:
        asked = decode(Exchange, body, self.terms.limits)
        check_fence(ledger, peer, asked.fence)
        exchange.check_have(ledger, peer, asked)
        if ledger.get(PRESENT + peer.node) is not True:
            ledger.put(PRESENT + peer.node, True)
        said = ledger.get(CHILD + peer.node)
        if isinstance(said, dict) and said.get("left") is not None:  # it stayed, or is back within its session
            ledger.put(CHILD + peer.node, {**said, "left": None})
        exchange.take_receipts(ledger, peer, asked.receipts)
        if asked.knowledge is not None:
            exchange.take_knowledge(self.terms, ledger, peer, asked.knowledge, now)
        until = now + min(asked.wait, self.terms.limits.wait)
        return self._news(ledger, Later(peer.node, asked.have, asked.head, asked.noticed, until), now)

    def _missing(self, ledger: ParentLedger, peer: Peer, body: bytes, _now: float) -> Response:
        refuse_while_draining(ledger)
        return _ok(log.missing(ledger, peer, decode(Missing, body, self.terms.limits)))

    def _leave(self, ledger: ParentLedger, peer: Peer, body: bytes, now: float) -> Response:
        check_fence(ledger, peer, decode(Leave, body, self.terms.limits).fence)
        known = ledger.get(CHILD + peer.node)
        ledger.put(CHILD + peer.node, {**(known if isinstance(known, dict) else {}), "left": now})
        return _ok(Left(ledger.head(peer.node).entry))

    def _piece(self, ledger: ParentLedger, peer: Peer, request: Request, piece: re.Match[str]) -> Response:
        """One chunk of an entry or of knowledge on the caller's own link, or of an artefact."""
        kind, name, size = piece[1], piece[2], self.terms.limits.chunk
        start = int(piece[3]) * size
        if kind == "artefacts":
            shelf = self.terms.shelf
            data = shelf.read(bytes.fromhex(name), start, size) if shelf is not None and len(name) == 64 else None
        elif not name.isdecimal() or len(name) > 18:
            data = None
        elif kind == "entries":
            found = ledger.entries(peer.node, int(name) - 1, 1) if int(name) else ()
            data = found[0].payload[start : start + size] if found else None
        else:
            newest = ledger.newest(self.terms.link(peer.node), self.terms.node)
            fits = newest is not None and newest.knowledge.version == int(name)
            data = dump_logits(newest.knowledge.logits)[start : start + size] if fits and newest else None
        if not data:
            raise _not_found(request)
        return Response(200, data, media=RAW_TYPE)


_Handler = Callable[[ParentEnd, ParentLedger, Peer, bytes, float], "Response | Later"]
_POST: dict[str, _Handler] = {
    f"/v{PROTOCOL}/hello": ParentEnd._hello,
    f"/v{PROTOCOL}/append": ParentEnd._append,
    f"/v{PROTOCOL}/exchange": ParentEnd._exchange,
    f"/v{PROTOCOL}/missing": ParentEnd._missing,
    f"/v{PROTOCOL}/leave": ParentEnd._leave,
}


def _ok(message: Message) -> Response:
    return Response(200, encode(message))


def _not_found(request: Request) -> Refusal:
    return Refusal(404, "not_found", f"{request.method[:8]} {request.path[:200]!r}: nothing here for this node")


def _versions(who: str, oldest: int, newest: int, software: str) -> Refusal:
    """426, naming both ranges and the side to upgrade."""
    side = "the child" if newest < PROTOCOL else "the parent"
    theirs, ours = f"protocol {oldest} to {newest}", f"{PROTOCOL} to {PROTOCOL}"
    return Refusal(426, "versions", f"{who} speaks {theirs}, this parent ({software}) {ours}; upgrade {side}")
