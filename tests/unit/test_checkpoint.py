import json
import os

import numpy as np
import pytest

from fedagg_edge import checkpoint
from fedagg_edge.checkpoint import Checkpoint
from fedagg_edge.errors import CheckpointError


def make(number):
    return Checkpoint(number, {"a/weights": np.full(100, number, np.float32)}, {"steps": number, "name": "é"})


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        checkpoint.save(tmp_path / "c", make(number))
    return tmp_path / "c"


def test_the_last_two_are_kept_and_read_back(folder):
    assert checkpoint.list_rounds(folder) == [2, 3]
    assert sorted(p.name for p in folder.iterdir()) == [
        "round-000002.json", "round-000002.safetensors", "round-000003.json", "round-000003.safetensors",
    ]  # fmt: skip
    last = checkpoint.load(folder)
    assert (last.round, last.meta) == (3, {"steps": 3, "name": "é"})
    np.testing.assert_array_equal(last.tensors["a/weights"], np.full(100, 3, np.float32))
    assert checkpoint.load(folder, 2).meta["steps"] == 2


def test_the_millionth_is_found_too(tmp_path):
    """A device that trains every few seconds gets there in months."""
    for number in (999_998, 999_999, 1_000_000):
        checkpoint.save(tmp_path, make(number))
    assert checkpoint.list_rounds(tmp_path) == [999_999, 1_000_000]
    assert checkpoint.load(tmp_path).meta["steps"] == 1_000_000


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_any_flipped_bit_is_seen_and_the_previous_one_offered(folder, suffix):
    path = folder / f"round-000003{suffix}"
    whole = path.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(folder)
        assert "round 2 is whole: use --resume 2" in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("length", [0, 7, 100])
def test_a_truncated_file_is_refused(folder, suffix, length):
    os.truncate(folder / f"round-000003{suffix}", length)
    with pytest.raises(CheckpointError, match="round 2 is whole"):
        checkpoint.load(folder)


def test_a_checkpoint_whose_tensors_are_gone(folder):
    (folder / "round-000003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        checkpoint.load(folder)
    (folder / "round-000002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no other one is whole; start anew"):
        checkpoint.load(folder)


def test_half_a_save_is_no_checkpoint(folder):
    (folder / "round-000004.safetensors").write_bytes(b"half")
    (folder / "round-000005.json.tmp").write_bytes(b"{")
    assert checkpoint.load(folder).round == 3


def test_a_newer_schema_and_a_wanted_round(folder):
    path = folder / "round-000003.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(CheckpointError, match="has schema 2, this version reads 1"):
        checkpoint.load(folder)
    with pytest.raises(CheckpointError, match="no checkpoint of round 9; there are 2, 3"):
        checkpoint.load(folder, 9)
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        checkpoint.load(folder / "none")


def test_what_killed_writers_left_of_other_rounds_goes_with_the_next_save(folder):
    """Each is as large as the model, and a node that moved on never writes those numbers again."""
    left = [
        "round-000001.safetensors",
        "round-000009.safetensors.tmp",
        "round-000009.safetensors",
        "round-000009.json.tmp",
    ]
    for name in left:
        (folder / name).write_bytes(b"left")
    (folder / "notes.txt").write_bytes(b"somebody's")
    checkpoint.save(folder, make(4))
    assert not {p.name for p in folder.iterdir()} & set(left)
    assert (folder / "notes.txt").exists()
    assert checkpoint.list_rounds(folder) == [3, 4]
