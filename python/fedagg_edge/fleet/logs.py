"""Structured logs into which no sample, embedding, logit, token or key can get.

A line is an event name and fields. Every field that exists is in `FIELDS`, with a test of its value; there is none for
free text, arrays or bytes. A value that fails its test is written as ``(refused)``; a field that does not exist is an
error of ours and raises. Exceptions are logged as their type and the place that raised them, never as their text, which
may quote what a peer sent; so are the records of libraries that use `logging`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Final, TextIO

__all__ = ["FIELDS", "Form", "Level", "Log", "redirect_logging", "where"]

REFUSED: Final = "(refused)"
Value = int | float | bool | str


class Form(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_ORDER = tuple(Level)


def _integer(value: object) -> bool:
    return type(value) is int and abs(value) < 1 << 63


def _number(value: object) -> bool:
    return _integer(value) or type(value) is float


def _truth(value: object) -> bool:
    return type(value) is bool


def _text(pattern: str) -> Callable[[object], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


_WORD = _text(r"[a-z][a-z0-9]{0,15}([ _.-][a-z0-9]{1,15}){0,5}")  # words, not a key's 32 characters in a row
_NODE = _text(r"[a-z0-9]{1,32}([._-][a-z0-9]{1,32}){0,8}")
FIELDS: Final[dict[str, Callable[[object], bool]]] = {
    # who
    "node": _NODE,
    "peer": _NODE,
    "role": _text("device|edge|cloud"),
    "child": _text("gateway|node_loop|uplink|writer|device"),
    "address": _text(r"[0-9a-f.:]{2,45}"),  # a numeric address
    "endpoint": _text(r"https://[a-z0-9.-]{1,253}(:\d{1,5})?"),
    "serial": _text(r"[0-9a-f]{1,40}"),
    # what
    "round": _integer,
    "version": _integer,
    "entry": _integer,
    "rows": _integer,
    "count": _integer,
    "bytes": _integer,
    "limit": _integer,
    "status": _integer,
    "here": _text(r"\d{1,6} to \d{1,6}"),  # versions of the protocol
    "there": _text(r"\d{1,6} to \d{1,6}"),
    "upgrade": _text("the child|the parent"),
    "port": _integer,
    "pid": _integer,
    "signal": _integer,
    "exit": _integer,
    "age": _integer,
    "fence": _integer,
    "number": _integer,
    "seconds": _number,
    "until": _number,
    "share": _number,
    "loss": _number,
    "accuracy": _number,
    "digest": _text(r"[0-9a-f]{12}"),  # the first 12 hex digits, for people to compare
    "fresh": _truth,
    "finished": _truth,
    "reason": _WORD,
    "expected": _WORD,
    "advice": _WORD,
    "mode": _WORD,
    "kind": _WORD,
    "name": _WORD,
    # what went wrong, and where in the code
    "error": _text(r"[A-Z][A-Za-z]{1,39}"),  # a class name; no digits, so that no key passes for one
    "where": _text(r"[A-Za-z0-9_./<>-]{1,80}:\d+"),
    "errno": _integer,
    "module": _text(r"[A-Za-z0-9_]{1,24}(\.[A-Za-z0-9_]{1,24}){0,4}"),
    "logger": _text(r"[a-z_]{1,24}(\.[a-z_]{1,24}){0,4}"),
}
_EVENT = re.compile(r"[a-z]{1,24}(_[a-z]{1,24}){0,5}")


class Log:
    """Writes lines to a stream; safe to use from several threads; a stream that fails is ignored."""

    def __init__(
        self,
        stream: TextIO,
        form: Form = Form.TEXT,
        *,
        debug: bool = False,
        least: Level = Level.INFO,
        clock: Callable[[], float] = time.time,
        **context: Value,
    ) -> None:
        """`least`: lines below this level are not written; `debug`: all are. `context`: fields that every line carries,
        such as the node."""
        self._stream, self._form, self._clock = stream, form, clock
        self._least = _ORDER.index(Level.DEBUG if debug else least)
        self._context = {name: _checked(name, value) for name, value in context.items()}
        self._lock = threading.Lock()

    def debug(self, event: str, **fields: object) -> None:
        if self._least == 0:
            self.write(Level.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self.write(Level.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self.write(Level.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self.write(Level.ERROR, event, fields)

    def failure(self, event: str, error: BaseException, **fields: object) -> None:
        """An error's type and the place that raised it, without its text; of a module that is not there its name."""
        extra: dict[str, object] = {"error": type(error).__name__, "where": where(error)}
        if isinstance(error, OSError) and error.errno is not None:
            extra["errno"] = error.errno
        if isinstance(error, ModuleNotFoundError) and error.name is not None:
            extra["module"] = error.name
        self.write(Level.ERROR, event, fields | extra)

    def write(self, level: Level, event: str, fields: dict[str, object]) -> None:
        """One line, unless its level is too low; raises ValueError for an event or a field that cannot be."""
        if not _EVENT.fullmatch(event):
            raise ValueError("log: got an event name that is not lower-case words joined by _")
        checked = {name: _checked(name, value) for name, value in fields.items()}
        if _ORDER.index(level) < self._least:
            return
        line = self._render(level, event, self._context | checked)
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            pass  # nowhere to say so

    def _render(self, level: Level, event: str, fields: dict[str, Value]) -> str:
        now = self._clock()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        if self._form is Form.JSON:
            return json.dumps({"time": stamp, "level": level, "event": event, **fields})
        pairs = "".join(f" {k}={_plain(v)}" for k, v in fields.items())
        return f"{stamp} {level:<7} {event}{pairs}"


def where(error: BaseException) -> str:
    """``file.py:line`` of the frame that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown:0"
    return f"{'/'.join(frames[-1].filename.split(os.sep)[-2:])}:{frames[-1].lineno}"


def redirect_logging(log: Log, level: int = logging.WARNING) -> None:
    """Send what libraries write with `logging` to `log`: which logger and which error, never the text."""
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(log)]
    root.setLevel(level)


class _Bridge(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {
            "logger": record.name.lower(),
            "where": f"{record.filename}:{record.lineno}",
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields |= {"error": type(error).__name__, "where": where(error)}
        level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
        self._log.write(level, "library_message", fields)


def _checked(name: str, value: object) -> Value:
    if name not in FIELDS:
        raise ValueError("log: got a field that is not in FIELDS; add it there with a test of its value")
    return value if FIELDS[name](value) else REFUSED  # type: ignore[return-value]  # its test is one of type


def _plain(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if " " in value else value
    return f"{value:.6g}" if isinstance(value, float) else str(value)
