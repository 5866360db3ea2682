"""What a parent takes from one child, told to it in Welcome. Every size is checked before memory is taken for it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fedagg_edge.wire.refusal import Refusal

__all__ = ["Limits", "check"]

_MAX = 2**40  # whatever a neighbour says, no size is larger

_REFERENCE = 34  # bytes of a chunk's digest in a message

Size = Annotated[int, Meta(ge=1, le=_MAX)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """Bytes unless said otherwise. A request's body is at most `message` + `inline`, a chunk's at most `chunk`."""

    message: Annotated[int, Meta(ge=16_384, le=1 << 24)] = 65_536
    inline: Annotated[int, Meta(ge=0, le=1 << 24)] = 65_536  # payload bytes that travel inside a message
    chunk: Annotated[int, Meta(ge=256, le=1 << 24)] = 1 << 20
    entry_rows: Size = 65_536  # samples in one entry
    entry_bytes: Size = 64 << 20
    samples: Size = 5_000_000  # on one link
    classes: Size = 65_536
    wait: Annotated[float, Meta(ge=0, le=3600)] = 60.0  # seconds, the longest that a poll is held
    staged: Size = 256 << 20  # chunks of one node that no message has named yet
    requests_per_minute: Size = 600
    bytes_per_minute: Size = 256 << 20

    def __post_init__(self) -> None:
        room = self.message // 2 // _REFERENCE * self.chunk
        if max(self.entry_bytes, self.staged) > room:
            raise ValueError(
                f"limits: got {max(self.entry_bytes, self.staged)} bytes in chunks of {self.chunk}, expected at most "
                f"{room}, as half a message of {self.message} bytes must hold the digests"
            )

    @property
    def body(self) -> int:
        """The longest body of a message."""
        return self.message + self.inline

    def narrowed(self, other: Limits) -> Limits:
        """What a child keeps to: the smaller of each limit, and the parent's (`other`) layout of messages and chunks.

        Both ends must cut payloads alike; their types bound message, inline and chunk to 16 MiB each.
        """
        smaller = {name: min(getattr(self, name), getattr(other, name)) for name in self.__struct_fields__}
        return Limits(**{**smaller, "message": other.message, "inline": other.inline, "chunk": other.chunk})


def check(field: str, got: int, limit: int, unit: str = "bytes") -> None:
    """Refuse (413) what is over a limit, naming `field`; waiting does not help."""
    if got > limit:
        raise Refusal(413, "too_large", f"{field}: got {got} {unit}, expected at most {limit}")
