"""Messages into bytes and back; every failure to decode names the field, what was got and what was expected."""

from __future__ import annotations

import math
from types import UnionType
from typing import Annotated, ClassVar, TypeVar, Union, cast, get_args, get_origin

import msgspec

from fedagg_edge.errors import LocalProtocolError, RemoteProtocolError
from fedagg_edge.wire.faults import describe
from fedagg_edge.wire.limits import Limits, check

__all__ = ["Message", "decode", "encode"]


class Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Base of all messages: one msgpack array, nothing left out, nothing beside.

    `later`: so many fields at the end came after the others. They are left out together where all have their defaults:
    whoever does not know them reads that, and refuses the rest as malformed.
    """

    later: ClassVar[int] = 0


M = TypeVar("M", bound=msgspec.Struct)

_ENCODER = msgspec.msgpack.Encoder()
_FLOATS: dict[type, tuple[str, ...]] = {}
_DECODERS: dict[type, tuple[str, msgspec.msgpack.Decoder[object]]] = {}


def encode(message: Message) -> bytes:
    """The message's bytes. Raises LocalProtocolError for a number that msgpack cannot hold."""
    try:
        return _ENCODER.encode(_without_later(message) if message.later else message)
    except OverflowError as e:
        raise LocalProtocolError(f"{type(message).__name__.lower()}: {e}") from e


def _without_later(message: Message) -> Message | tuple[object, ...]:
    values, defaults = msgspec.structs.astuple(message), message.__struct_defaults__
    last = message.later
    return values[:-last] if values[-last:] == defaults[-last:] else message


def decode(kind: type[M], body: bytes, limits: Limits) -> M:
    """The message of type `kind` in `body`; raise RemoteProtocolError that names field, got and expected."""
    known = _DECODERS.get(kind)
    if known is None:
        known = _DECODERS[kind] = (f"{kind.__name__.lower()} message", msgspec.msgpack.Decoder(kind))
    check(known[0], len(body), limits.body)
    try:
        message = known[1].decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise RemoteProtocolError(describe(kind, body, e)) from e
    found = cast(M, message)
    _check_finite(found)
    return found


def _may_hold_floats(kind: object) -> bool:
    """Whether a field's type is none of those that surely hold no float that is looked for."""
    if get_origin(kind) is Annotated:
        return _may_hold_floats(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return any(map(_may_hold_floats, get_args(kind)))
    if get_origin(kind) is tuple or (isinstance(kind, type) and issubclass(kind, Message)):
        return False
    return kind not in (int, bool, bytes, str, type(None))


def _check_finite(message: msgspec.Struct) -> None:
    """Refuse what passes every comparison: NaN. Only top-level numbers and limits are floats."""
    kind = type(message)
    names = _FLOATS.get(kind)
    if names is None:
        names = _FLOATS[kind] = tuple(f.name for f in msgspec.structs.fields(kind) if _may_hold_floats(f.type))
    for name in names:
        value = getattr(message, name)
        if isinstance(value, Limits):
            _check_finite(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise RemoteProtocolError(f"{type(message).__name__.lower()}.{name}: got {value}, expected a finite number")
