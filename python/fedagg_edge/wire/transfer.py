"""Something long on its way here, chunk by chunk, each checked as it comes."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedagg_edge.wire.chunks import assemble, check_payload, digest_of
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Artefact, Entry, Payload, WireKnowledge
from fedagg_edge.wire.refusal import Refusal

__all__ = ["ArtefactDownload", "Download"]


@dataclass(slots=True)
class Download:
    """`base`: the path of the whole; a chunk's is below it. `limits`: the link's. `most`: bytes that this end takes for
    it.

    Raises RemoteProtocolError for a payload over `most` or whose parts do not add up, before anything is fetched.
    """

    base: str
    payload: Payload
    subject: Entry | WireKnowledge
    limits: Limits
    most: int
    _parts: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_payload(self.base, self.payload, self.limits, self.most)

    @property
    def path(self) -> str:
        """Of the next chunk."""
        return f"{self.base}/{len(self._parts)}"

    def add(self, chunk: bytes) -> bool:
        """Take the next chunk; whether that was the last. Raises Refusal if it is not the one that was named."""
        wanted = self.payload.chunks[len(self._parts)]
        if digest_of(chunk) != wanted:
            raise Refusal(400, "malformed", f"{self.path}: got {len(chunk)} bytes of another digest")
        self._parts.append(chunk)
        return len(self._parts) == len(self.payload.chunks)

    def whole(self) -> bytes:
        """All of it, checked once more as a whole."""
        return assemble(self.payload, self._parts)


@dataclass(slots=True)
class ArtefactDownload:
    """An artefact on its way here; only the whole has a digest. `chunk`: bytes of each part but the last."""

    subject: Artefact
    chunk: int
    most: int
    _parts: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.subject.size <= self.most:
            raise Refusal(413, "too_large", f"artefact: got {self.subject.size} bytes, expected 1 to {self.most}")

    @property
    def path(self) -> str:
        """Of the next chunk."""
        return f"/v1/artefacts/{self.subject.digest.hex()}/{len(self._parts)}"

    def add(self, chunk: bytes) -> bool:
        """Take the next chunk; whether that was the last. Raises Refusal if it has not the length it must have."""
        left = self.subject.size - self.chunk * len(self._parts)
        if len(chunk) != min(self.chunk, left):
            raise Refusal(400, "malformed", f"{self.path}: got {len(chunk)} bytes, expected {min(self.chunk, left)}")
        self._parts.append(chunk)
        return self.chunk * len(self._parts) >= self.subject.size

    def whole(self) -> bytes:
        """All of it; raise Refusal if it is not what the digest names."""
        data = b"".join(self._parts)
        if digest_of(data) != self.subject.digest:
            raise Refusal(400, "malformed", f"artefact {self.subject.name!r}: got {len(data)} bytes of another digest")
        return data
