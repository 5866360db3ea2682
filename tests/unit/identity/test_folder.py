import os

import pytest
from identity.worlds import mode

from fedagg_edge.errors import IdentityError
from fedagg_edge.identity import folder


def test_a_private_file_is_its_owners_alone_whatever_the_umask(tmp_path):
    for umask in (0o000, 0o077, 0o777):
        before = os.umask(umask)
        try:
            folder.write_private(tmp_path / "k", b"1")
        finally:
            os.umask(before)
        assert mode(tmp_path / "k") == 0o600
    assert folder.read_private(tmp_path / "k") == b"1"
    assert os.listdir(tmp_path) == ["k"]


def test_what_a_killed_writer_left_is_replaced(tmp_path):
    (tmp_path / "k.tmp").write_bytes(b"half")
    (tmp_path / "k.tmp").chmod(0o666)
    folder.write_private(tmp_path / "k", b"2")
    assert mode(tmp_path / "k") == 0o600


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    folder.write_private(tmp_path / "k", b"old")

    def full(descriptor):
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        folder.write_private(tmp_path / "k", b"new")
    assert (tmp_path / "k").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["k"]


@pytest.mark.parametrize("bits", [0o604, 0o606, 0o601])
def test_a_key_for_everybody_is_refused(tmp_path, bits):
    folder.write_private(tmp_path / "k", b"1")
    (tmp_path / "k").chmod(bits)
    with pytest.raises(IdentityError, match="expected 0600"):
        folder.read_private(tmp_path / "k")


def test_reading_is_limited(tmp_path):
    folder.write(tmp_path / "f", b"x" * 11)
    with pytest.raises(IdentityError, match="more than 10 bytes"):
        folder.read(tmp_path / "f", limit=10)
    with pytest.raises(IdentityError, match="not there"):
        folder.read(tmp_path / "g")
    with pytest.raises(IdentityError, match="not there"):
        folder.check_private(tmp_path / "g")
    with pytest.raises(IdentityError, match="directory"):
        folder.read(tmp_path)


def test_folders_are_private(tmp_path):
    folder.make_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700
    folder.make_folder(tmp_path / "a" / "b")


def test_who_may_sign(world, tmp_path):
    assert [folder.may_sign(p) for p in (world.root, world.cloud, world.edge, world.device)] == [True] * 3 + [False]
    assert not folder.may_sign(tmp_path / "nowhere")
