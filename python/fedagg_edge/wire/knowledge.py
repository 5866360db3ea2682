"""Knowledge between its record and its message."""

from __future__ import annotations

import numpy as np

from fedagg_edge.records import Knowledge, Link, NodeId, PackedLogits
from fedagg_edge.wire.chunks import digest_of, payload_of
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import WireKnowledge
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.state import Stored
from fedagg_edge.wire.tensors import dump_logits, load_logits

__all__ = ["check_finite", "knowledge_of", "same_content", "wire_knowledge"]


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


def knowledge_of(given: WireKnowledge, data: bytes, federation: str, link: Link, publisher: NodeId) -> Knowledge:
    """The record for a message and its logits' bytes; raise RemoteProtocolError if they do not fit, or NaN."""
    logits = load_logits(data, given.format, given.rows, given.classes)
    check_finite(logits)
    return Knowledge(federation, link, publisher, given.version, given.digest.hex(), given.view_seed, logits)


def same_content(given: WireKnowledge, stored: Stored) -> bool:
    """Whether a message says what is stored, down to the last bit of its logits."""
    knowledge = stored.knowledge
    return (
        given.basis == stored.basis
        and given.digest.hex() == knowledge.digest
        and given.view_seed == knowledge.view_seed
        and given.format == knowledge.logits.format
        and (given.rows, given.classes) == knowledge.logits.value_NC.shape
        and given.payload.digest == digest_of(dump_logits(knowledge.logits))
    )


def check_finite(logits: PackedLogits) -> None:
    """Refuse (422) logits with a NaN or an infinity, and int8 scales below 0: they would spoil every average."""
    if logits.value_NC.dtype != np.int8 and not np.isfinite(logits.value_NC).all():
        raise Refusal(422, "unfit", "knowledge: got logits that are not finite")
    scale_N = logits.scale_N
    if scale_N is not None and not 0 <= scale_N.min(initial=0) <= scale_N.max(initial=0) < np.inf:  # a NaN wins both
        raise Refusal(422, "unfit", "knowledge: got row scales that are not finite or are below 0")
