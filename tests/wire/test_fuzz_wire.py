"""The fuzz target itself: it reaches everything, and a fixed number of changed seeds finds nothing; `make fuzz-wire`
looks for longer, guided by coverage."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_http
import fuzz_wire

from fedagg_edge.fleet.http1 import Incoming
from fedagg_edge.fleet.https import HttpsLine
from fedagg_edge.wire import tensors


def test_changed_seeds_are_refused_or_read_and_never_break_anything(tmp_path):
    assert fuzz_wire.fuzz_blindly(4000, seed=1, folder=tmp_path) == len(fuzz_wire.KINDS) + 9


def test_every_seed_of_a_message_is_read(tmp_path):
    ends = fuzz_wire.Ends(tmp_path)
    every = fuzz_wire.targets(ends)
    for data in fuzz_wire.seeds():
        if data[0] < len(fuzz_wire.KINDS) + 5:
            every[data[0]](data[1:])  # does not raise
    ends.close()


def test_a_codec_that_reads_what_is_not_there_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "_check_length", lambda *_: None)
    with pytest.raises((ValueError, AssertionError)):
        fuzz_wire.fuzz_blindly(4000, seed=1, folder=tmp_path)


def loses_a_byte(self, data):
    self._parts.append(data[1:])


def forgets_a_cut_target(self, url):
    self._url = url


def reads_past_its_buffer(self, most):
    return self._socket.recv(most)


@pytest.mark.parametrize(
    ("part", "broken", "end"),
    [
        (f"{Incoming.__module__}.Incoming.feed", loses_a_byte, 0),
        (f"{Incoming.__module__}.HttpConnection.on_url", forgets_a_cut_target, 0),
        (f"{HttpsLine.__module__}.HttpsLine.read", reads_past_its_buffer, 1),
    ],
)
def test_an_end_of_http_that_misreads_is_found(monkeypatch, part, broken, end):
    check, inputs = (fuzz_http.server, fuzz_http.client)[end], fuzz_http.SEEDS[end]
    for data in inputs:
        check(data)  # finds nothing in the one that is whole
    monkeypatch.setattr(part, broken)
    with pytest.raises(AssertionError):
        list(map(check, inputs))
