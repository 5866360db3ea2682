import errno
import hashlib

import pytest

from fedagg_edge.errors import ArtefactError, StorageFull
from fedagg_edge.fleet.shelf import DiskShelf, Pinned


def test_what_is_put_is_found_and_read_in_parts(tmp_path):
    shelf = DiskShelf(tmp_path / "shelf")
    assert shelf.listing() == ()
    assert shelf.find("model") is None
    artefact = shelf.put("model", b"0123456789", b"signature", "x")
    assert DiskShelf(tmp_path / "shelf").find("model") == artefact
    assert shelf.content(artefact) == b"0123456789"
    assert [shelf.read(artefact.digest, at, 4) for at in (0, 4, 8, 12)] == [b"0123", b"4567", b"89", None]
    assert shelf.read(bytes(32), 0, 4) is None


def test_a_newer_one_takes_the_name(tmp_path):
    shelf = DiskShelf(tmp_path)
    old, other = shelf.put("model", b"old", b"", "x"), shelf.put("codec", b"codec", b"", "x")
    new = shelf.put("model", b"new", b"", "x")
    assert set(shelf.listing()) == {new, other}
    assert shelf.content(old) == b"old"  # for those who have begun


def test_damage_is_told(tmp_path):
    shelf = DiskShelf(tmp_path)
    artefact = shelf.put("model", b"content", b"", "x")
    (tmp_path / hashlib.sha256(b"content").hexdigest()).write_bytes(b"Content")
    with pytest.raises(ArtefactError, match="damaged on disk"):
        shelf.content(artefact)
    (tmp_path / artefact.digest.hex()).unlink()
    with pytest.raises(ArtefactError, match="No such file"):
        shelf.content(artefact)
    assert shelf.read(artefact.digest, 0, 4) is None
    content = (tmp_path / "index.msgpack").read_bytes()
    for damaged in (b"\xc1", content.replace(artefact.name.encode(), b"\xff" * len(artefact.name))):
        (tmp_path / "index.msgpack").write_bytes(damaged)
        with pytest.raises(ArtefactError, match="damaged"):
            shelf.listing()


def test_contents_that_were_replaced_twice_are_removed(tmp_path):
    shelf = DiskShelf(tmp_path)
    first, second = (shelf.put("model", content, b"", "x") for content in (b"first", b"second"))
    other = shelf.put("autoencoder", b"codec", b"", "x")
    third = shelf.put("model", b"third", b"", "x")
    assert shelf.read(first.digest, 0, 9) is None
    assert shelf.read(second.digest, 0, 9) == b"second"  # for those who have begun
    assert (shelf.read(third.digest, 0, 9), shelf.read(other.digest, 0, 9)) == (b"third", b"codec")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["index.msgpack", *(a.digest.hex() for a in (second, third, other))]
    )


def test_a_new_signature_keeps_the_content(tmp_path):
    shelf = DiskShelf(tmp_path)
    old = shelf.put("model", b"same", b"old", "x")
    new = shelf.put("model", b"same", b"new", "x")
    assert (shelf.listing(), new.digest, shelf.content(new)) == ((new,), old.digest, b"same")


def test_children_see_what_they_must_have_and_may_read_the_rest(tmp_path):
    shelf = DiskShelf(tmp_path)
    codec, model = shelf.put("autoencoder", b"codec", b"", "x"), shelf.put("model", b"model", b"", "x")
    pinned = Pinned(shelf)
    assert pinned.listing() == (codec,)
    assert pinned.read(model.digest, 0, 9) == b"model"


def test_a_full_disk_is_told_as_such_and_what_was_there_stays(tmp_path, monkeypatch):
    shelf = DiskShelf(tmp_path)
    before = shelf.put("model", b"old", b"s", "m")

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fedagg_edge.fleet.shelf.write_atomic", full)
    with pytest.raises(StorageFull, match="no room for 'model', 3 bytes; free space"):
        shelf.put("model", b"new", b"s", "m")
    assert shelf.listing() == (before,)
    assert shelf.content(before) == b"old"


def test_what_a_killed_writer_left_goes_with_the_next_artefact(tmp_path):
    """A version that was overtaken is never written again: its half would lie there for ever."""
    (tmp_path / f"{'0' * 64}.tmp").write_bytes(b"half")
    shelf = DiskShelf(tmp_path)
    made = shelf.put("model", b"new", b"s", "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([made.digest.hex(), "index.msgpack"])
