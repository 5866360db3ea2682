"""Turns msgspec's complaint about a message into one that names the field, what was got and what was expected."""

from __future__ import annotations

import re
import struct

import msgspec

__all__ = ["describe", "peek"]

_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]")
_GOT = re.compile(r"^Expected (?P<expected>.*?), got (?P<got>.*)$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected (?P<expected>.*)$", re.DOTALL)

_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8}
_FIXED |= {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
_NUMBERS |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}


def describe(kind: type, body: bytes, error: Exception) -> str:
    """One line: ``exchange.knowledge.rows: got -3, expected `int` >= 0``. Shows numbers and lengths, never content."""
    text = str(error)
    at = _AT.search(text)
    steps = _STEP.findall(at["path"]) if at else []
    field, indices = _locate(kind, steps)
    reason = text[: at.start()] if at else text
    if not isinstance(error, msgspec.ValidationError):
        return f"{field}: got {len(body)} bytes that are no message ({reason[:1].lower()}{reason[1:]})"
    told = _GOT.match(reason)
    if told:
        return f"{field}: got {told['got'].replace('`', '')}, expected {told['expected'].replace('`', '')}"
    expected = _EXPECTED.match(reason)
    wanted = (expected["expected"] if expected else reason).replace("`", "")
    return f"{field}: got {peek(body, indices)}, expected {wanted}"


def _locate(kind: type, steps: list[str]) -> tuple[str, list[int]]:
    """The dotted name of the field that `steps` lead to, and the positions to follow in the bytes."""
    name, indices = kind.__name__.lower(), []
    here: object = msgspec.inspect.type_info(kind)
    for step in steps:
        index = 0 if step == "..." else int(step)
        indices.append(index)
        here = _struct_in(here)
        if isinstance(here, msgspec.inspect.StructType) and index < len(here.fields):
            name, here = f"{name}.{here.fields[index].name}", here.fields[index].type
        else:
            name, here = f"{name}[{step}]", getattr(here, "item_type", None)
    return name, indices


def _struct_in(info: object) -> object:
    """What `info` is beside None."""
    if isinstance(info, msgspec.inspect.UnionType):
        return next(t for t in info.types if not isinstance(t, msgspec.inspect.NoneType))
    return info


def peek(body: bytes, indices: list[int]) -> str:
    """What stands in `body` at a path of array positions, in words; it reads heads only and allocates nothing."""
    try:
        at = 0
        for index in indices:
            count, at = _array(body, at)
            if index >= count:
                return "nothing"
            for _ in range(index):
                at = _skip(body, at)
        return _words(body, at)
    except (IndexError, struct.error, RecursionError):
        return "what ends too early"


def _array(body: bytes, at: int) -> tuple[int, int]:
    """(number of items, where the first begins) of the array at `at`."""
    head = body[at]
    if 0x90 <= head <= 0x9F:
        return head & 15, at + 1
    width = _ARRAYS.get(head, 0)
    return int.from_bytes(body[at + 1 : at + 1 + width], "big"), at + 1 + width


def _length(body: bytes, at: int) -> tuple[int, int]:
    """(head bytes, content bytes) of the scalar at `at`."""
    head = body[at]
    if 0xA0 <= head <= 0xBF:
        return 1, head & 31
    if head in _SIZED:
        width = _SIZED[head]
        return 1 + width, int.from_bytes(body[at + 1 : at + 1 + width], "big")
    return 1, _FIXED.get(head, 0)


def _skip(body: bytes, at: int) -> int:
    """Where the value behind the one at `at` begins."""
    pending = 1
    while pending:
        pending -= 1
        if 0x90 <= body[at] <= 0x9F or body[at] in _ARRAYS:
            count, at = _array(body, at)
            pending += count
        else:
            at += sum(_length(body, at))
    return at


def _words(body: bytes, at: int) -> str:
    head = body[at]
    if head < 0x80 or head >= 0xE0:
        return str(head if head < 0x80 else head - 256)
    if head in _NUMBERS:
        return str(struct.unpack_from(_NUMBERS[head], body, at + 1)[0])
    if 0x90 <= head <= 0x9F or head in _ARRAYS:
        return f"an array of {_array(body, at)[0]}"
    if 0xA0 <= head <= 0xBF or head in _SIZED:
        return f"{_length(body, at)[1]} {'bytes' if head in (0xC4, 0xC5, 0xC6) else 'bytes of text'}"
    return {0xC0: "nil", 0xC2: "false", 0xC3: "true"}.get(head, "another type")
