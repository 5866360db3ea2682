import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedagg_edge.errors import RemoteProtocolError
from fedagg_edge.wire.chunks import digest_of, payload_of, split
from fedagg_edge.wire.limits import Limits
from fedagg_edge.wire.messages import Artefact, Entry
from fedagg_edge.wire.refusal import Refusal
from fedagg_edge.wire.transfer import ArtefactDownload, Download

SMALL = Limits(chunk=256, inline=64, entry_bytes=65_536, staged=65_536)


@given(st.binary(min_size=65, max_size=2000))
def test_an_entry_comes_chunk_by_chunk(data):
    payload = payload_of(data, SMALL)
    download = Download("/v1/entries/3", payload, Entry(3, 1, -1, 1, bytes(32), payload), SMALL, 2000)
    parts = split(data, 256)
    for i, part in enumerate(parts):
        assert download.path == f"/v1/entries/3/{i}"
        with pytest.raises(Refusal, match="another digest"):
            download.add(part + b"x")
        assert download.add(part) == (i == len(parts) - 1)
    assert download.whole() == data


def test_a_long_one_is_refused_before_it_is_fetched():
    payload = payload_of(bytes(2000), SMALL)
    with pytest.raises(Refusal, match="expected at most 1999"):
        Download("x", payload, Entry(3, 1, -1, 1, bytes(32), payload), SMALL, 1999)


@given(st.binary(min_size=1, max_size=2000))
def test_an_artefact_comes_in_parts(data):
    download = ArtefactDownload(Artefact("a", digest_of(data), len(data), b"", ""), 256, 2000)
    for part in split(data, 256):
        with pytest.raises(Refusal, match="expected"):
            download.add(part + b"x")
        done = download.add(part)
    assert done
    assert download.whole() == data


def test_an_artefact_that_is_not_what_its_digest_names():
    download = ArtefactDownload(Artefact("a", bytes(32), 3, b"", ""), 256, 2000)
    assert download.add(b"abc")
    with pytest.raises(RemoteProtocolError, match="another digest"):
        download.whole()
    for size in (0, 2001):
        with pytest.raises(Refusal, match=f"got {size} bytes"):
            ArtefactDownload(Artefact("a", bytes(32), size, b"", ""), 256, 2000)
