"""The released bytes of each message are what this version writes and reads."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from make_fixtures import ARRAY_FOLDER, EXAMPLES, FOLDER, arrays

from fedagg_edge.wire import messages as m
from fedagg_edge.wire.limits import Limits


def named(message):
    return type(message).__name__.lower()


@pytest.mark.parametrize("message", EXAMPLES, ids=named)
def test_bytes_are_as_released(message):
    body = (FOLDER / f"{named(message)}.msgpack").read_bytes()
    assert m.encode(message) == body
    assert m.decode(type(message), body, Limits()) == message


def test_each_message_has_bytes_and_nothing_else_has():
    kinds = {n.lower() for n in m.__all__ if n[0].isupper() and isinstance(kind := getattr(m, n), type)
             and issubclass(kind, m.Message) and kind is not m.Message}  # fmt: skip
    assert {path.stem for path in FOLDER.iterdir()} == kinds


def test_arrays_are_as_released():
    assert {path.stem: path.read_bytes() for path in ARRAY_FOLDER.iterdir()} == arrays()
