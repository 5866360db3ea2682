import os

import numpy as np
import pytest

from fedagg_edge.config import DataConfig
from fedagg_edge.errors import ConfigError, DataError
from fedagg_edge.fleet.source import FolderSource, FunctionSource, open_source


def taken(source, seen=frozenset()):
    parcels, errors = [], []
    for item in source.poll(lambda key: key in seen):
        (errors if isinstance(item, DataError) else parcels).append(item)
    return parcels, errors


def test_a_folder_that_grows_gives_each_file_once(tmp_path):
    source = FolderSource(tmp_path, sample_ndim=2)
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2, 2)), y=np.array([0, 1, 1]))
    parcels, errors = taken(source)
    assert ([(p.key, p.y_N.tolist()) for p in parcels], errors) == ([("a.npz", [0, 1, 1])], [])
    np.savez(tmp_path / "b.npz", x=np.zeros((1, 2, 2)), y=np.array([2], np.uint8))
    assert [p.key for p in taken(source, {"a.npz"})[0]] == ["b.npz"]


def test_labels_from_the_folders_name_by_list_or_by_number(tmp_path):
    for name in ("walk", "3"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", np.zeros((2, 2)))
    named, errors = taken(FolderSource(tmp_path, sample_ndim=2, classes=("run", "walk")))
    assert [(p.key, p.x_N.shape, p.y_N.tolist()) for p in named] == [("walk/x.npy", (1, 2, 2), [1])]
    assert "its folder is no class" in str(errors[0])
    numbered, _ = taken(FolderSource(tmp_path, sample_ndim=2))
    assert [p.y_N.tolist() for p in numbered] == [[3]]


def test_labels_from_a_callback_and_several_samples_in_a_file(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(8.0).reshape(2, 2, 2))
    source = FolderSource(tmp_path, sample_ndim=2, label=lambda key, x_N: x_N[:, 0, 0].astype(int) % 3)
    assert taken(source)[0][0].y_N.tolist() == [0, 1]


def test_what_cannot_be_read_is_told_and_the_rest_comes(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no zip")
    (tmp_path / "half.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "names.npz", a=np.zeros(2))
    np.savez(tmp_path / "labels.npz", x=np.zeros((2, 2, 2)), y=np.zeros(2))
    np.savez(tmp_path / "good.npz", x=np.zeros((1, 2, 2)), y=np.array([0]))
    for name in (".hidden.npz", "later.npz.tmp"):
        (tmp_path / name).write_bytes(b"not looked at")
    parcels, errors = taken(FolderSource(tmp_path, sample_ndim=2, label=lambda key, x_N: 0))
    assert [p.key for p in parcels] == ["good.npz"]
    assert len(errors) == 5
    assert any("got arrays a, expected x and y" in str(e) for e in errors)
    assert any("got 2 samples and float64 (2,) labels" in str(e) for e in errors)


def damaged(path, save, at, byte):
    """A file of numpy's with one byte changed."""
    save(path)
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(bytes(content))


def test_a_damaged_file_or_name_does_not_end_the_device(tmp_path):
    x_N, y_N = np.zeros((20, 2, 2)), np.zeros(20, int)
    # zlib.error and tokenize.TokenError
    damaged(tmp_path / "deflated.npz", lambda path: np.savez_compressed(path, x=x_N, y=y_N), 60, 0xFF)
    damaged(tmp_path / "header.npy", lambda path: np.save(path, x_N), 10, ord("("))
    np.savez(tmp_path / "later.npz", x=x_N, y=y_N)
    np.savez(tmp_path / "named.npz", x=x_N, y=y_N)
    (tmp_path / "named.npz").rename(os.fsdecode(os.fsencode(tmp_path) + b"/name-\xff.npz"))

    def seen(key):
        key.encode()  # as the ledger does, which keeps text
        return False

    found = list(FolderSource(tmp_path, sample_ndim=2, label=lambda key, x_N: 0).poll(seen))
    assert [p.key for p in found if not isinstance(p, DataError)] == ["later.npz"]
    errors = sorted(str(e) for e in found if isinstance(e, DataError))
    assert len(errors) == 3
    assert sum("cannot be read" in e for e in errors) == 2
    assert sum("is not UTF-8; rename the file" in e for e in errors) == 1


def test_a_functions_bad_parcel_is_told_and_the_rest_comes():
    def samples():
        yield "short", np.zeros((2, 2)), np.array([1])
        yield "ragged", [[1.0], [1.0, 2.0]], np.array([1, 1])
        yield "good", np.zeros((1, 2)), np.array([1])

    parcels, errors = taken(FunctionSource(samples, {}, "data.source"))
    assert [p.key for p in parcels] == ["good"]
    assert ["'short'" in str(errors[0]), "'ragged'" in str(errors[1])] == [True, True]


def test_a_folder_that_is_not_there(tmp_path):
    assert "no such folder" in str(taken(FolderSource(tmp_path / "no", sample_ndim=2))[1][0])


def test_a_function_gives_what_is_not_known_yet():
    def samples(count):
        for i in range(count):
            yield i, np.zeros((1, 2)), np.array([i])

    parcels, _ = taken(FunctionSource(samples, {"count": 3}, "data.source"), {"1"})
    assert [p.key for p in parcels] == ["0", "2"]
    with pytest.raises(DataError, match=r"got int, expected \(key, x, y\)"):
        taken(FunctionSource(lambda: [3], {}, "data.source"))


def test_the_repr_tells_no_content(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.full((1, 2), 123.456), y=np.array([0]))
    assert repr(taken(FolderSource(tmp_path, sample_ndim=1))[0][0]) == "Parcel(key='a.npz', count=1)"


def test_opening_by_configuration(tmp_path):
    (tmp_path / "mine.py").write_text("def samples(n):\n    return []\ndef label(key, x):\n    return 0\n")
    assert isinstance(
        open_source(DataConfig(source="mine:samples", options={"n": 1}), 2, str(tmp_path)), FunctionSource
    )
    options = {"path": "x", "label": "mine:label"}
    assert isinstance(open_source(DataConfig(source="folder", options=options), 2, str(tmp_path)), FolderSource)
    for config, message in (
        (DataConfig(source="digits"), "expected 'folder' or 'module:function'"),
        (DataConfig(source="folder"), "data.options.path: this key is missing"),
        (DataConfig(source="folder", options={"pat": "x"}), "did you mean 'path'"),
        (DataConfig(source="folder", options={"path": 5}), "got 5, expected the name of a folder"),
        (DataConfig(source="folder", options={"path": "x", "classes": "cat"}), "got 'cat', expected a list"),
        (DataConfig(source="folder", options={"path": "x", "label": 5}), "got 5, expected 'module:function'"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_source(config, 2, str(tmp_path))


def test_a_label_function_or_a_source_that_raises_costs_what_it_was_asked_for_and_no_more(tmp_path):
    def label(key, x_N):
        if key == "a.npy":
            raise ZeroDivisionError(f"the sample {x_N}")
        return 1

    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.full(3, 7.5))
    refused, taken = FolderSource(tmp_path, sample_ndim=1, label=label).poll(lambda key: False)
    assert isinstance(refused, DataError)
    assert str(refused).endswith("data.options.label raised ZeroDivisionError")
    assert "7.5" not in str(refused)
    assert taken.key == "b.npy"

    def broken():
        yield "first", np.zeros((1, 3)), np.zeros(1, np.int64)
        raise RuntimeError("the sensor says 7.5")

    def at_once():
        raise OSError("no sensor")

    (error,) = FunctionSource(at_once, {}, "data.source 'm:f'").poll(lambda key: False)
    assert str(error) == "data.source 'm:f': raised OSError"
    first, error = FunctionSource(broken, {}, "data.source 'm:f'").poll(lambda key: False)
    assert first.key == "first"
    assert str(error) == "data.source 'm:f': raised RuntimeError"
