import pytest

from fedagg_edge.errors import ArtefactError
from fedagg_edge.fleet.shelf import DiskShelf


def test_what_was_put_is_listed_and_read_in_parts(tmp_path):
    shelf = DiskShelf(tmp_path / "shelf")
    assert shelf.listing() == ()
    artefact = shelf.put("autoencoder", b"0123456789", b"signature", "application/x")
    assert DiskShelf(tmp_path / "shelf").listing() == (artefact,)
    assert shelf.find("autoencoder") == artefact
    assert shelf.content(artefact) == b"0123456789"
    assert [shelf.read(artefact.digest, at, 4) for at in (0, 4, 8, 12)] == [b"0123", b"4567", b"89", None]


def test_a_newer_one_takes_the_name_and_the_older_can_still_be_fetched_by_nobody(tmp_path):
    shelf = DiskShelf(tmp_path)
    old = shelf.put("model", b"old", b"", "m")
    new = shelf.put("model", b"new", b"", "m")
    assert shelf.listing() == (new,)
    assert shelf.read(old.digest, 0, 3) is None


def test_a_digest_is_no_path(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    assert DiskShelf(tmp_path).read(b"../secret".ljust(32), 0, 6) is None


def test_damage_is_told(tmp_path):
    shelf = DiskShelf(tmp_path)
    artefact = shelf.put("model", b"whole", b"", "m")
    (tmp_path / artefact.digest.hex()).write_bytes(b"torn")
    with pytest.raises(ArtefactError, match="artefact 'model': damaged on disk"):
        shelf.content(artefact)
    (tmp_path / "index.msgpack").write_bytes(b"\xc1")
    with pytest.raises(ArtefactError, match="damaged"):
        shelf.listing()
