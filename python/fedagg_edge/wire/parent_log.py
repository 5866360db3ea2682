"""The parent's half of a link's log: entries in, entries out, chunks staged. Functions of the ledger, no state."""

from __future__ import annotations

from collections.abc import Sequence

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.records import NodeId, SampleSet, Tier
from fedagg_edge.wire.chunks import check_payload, digest_of, inlined, payload_of
from fedagg_edge.wire.limits import check
from fedagg_edge.wire.messages import APPEND, NOT_COMPUTED, Append, Appended, Behind, Entry, Missing, Payload
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import LogEntry, ParentLedger, Peer
from fedagg_edge.wire.tensors import load_embeddings, load_samples
from fedagg_edge.wire.terms import Terms

__all__ = ["append", "bytes_of", "check_known", "entries_after", "missing", "stage"]

_STAGED_WAIT = 60.0  # seconds until to ask again; what nothing names is let go in time (fleet/server.py)
_ENTRY_OVERHEAD = 96  # bytes of an entry beside its payload's


def append(terms: Terms, ledger: ParentLedger, peer: Peer, asked: Append) -> Appended | Behind:
    """Commit `asked` as the next entry, or say that it is there already, or what the child has missed."""
    limits = terms.limits
    check("append.rows", asked.rows, limits.entry_rows, "samples")
    check_payload("append.payload", asked.payload, limits, limits.entry_bytes)
    head = ledger.head(peer.node)
    known = _repeated(ledger, peer.node, asked)
    if known is not None:
        return Appended(known.number, bytes.fromhex(known.digest), True)
    if asked.after > head.entry:
        raise Refusal(409, "conflict", f"append.after: got {asked.after}, this log ends at {head.entry}")
    if asked.after < head.entry:
        return Behind(head.entry, entries_after(terms, ledger, peer.node, asked.after))
    data = bytes_of("append.payload", ledger, peer.node, asked.payload)
    _check_content(terms, peer, asked, data)
    position = ledger.append(peer.node, asked.kind, data, key=asked.key, by="child")
    check("link", len(ledger.samples(peer.node, position.digest)), limits.samples, "samples")
    digest = bytes.fromhex(position.digest)
    if asked.digest not in (NOT_COMPUTED, digest) and position.entry > head.entry:
        raise Refusal(
            409, "conflict", f"append.digest: got set {asked.digest.hex()[:12]}, expected {position.digest[:12]}"
        )
    return Appended(position.entry, digest, position.entry <= head.entry)


def check_known(ledger: ParentLedger, child: NodeId, head: int, digest: bytes) -> None:
    """Refuse (409) a child whose log is no beginning of the parent's: one of the two has lost entries."""
    if head > ledger.head(child).entry:
        raise Refusal(409, "conflict", f"hello.head: got {head}, this log ends at {ledger.head(child).entry}")
    for entry in ledger.entries(child, head - 1, 1) if head else ():
        if entry.digest != digest.hex():
            text = f"hello.digest: got set {digest.hex()[:12]} at entry {head}, expected {entry.digest[:12]}"
            raise Refusal(409, "conflict", text)


def _repeated(ledger: ParentLedger, child: NodeId, asked: Append) -> LogEntry | None:
    """The entry that an earlier copy of `asked` has become: it can only stand right behind `after`."""
    for entry in ledger.entries(child, asked.after, 1):
        if entry.key != asked.key:
            continue
        if entry.kind != asked.kind:
            raise Refusal(409, "conflict", f"append.key: got {asked.key} with other content than entry {entry.number}")
        if digest_of(entry.payload) != asked.payload.digest:
            # other content, or rows of it were forgotten since, at either end: the ledger knows what came then
            data = bytes_of("append.payload", ledger, child, asked.payload)
            ledger.append(child, asked.kind, data, key=asked.key, by="child")
        else:  # it may have sent them again since: nobody will name them any more
            ledger.drop(child, asked.payload.chunks)
        return entry
    return None


def bytes_of(field: str, ledger: ParentLedger, child: NodeId, payload: Payload) -> bytes:
    """The bytes of a checked payload, from the message or from what is staged; refuse (409) if chunks are missing."""
    if not payload.chunks:
        return inlined(field, payload)
    lacking = ledger.missing(child, payload.chunks)
    if lacking:
        raise Refusal(
            409, "missing", f"{field}: {len(lacking)} of {len(payload.chunks)} chunks are not here; send them"
        )
    return ledger.take(child, payload)


def _check_content(terms: Terms, peer: Peer, asked: Append, data: bytes) -> None:
    """Whether an entry's bytes are what it says and what this child may write."""
    if asked.kind == APPEND:
        embeddings = load_embeddings(data, terms.limits)
        samples = embeddings.samples
        top = int(embeddings.label_N.max(initial=-1))
        if top >= terms.classes:
            raise Refusal(422, "unfit", f"embeddings: got label {top}, this federation has {terms.classes} classes")
    else:
        samples = load_samples(data, terms.limits)
    if len(samples) != asked.rows:
        raise RemoteProtocolError(f"append.rows: got {asked.rows}, the payload has {len(samples)}")
    _check_origins(peer, samples)


def _check_origins(peer: Peer, samples: SampleSet) -> None:
    foreign = [origin for origin in samples.origins if origin != peer.node]
    if peer.role is Tier.DEVICE and foreign:
        raise Refusal(403, "role", f"device {peer.node!r}: got samples of {foreign[0]!r}, expected its own only")


def entries_after(terms: Terms, ledger: ParentLedger, child: NodeId, after: int) -> tuple[Entry, ...]:
    """The entries behind `after` that fit into half a message, at least one if there is any.

    One at a time, as one may have 64 MB; a short payload travels inline, a long one by the digests of its chunks.
    """
    found: list[Entry] = []
    room = terms.limits.message // 2
    while batch := ledger.entries(child, after, 1):
        entry = _entry_of(terms, batch)
        room -= _ENTRY_OVERHEAD + len(entry.payload.inline) + 34 * len(entry.payload.chunks)
        if found and room < 0:
            break
        found.append(entry)
        after = entry.number
    return tuple(found)


def _entry_of(terms: Terms, batch: Sequence[LogEntry]) -> Entry:
    stored = batch[0]
    payload = payload_of(stored.payload, terms.limits, inline=min(terms.limits.inline, terms.limits.message // 4))
    key = -1 if stored.key is None else stored.key
    return Entry(stored.number, int(stored.kind), key, stored.rows, bytes.fromhex(stored.digest), payload)


def missing(ledger: ParentLedger, peer: Peer, asked: Missing) -> Missing:
    """Those of the chunks that are not staged for this child, in order, each once."""
    return Missing(tuple(ledger.missing(peer.node, tuple(dict.fromkeys(asked.chunks)))))


def stage(terms: Terms, ledger: ParentLedger, peer: Peer, digest: bytes, chunk: bytes) -> None:
    """Keep a chunk until an entry or knowledge names it; sending it again changes nothing."""
    check("chunk", len(chunk), terms.limits.chunk)
    if not chunk or digest_of(chunk) != digest:
        raise RemoteProtocolError(f"chunk: got {len(chunk)} bytes of another digest, expected {digest.hex()[:12]}")
    if not ledger.missing(peer.node, (digest,)):
        return
    held = ledger.staged(peer.node)
    if held + len(chunk) > terms.limits.staged:
        text = f"staged: got {len(chunk)} bytes beside {held}, expected at most {terms.limits.staged}"
        raise Refusal(413, "too_large", text, _STAGED_WAIT)
    ledger.stage(peer.node, digest, chunk)
