"""Writes fixtures/<name>.msgpack: one example of each message, as any other implementation must write it;
arrays/<name>.bin: what is signed, hashed or laid out without msgpack; servers/: what only edges and the cloud write,
which a device's implementation need not know.

Run after a change of the protocol's version only: bytes that were released never change.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np

from fedagg_edge.fleet import receipts
from fedagg_edge.fleet.forgetting import Order
from fedagg_edge.identity import keys, requests, revocation, signing, tokens
from fedagg_edge.ledger.erase import Receipt
from fedagg_edge.records import Embeddings, LogitsFormat, PackedLogits, SampleSet, Tier, counters, node_id
from fedagg_edge.wire import messages as m
from fedagg_edge.wire import tensors
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

ARRAY_FOLDER = Path(__file__).parent / "arrays"
SAMPLES = SampleSet.of(node_id("d1"), counters(5, 3))
LABELLED = {"held-back": (-1, -1, -1), "narrow": (0, 127, -1), "wide": (0, 128, 1), "widest": (0, 2**15, 3)}
CODES = np.arange(12, dtype=np.uint8).reshape(3, 4)
LOGITS = np.array([[1, -2, 0.5], [127, 3, -127]], np.float32)


def arrays() -> dict[str, bytes]:
    """Bytes of each, by name."""
    made = {
        f"embeddings-{name}": tensors.dump_embeddings(Embeddings(SAMPLES, CODES, np.array(labels, np.int64)))
        for name, labels in LABELLED.items()
    }
    made["samples"] = tensors.dump_samples(SAMPLES)
    made["release"] = tensors.dump_release(tensors.Release(node_id("d1"), 2, SAMPLES))
    made["samples-none"] = tensors.dump_samples(SampleSet((), ()))
    made["set-digest"] = bytes.fromhex(SAMPLES.digest)
    made["set-digest-none"] = bytes.fromhex(SampleSet((), ()).digest)
    made["logits-f32"] = tensors.dump_logits(PackedLogits(LogitsFormat.F32, LOGITS))
    made["logits-f16"] = tensors.dump_logits(PackedLogits(LogitsFormat.F16, LOGITS.astype(np.float16)))
    scale_N = np.array([2 / 127, 1], np.float32)
    value_NC = np.round(LOGITS / scale_N[:, None]).astype(np.int8)
    made["logits-int8"] = tensors.dump_logits(PackedLogits(LogitsFormat.INT8, value_NC, scale_N))
    token = tokens.parse("fedagg1.AAECAwQFBgc." + "A" * 43 + "." + "B" * 42 + "A")
    made["token-digest"] = tokens.digest(token)
    made["proof"] = keys.proof_text(
        "enrol", federation="f", node=node_id("d1"), role=Tier.DEVICE, time=1.5e9 + 0.75,
        binding=tokens.digest(token), public_key=b"key",
    )  # fmt: skip
    asked = requests.Sign(
        folder="", name="autoencoder", media="application/x-safetensors", size=1000, digest=SET, version=7, now=1.5e9
    )
    made["artefact"] = signing._text("f", asked, asked.version, int(asked.now))
    return made


SERVER_FOLDER = Path(__file__).parent / "servers"
FORMER = m.Adopt("edge-a", ("edge-a", "d1"), 2, "edge-b")
ORDER = Order("0123456789abcdef", "d1", 7, 1.5e9 + 0.75)
REVOKED = revocation.Revocations(version=3, serials={"0a1b": 1.5e9}, nodes={"edge-b": 1.5e9 + 0.75, "d1": 1.5e9})


def receipt(links: int) -> receipts.Stamped:
    """An edge's, of an order to forget d1: its own link and so many others."""
    digests = {f"d{i}": hashlib.sha256(b"%d" % i).hexdigest() for i in range(1, links + 1)} | {"edge-a": SET.hex()}
    done = Receipt(
        node="edge-a", origin="d1", rows=3, knowledge=2, freed=45, digests=digests, at=1.5e9 + 0.75, scrubbed=True
    )
    return receipts.Stamped(order=ORDER.id, receipt=done, below=1)


def servers() -> dict[str, bytes]:
    """Bytes of each, by the file's name."""
    return {
        "adopt-former.msgpack": m.encode(FORMER),
        "forget.msgpack": msgspec.msgpack.encode(ORDER),
        "receipt.msgpack": receipts._encoded(receipt(2)),
        "receipt-of-many-links.msgpack": receipts._encoded(receipt(60)),
        "revoked.json": revocation.encode(REVOKED),
        "revoked-none.json": revocation.encode(revocation.Revocations()),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    ARRAY_FOLDER.mkdir(exist_ok=True)
    SERVER_FOLDER.mkdir(exist_ok=True)
    for name, content in servers().items():
        (SERVER_FOLDER / name).write_bytes(content)
    for name, content in arrays().items():
        (ARRAY_FOLDER / f"{name}.bin").write_bytes(content)
    for message in EXAMPLES:
        (FOLDER / f"{type(message).__name__.lower()}.msgpack").write_bytes(m.encode(message))


if __name__ == "__main__":
    main()
