import io
import json
import logging

import numpy as np
import pytest

from fedagg_edge.fleet.logs import FIELDS, REFUSED, Form, Log, redirect_logging

SECRETS = [
    "fa1-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6",  # a token
    "-----BEGIN PRIVATE KEY-----",
    "c0ffee" * 8,
    b"planted embedding",
    np.float32([0.98765, 0.6789]),
    np.float32(0.98765),
    [0.98765],
    {"logits": 0.98765},
    (0.98765,),
    None,
]


@pytest.mark.parametrize("form", list(Form))
def test_planted_values_never_come_out_of_any_field(form: Form) -> None:
    stream = io.StringIO()
    log = Log(stream, form)
    for name in FIELDS:
        for secret in SECRETS:
            log.info("planted", **{name: secret})
    text = stream.getvalue()
    assert text.count(REFUSED) == len(FIELDS) * len(SECRETS)
    assert not any(word in text for word in ("Zm9v", "PRIVATE", "c0ffee", "embedding", "98765", "logits"))


def test_fields_and_events_that_do_not_exist_are_our_error() -> None:
    log = Log(io.StringIO())
    with pytest.raises(ValueError, match="not in FIELDS"):
        log.info("started", message="anything")
    with pytest.raises(ValueError, match="event name"):
        log.info("got token abc=1")


def test_lines() -> None:
    stream = io.StringIO()
    Log(stream, Form.JSON, clock=lambda: 0.5, node="edge-1").warning("child_silent", pid=3, seconds=1.5, fresh=True)
    assert json.loads(stream.getvalue()) == {
        "time": "1970-01-01T00:00:00.500Z",
        "level": "warning",
        "event": "child_silent",
        "node": "edge-1",
        "pid": 3,
        "seconds": 1.5,
        "fresh": True,
    }
    stream = io.StringIO()
    Log(stream, clock=lambda: 0.5).info("parent_changed", reason="no contact", fresh=False)
    assert stream.getvalue() == '1970-01-01T00:00:00.500Z info    parent_changed reason="no contact" fresh=false\n'


def test_errors_and_libraries_are_logged_without_their_text() -> None:
    stream = io.StringIO()
    log = Log(stream)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        redirect_logging(log)
        try:
            raise OSError(28, "planted secret")
        except OSError as error:
            log.failure("write_failed", error)
            logging.getLogger("some.library").exception("planted secret %s", "planted")
        log.failure("ended", ModuleNotFoundError("planted", name="some.module"))
    finally:
        root.handlers[:], root.level = before
    text = stream.getvalue()
    assert "planted" not in text
    assert "error=OSError where=fleet/test_logs.py:" in text
    assert "errno=28" in text
    assert "error=ModuleNotFoundError where=unknown:0 module=some.module" in text
    assert "library_message logger=some.library" in text


def test_a_stream_that_is_closed_is_ignored() -> None:
    stream = io.StringIO()
    stream.close()
    Log(stream).info("started")
