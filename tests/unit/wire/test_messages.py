import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.wire import messages
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Exchange, Payload, WireKnowledge, decode, encode

ROOT = Path(__file__).parents[3]


def exchange(rows, classes, form):
    size = rows * classes * 4 if form == "f32" else rows * (classes + 4)
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    payload = Payload(size, bytes(32), data)
    return Exchange(41, 7, 0, 25.0, 3, WireKnowledge(42, 41, bytes(32), 0, form, rows, classes, payload))


@pytest.mark.parametrize(("form", "payload"), [("int8", 222 * 14), ("f32", 222 * 40)])
def test_an_exchange_is_little_more_than_its_logits(form, payload):
    assert len(encode(exchange(222, 10, form))) - payload <= 120


@given(st.integers(-1, 2**62), st.integers(0, 2**40), st.floats(0, 1e6), st.binary(max_size=100))
def test_what_is_sent_is_what_arrives(version, rows, wait, data):
    knowledge = WireKnowledge(
        max(0, version), version, bytes(32), 0, "f16", rows, 3, Payload(len(data), bytes(32), data)
    )
    asked = Exchange(version, 1, 2, wait, 0, knowledge, (data[:64],))
    assert decode(Exchange, encode(asked), Limits()) == asked


def test_the_first_fields_of_hello_outlive_versions():
    newer = (7, 9, "fedagg-edge 12", "something", {"else": 1})
    import msgspec

    assert decode(messages.Versions, msgspec.msgpack.encode(newer), Limits()).newest == 9


def test_the_page_shows_the_structs_that_decode():
    spec = importlib.util.spec_from_file_location("protocol_tables", ROOT / "tools" / "protocol_tables.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    text = made.PAGE.read_text(encoding="utf-8")
    assert made.page(text) == text, "run python tools/protocol_tables.py --write"


def test_a_token_is_in_no_repr():
    asked = messages.Enrol("fedagg1.secret", "d1", "device", b"key", b"proof", 1.5e9)
    for text in (repr(asked), str(asked), f"{asked}", repr([asked])):
        assert "secret" not in text
        assert "d1" in text
