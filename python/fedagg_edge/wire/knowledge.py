"""Knowledge between its record and its message."""

from __future__ import annotations

from typing import Final

import numpy as np

from fedagg_edge.records import Knowledge, Link, LogitsFormat, NodeId, PackedLogits
from fedagg_edge.wire.chunks import digest_of, payload_of
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import WireKnowledge
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import Packed, Stored
from fedagg_edge.wire.tensors import check_logits, dump_logits, load_logits

__all__ = ["check_finite", "check_packed", "knowledge_of", "same_frame", "same_logits", "wire_knowledge", "wire_packed"]

_BITS: Final = np.dtype("<u4")
_INFINITY: Final = 0x7F80_0000  # the bits of a float32's; those of the numbers from 0 up to it are below, in order


def wire_knowledge(stored: Stored, limits: Limits) -> WireKnowledge:
    """The message for stored knowledge; its logits inline if they are short."""
    knowledge = stored.knowledge
    rows, classes = knowledge.logits.value_NC.shape
    return WireKnowledge(
        version=knowledge.version,
        basis=stored.basis,
        digest=bytes.fromhex(knowledge.digest),
        view_seed=knowledge.view_seed,
        format=str(knowledge.logits.format),
        rows=rows,
        classes=classes,
        payload=payload_of(dump_logits(knowledge.logits), limits),
    )


def wire_packed(packed: Packed, limits: Limits) -> WireKnowledge:
    """The same for knowledge that was not unpacked."""
    return WireKnowledge(
        version=packed.version,
        basis=packed.basis,
        digest=bytes.fromhex(packed.digest),
        view_seed=packed.view_seed,
        format=packed.format,
        rows=packed.rows,
        classes=packed.classes,
        payload=payload_of(packed.data, limits),
    )


def knowledge_of(given: WireKnowledge, data: bytes, federation: str, link: Link, publisher: NodeId) -> Knowledge:
    """The record for a message and its logits' bytes; raise RemoteProtocolError if they do not fit, or NaN."""
    logits = load_logits(data, given.format, given.rows, given.classes)
    check_finite(logits)
    return Knowledge(federation, link, publisher, given.version, given.digest.hex(), given.view_seed, logits)


def check_packed(given: WireKnowledge, data: bytes) -> None:
    """Raise what `knowledge_of` would, without making arrays: a parent keeps the bytes as they came."""
    form = check_logits(data, given.format, given.rows, given.classes)
    if form is LogitsFormat.INT8:
        scale_N = np.frombuffer(data, _BITS, given.rows) if given.rows else np.zeros(1, _BITS)
        if np.maximum.reduce(scale_N) < _INFINITY:
            return  # neither a sign nor a NaN; all but -0.0 that is not so is refused below
    check_finite(load_logits(data, given.format, given.rows, given.classes))


def same_frame(given: WireKnowledge, stored: Stored) -> bool:
    """Whether a message says what is stored, but for the logits."""
    knowledge = stored.knowledge
    return (
        given.basis == stored.basis
        and given.digest.hex() == knowledge.digest
        and given.view_seed == knowledge.view_seed
        and given.format == knowledge.logits.format
        and (given.rows, given.classes) == knowledge.logits.value_NC.shape
    )


def same_logits(given: WireKnowledge, stored: Stored) -> bool:
    """Whether they are the stored ones, down to the last bit."""
    return given.payload.digest == digest_of(dump_logits(stored.knowledge.logits))


def check_finite(logits: PackedLogits) -> None:
    """Refuse (422) logits with a NaN or an infinity, and int8 scales below 0: they would spoil every average."""
    if logits.value_NC.dtype != np.int8 and not np.isfinite(logits.value_NC).all():
        raise Refusal(422, "unfit", "knowledge: got logits that are not finite")
    scale_N = logits.scale_N
    if scale_N is not None and not 0 <= scale_N.min(initial=0) <= scale_N.max(initial=0) < np.inf:  # a NaN wins both
        raise Refusal(422, "unfit", "knowledge: got row scales that are not finite or are below 0")
