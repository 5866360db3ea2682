import pytest
from pairs import SMALL

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire.chunks import digest_of, payload_of, split
from fedagg_edge.wire.messages import Artefact, Entry
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.transfer import ArtefactDownload, Download

DATA = bytes(i % 251 for i in range(1000))


def download(most=10_000):
    payload = payload_of(DATA, SMALL)
    return Download("/v1/entries/3", payload, Entry(3, 1, -1, 1, bytes(32), payload), most, SMALL)


def test_chunks_are_asked_for_in_turn_and_joined():
    under_way, parts = download(), split(DATA, SMALL.chunk)
    for i, part in enumerate(parts):
        assert under_way.path == f"/v1/entries/3/{i}"
        assert under_way.add(part) == (i == len(parts) - 1)
    assert under_way.whole() == DATA


def test_a_chunk_that_is_not_the_named_one():
    with pytest.raises(Refusal, match="of another digest"):
        download().add(b"x" * 256)


def test_what_is_too_long_is_not_begun():
    with pytest.raises(RemoteProtocolError, match="expected at most 999"):
        download(most=999)


def artefact(data=DATA, size=None):
    named = Artefact("model", digest_of(data), len(data) if size is None else size, b"", "application/x")
    return ArtefactDownload(named, 256, 10_000)


def test_an_artefact_is_checked_as_a_whole():
    under_way = artefact()
    assert [under_way.add(part) for part in split(DATA, 256)] == [False, False, False, True]
    assert under_way.whole() == DATA
    forged = artefact()
    for part in split(bytes(1000), 256):
        forged.add(part)
    with pytest.raises(Refusal, match="artefact 'model': got 1000 bytes of another digest"):
        forged.whole()


def test_an_artefacts_parts_have_their_length():
    with pytest.raises(Refusal, match="got 5 bytes, expected 256"):
        artefact().add(b"12345")
    with pytest.raises(Refusal, match="artefact: got 20000 bytes, expected 1 to 10000"):
        artefact(size=20_000)
