"""Bytes into payloads and back: inside a message if short, else in chunks named by their SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire.limits import Limits, check
from fedagg_edge.wire.messages import Payload

__all__ = ["assemble", "check_payload", "digest_of", "inlined", "payload_of", "split"]


def digest_of(data: bytes | memoryview) -> bytes:
    """SHA-256, raw."""
    return hashlib.sha256(data).digest()


def split(data: bytes, size: int = 1 << 20) -> list[bytes]:
    """`data` in pieces of `size` bytes, the last one shorter; nothing gives no piece."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def payload_of(data: bytes, limits: Limits, *, inline: int | None = None) -> Payload:
    """`data` as a payload: inline up to `inline` bytes (the limits' if None), else by the digests of its chunks."""
    if len(data) <= (limits.inline if inline is None else inline):
        return Payload(len(data), digest_of(data), data)
    return Payload(len(data), digest_of(data), b"", tuple(digest_of(c) for c in split(data, limits.chunk)))


def check_payload(field: str, payload: Payload, limits: Limits, most: int) -> None:
    """Refuse a payload over `most` bytes (413) or one whose parts cannot add up to its size (400)."""
    check(f"{field}.size", payload.size, most)
    check(f"{field}.inline", len(payload.inline), limits.inline)
    if payload.inline or not payload.size:
        wanted = f"{payload.size} bytes inline and no chunks"
        fits = len(payload.inline) == payload.size and not payload.chunks
    else:
        count = -(-payload.size // limits.chunk)
        wanted = f"{count} chunks of {limits.chunk} bytes for {payload.size} bytes"
        fits = len(payload.chunks) == count
    if not fits:
        got = f"{len(payload.inline)} bytes inline and {len(payload.chunks)} chunks"
        raise RemoteProtocolError(f"{field}: got {got}, expected {wanted}")


def inlined(field: str, payload: Payload) -> bytes:
    """The bytes of a payload that came inline; raise RemoteProtocolError if they are not what its digest names."""
    if digest_of(payload.inline) != payload.digest:
        raise RemoteProtocolError(f"{field}: got {len(payload.inline)} bytes of another digest, expected the one named")
    return payload.inline


def assemble(payload: Payload, chunks: Iterable[bytes]) -> bytes:
    """Join `chunks`, checking each against its digest, the sum against the size and the whole against its digest.

    Raises RemoteProtocolError; never holds more than `payload.size` bytes and one chunk.
    """
    parts: list[bytes] = []
    size = 0
    for i, chunk in enumerate(chunks):
        size += len(chunk)
        if i >= len(payload.chunks) or size > payload.size:
            raise RemoteProtocolError(f"payload: got more than {payload.size} bytes in {len(payload.chunks)} chunks")
        if digest_of(chunk) != payload.chunks[i]:
            raise RemoteProtocolError(f"chunk {i}: got {len(chunk)} bytes of another digest, expected the one named")
        parts.append(chunk)
    whole = b"".join(parts)
    if len(parts) != len(payload.chunks) or size != payload.size or digest_of(whole) != payload.digest:
        raise RemoteProtocolError(
            f"payload: got {size} bytes in {len(parts)} chunks, expected {payload.size} in {len(payload.chunks)} "
            "of the digest named"
        )
    return whole
