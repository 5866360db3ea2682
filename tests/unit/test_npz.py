import contextlib
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedagg_edge import npz
from fedagg_edge.errors import DataError
from fedagg_edge.npz import channel_first, read_npz


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, train_x=np.arange(24).reshape(4, 2, 3), train_y=np.arange(4))
    return path


def test_reads_the_named_arrays(file: Path) -> None:
    arrays = read_npz(file, {"x": "train_x", "y": "train_y"})
    np.testing.assert_array_equal(arrays["x"], np.arange(24).reshape(4, 2, 3))
    np.testing.assert_array_equal(arrays["y"], np.arange(4))


def test_a_missing_key_names_argument_and_nearest(file: Path) -> None:
    with pytest.raises(DataError, match=r"no array 'train_z' \(argument 'x'\) \(did you mean 'train_[xy]'"):
        read_npz(file, {"x": "train_z"})


def test_a_missing_file_and_a_file_that_is_no_zip(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_npz(tmp_path / "nothing.npz", {})
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"not an \.npz file"):
        read_npz(tmp_path / "plain.npy", {})


def test_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="'x' holds Python objects, which are never unpickled"):
        read_npz(tmp_path / "o.npz", {"x": "x"})


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("x", b"hello")
    with pytest.raises(DataError, match="'x' is no array"):
        read_npz(tmp_path / "t.npz", {"x": "x"})


def test_a_file_that_unpacks_to_too_much_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="expected at most 100; store fewer samples"):
        read_npz(file, {"x": "train_x"})


def test_a_header_that_lies_about_its_size_is_an_error(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,)}\n"
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"12345678")
    with pytest.raises(DataError, match="corrupt or not readable"):
        read_npz(tmp_path / "lie.npz", {"x": "x"})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), cut=st.booleans(), bit=st.integers(0, 7))
def test_damage_is_a_data_error_or_harmless(file: Path, at: float, cut: bool, bit: int) -> None:
    whole = file.read_bytes()
    i = int(at * len(whole))
    damaged = whole[:i] if cut else whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :]
    other = file.with_name("damaged.npz")
    other.write_bytes(damaged)
    with contextlib.suppress(DataError):  # or it hit a bit that nobody reads, say a time stamp
        arrays = read_npz(other, {"x": "train_x", "y": "train_y"})
        np.testing.assert_array_equal(arrays["x"], np.arange(24).reshape(4, 2, 3))


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((5, 32, 24, 3), "auto", (5, 3, 32, 24)),
        ((5, 1, 8, 8), "auto", (5, 1, 8, 8)),
        ((5, 128, 6), "auto", (5, 6, 128)),
        ((5, 6, 128), "auto", (5, 6, 128)),
        ((5, 28, 28), "NHW", (5, 1, 28, 28)),
        ((5, 30), "NF", (5, 30)),
        ((5, 30), "auto", (5, 30)),
        ((5, 8, 9, 4), "NHWC", (5, 4, 8, 9)),
        ((5, 6, 4), "NCL", (5, 6, 4)),
    ],
)
def test_layouts(shape: tuple[int, ...], layout: str, expected: tuple[int, ...]) -> None:
    x = channel_first(np.zeros(shape, np.uint8), layout, "x")
    assert x.shape == expected
    assert x.dtype == np.uint8
    assert x.flags.c_contiguous


def test_nhwc_moves_values_and_not_only_the_shape() -> None:
    x = np.random.default_rng(0).random((2, 4, 5, 3))
    np.testing.assert_array_equal(channel_first(x, "auto", "x")[1, 2], x[1, :, :, 2].astype(np.float32))


@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.float64, np.uint32])
def test_other_numbers_become_float32(dtype: type) -> None:
    assert channel_first(np.ones((2, 3, 9), dtype), "NCL", "x").dtype == np.float32


@pytest.mark.parametrize(
    ("x", "layout", "message"),
    [
        (np.zeros((2, 3, 8, 3)), "auto", "does not tell its layout; give layout = one of NCHW, NHWC"),
        (np.zeros((2, 8, 8, 8)), "auto", "does not tell its layout"),
        (np.zeros((2, 8, 8)), "auto", "does not tell its layout"),
        (np.zeros(8), "auto", r"got shape \(8,\), expected images"),
        (np.zeros((2, 8, 3)), "NF", "expected 2 dimensions for layout 'NF'"),
        (np.zeros((2, 8, 3)), "NHWC", "expected 4 dimensions for layout 'NHWC'"),
        (np.zeros((2, 8, 3)), "NLX", r"got layout 'NLX' \(did you mean 'NLC'\?\)"),
        (np.zeros((2, 8, 3), bool), "NLC", "got dtype bool, expected uint8"),
        (np.zeros((2, 8, 3), complex), "NLC", "got dtype complex128"),
    ],
)
def test_wrong_layouts_and_dtypes(x: np.ndarray, layout: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        channel_first(x, layout, "x")
