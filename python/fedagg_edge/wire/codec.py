"""Messages into bytes and back; every failure to decode names the field, what was got and what was expected."""

from __future__ import annotations

import math
from typing import TypeVar

import msgspec

from fedagg_edge.errors import LocalProtocolError, RemoteProtocolError
from fedagg_edge.wire.faults import describe
from fedagg_edge.wire.limits import Limits, check

__all__ = ["Message", "decode", "encode"]


class Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Base of all messages: one msgpack array, nothing left out, nothing beside."""


M = TypeVar("M", bound=msgspec.Struct)

_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[type, msgspec.msgpack.Decoder[object]] = {}


def encode(message: Message) -> bytes:
    """The message's bytes. Raises LocalProtocolError for a number that msgpack cannot hold."""
    try:
        return _ENCODER.encode(message)
    except OverflowError as e:
        raise LocalProtocolError(f"{type(message).__name__.lower()}: {e}") from e


def decode(kind: type[M], body: bytes, limits: Limits) -> M:
    """The message of type `kind` in `body`; raise RemoteProtocolError that names field, got and expected."""
    check(f"{kind.__name__.lower()} message", len(body), limits.body)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    try:
        message = decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise RemoteProtocolError(describe(kind, body, e)) from e
    _check_finite(message)
    return message  # type: ignore[return-value]


def _check_finite(message: object) -> None:
    """Refuse what passes every comparison: NaN. Only top-level numbers and limits are floats."""
    for name in message.__struct_fields__:  # type: ignore[attr-defined]
        value = getattr(message, name)
        if isinstance(value, Limits):
            _check_finite(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise RemoteProtocolError(f"{type(message).__name__.lower()}.{name}: got {value}, expected a finite number")
