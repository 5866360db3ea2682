import errno
import os

import pytest

from fedagg_edge import files


def test_a_file_is_replaced_whole_and_nothing_stays_beside(tmp_path):
    (tmp_path / "f.tmp").write_bytes(b"left by a killed writer, and longer")
    files.write_atomic(tmp_path / "f", b"one")
    files.write_atomic(tmp_path / "f", b"two")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"two"


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    files.write_atomic(tmp_path / "f", b"one")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        files.write_atomic(tmp_path / "f", b"two")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"one"


def test_the_content_is_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    seen = []
    kept = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(sorted(p.name for p in tmp_path.iterdir())), kept(fd)))
    files.write_atomic(tmp_path / "f", b"one")
    assert seen == [["f.tmp"], ["f"]]
