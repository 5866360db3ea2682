"""Writes fixtures/<name>.msgpack: one example of each message, as any other implementation must write it.

Run after a change of the protocol's version only: bytes that were released never change.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fedagg_edge.wire import messages as m
from fedagg_edge.wire.limits import Limits

FOLDER = Path(__file__).parent / "fixtures"
SET = hashlib.sha256(b"set").digest()
INLINE = m.Payload(5, hashlib.sha256(b"bytes").digest(), b"bytes")
CHUNKED = m.Payload(300, hashlib.sha256(b"whole").digest(), b"", (hashlib.sha256(b"a").digest(), SET))
KNOWLEDGE = m.WireKnowledge(3, 2, SET, 2**63 - 1, "int8", 2, 10, CHUNKED)
ENTRY = m.Entry(7, m.APPEND, -1, 4, SET, INLINE)
ARTEFACT = m.Artefact("autoencoder", SET, 1000, b"signature", "application/octet-stream")

EXAMPLES: tuple[m.Message, ...] = (
    INLINE,
    m.Hello(1, 1, "fedagg-edge 1.0", "d1", "device", "f", ("f32", "f16", "int8"), 0, 6, SET, "all"),
    ARTEFACT,
    m.Offered(1 << 20, (ARTEFACT,)),
    m.Welcome(1, "x", "edge-a", "f", 10, 1.5e9, 0, 7, SET, -1, "sync", 100, False, Limits(), (ARTEFACT,)),
    m.Append(1, 6, m.APPEND, 4, m.NOT_COMPUTED, CHUNKED, 0),
    m.Appended(7, SET, True),
    ENTRY,
    m.Behind(7, (ENTRY,)),
    KNOWLEDGE,
    m.Exchange(-1, 7, 0, 25.0, 0, KNOWLEDGE, (b"receipt",)),
    m.Notice(1, "renew", b"\xc0"),
    m.Exchanged(3, 7, (ENTRY,), None, (m.Notice(1, "renew", b"\xc0"),), False, 0.0),
    m.Missing((SET,)),
    m.Enrol("token", "d1", "device", b"key", b"proof", 1.5e9),
    m.Renew(b"certificate", b"key", b"proof", 1.5e9),
    m.Enrolled(b"certificate", b"authority", "edge-a", "f"),
    m.MoveTo(("https://hall.example:9443",)),
    m.Adopt("d1", ("d1",), 2),
    m.Adopted(2, 9),
    m.Leave(0),
    m.Left(7),
    m.Problem("rate", "too many", 1.5),
)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for message in EXAMPLES:
        (FOLDER / f"{type(message).__name__.lower()}.msgpack").write_bytes(m.encode(message))


if __name__ == "__main__":
    main()
